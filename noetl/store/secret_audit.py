"""Rows of ``noetl.secret_audit``: who asked for which secret, and what came of it (spec 40, section 13)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.database import Database

DELETE_BATCH_ROWS: Final = 1000

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


class AuditFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which rows are wanted; None does not matter. ``from_`` is part of the time, ``to`` is not."""

    credential: str | None = None
    execution_id: int | None = None
    from_: datetime | None = None
    to: datetime | None = None
    worker_id: str | None = None
    operation: str | None = None
    outcome: str | None = None


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
            " AND ($4::timestamptz IS NULL OR occurred_at < $4) AND ($5::text IS NULL OR worker_id = $5)"
            " AND ($6::text IS NULL OR operation = $6) AND ($7::text IS NULL OR outcome = $7)"
            " ORDER BY occurred_at DESC, audit_id DESC LIMIT $8"
        )
        self._delete_oldest = (
            f"DELETE FROM {table} WHERE audit_id = ANY(ARRAY(SELECT audit_id FROM {table}"
            " WHERE occurred_at < now() - make_interval(days => $1) ORDER BY occurred_at LIMIT $2))"
        )

    async def insert(self, rows: Sequence[AuditRow]) -> None:
        """Add rows; one that is there already is not added again."""
        columns = [[getattr(row, name) for row in rows] for name in AuditRow.__struct_fields__]
        await self._database.execute(self._insert, *columns, retry=True)

    async def find(self, wanted: AuditFilter, limit: int) -> Sequence[AuditRow]:
        """The newest rows that are as ``wanted``."""
        records = await self._database.fetch(self._find, *msgspec.structs.astuple(wanted), limit)
        return [AuditRow(**record) for record in records]

    async def delete_older(self, days: int) -> int:
        """Delete rows older than ``days``, in batches, so that no statement holds many rows; how many."""
        deleted = 0
        while True:
            tag = await self._database.execute(self._delete_oldest, days, DELETE_BATCH_ROWS)
            count = int(tag.rpartition(" ")[2])
            deleted += count
            if count < DELETE_BATCH_ROWS:
                return deleted
