"""Rows of ``noetl.secret_audit``: who asked for which secret, and what came of it (spec 40, section 13)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.database import Database

_COLUMNS = (
    "audit_id, occurred_at, credential, operation, outcome, worker_id, execution_id, parent_execution_id,"
    " server_region, broker_region, kek_version, notes"
)


class AuditRow(msgspec.Struct, kw_only=True):
    """One attempt; members in the order of the API. No row ever holds a value."""

    audit_id: int
    occurred_at: datetime
    credential: str
    operation: str
    outcome: str
    worker_id: str | None = None
    execution_id: int | None = None
    parent_execution_id: int | None = None
    server_region: str | None = None
    broker_region: str | None = None
    kek_version: str | None = None
    notes: str | None = None


class SecretAuditStore:
    """All statements on ``noetl.secret_audit``; every method raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.secret_audit"
        self._insert = (
            f"INSERT INTO {table} ({_COLUMNS}) SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[],"
            " $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[],"
            " $12::text[]) ON CONFLICT (audit_id) DO NOTHING"
        )
        self._find = (
            f"SELECT {_COLUMNS} FROM {table} WHERE ($1::text IS NULL OR credential = $1)"
            " AND ($2::bigint IS NULL OR execution_id = $2) AND ($3::timestamptz IS NULL OR occurred_at >= $3)"
            " AND ($4::timestamptz IS NULL OR occurred_at < $4) ORDER BY occurred_at DESC, audit_id DESC LIMIT $5"
        )

    async def insert(self, rows: Sequence[AuditRow]) -> None:
        """Add rows; one that is there already is not added again."""
        columns = [[getattr(row, name) for row in rows] for name in AuditRow.__struct_fields__]
        await self._database.execute(self._insert, *columns, retry=True)

    async def find(
        self,
        credential: str | None,
        execution_id: int | None,
        from_: datetime | None,
        to: datetime | None,
        limit: int,
    ) -> Sequence[AuditRow]:
        """The newest rows of a credential, an execution and the time from ``from_`` until before ``to``."""
        records = await self._database.fetch(self._find, credential, execution_id, from_, to, limit)
        return [AuditRow(**record) for record in records]
