"""Inserting events that other processes have made into ``noetl.event``, past the ledger (spec 20, section 10.3)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.store.catalog_copies import CatalogCopies
from noetl.store.shards import on_each

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from noetl.store.connection import Record
    from noetl.store.database import Database
    from noetl.store.shards import Databases

_COLUMNS: Final = {
    "execution_id": "bigint",
    "event_id": "bigint",
    "catalog_id": "bigint",
    "parent_event_id": "bigint",
    "parent_execution_id": "bigint",
    "created_at": "timestamp",
    "event_type": "text",
    "node_id": "text",
    "node_name": "text",
    "node_type": "text",
    "status": "text",
    "duration": "float8",
    "context": "text",
    "result": "text",
    "meta": "text",
    "error": "text",
    "stack_trace": "text",
    "worker_id": "text",
    "tenant_id": "text",
    "organization_id": "text",
}
_EXPRESSIONS: Final = {
    "created_at": "coalesce(created_at, now() AT TIME ZONE 'UTC')",
    "context": "context::jsonb",
    "result": "result::jsonb",
    "meta": "meta::jsonb",
}


class ProjectedEvent(msgspec.Struct, gc=False, kw_only=True):
    """One row; the members are the columns. JSON columns are texts, ``created_at`` is naive UTC (None: now)."""

    execution_id: int
    event_id: int
    catalog_id: int
    parent_event_id: int | None
    parent_execution_id: int | None
    created_at: datetime | None
    event_type: str | None
    node_id: str | None
    node_name: str | None
    node_type: str | None
    status: str | None
    duration: float | None
    context: str | None
    result: str | None
    meta: str | None
    error: str | None
    stack_trace: str | None
    worker_id: str | None
    tenant_id: str
    organization_id: str


class ProjectionStore:
    """Statements of the projection; every method raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._copies = {shard: CatalogCopies(databases.cluster, shard) for shard in databases.shards}
        event, catalog = f"{databases.quoted_schema}.event", f"{databases.quoted_schema}.catalog"
        self._lock = "SELECT pg_advisory_xact_lock(held.id) FROM unnest($1::bigint[]) AS held(id)"
        names = ", ".join(_COLUMNS)
        arguments = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(_COLUMNS.values(), 1))
        values = ", ".join(_EXPRESSIONS.get(name, name) for name in _COLUMNS)
        self._insert = f"""
            INSERT INTO {event} ({names})
            SELECT {values} FROM unnest({arguments}) WITH ORDINALITY AS given({names}, place) ORDER BY place
            ON CONFLICT DO NOTHING"""
        self._catalog_ids = f"""
            SELECT asked.id, found.catalog_id FROM unnest($1::bigint[]) AS asked(id)
            CROSS JOIN LATERAL (SELECT catalog_id FROM {event} WHERE execution_id = asked.id LIMIT 1) AS found"""
        self._known = f"SELECT catalog_id FROM {catalog} WHERE catalog_id = ANY($1::bigint[])"

    async def insert(self, events: Sequence[ProjectedEvent]) -> int:
        """Insert those that are not there yet; their number. One with a known id is left as it is.

        All or none on each shard: when one shard fails after others have committed, the same call again inserts the
        rest. Positions in the log ascend in commit order for whoever holds the lock of the execution; the ledger relies
        on that when it looks for what others have appended.
        """
        parts: dict[Database, list[ProjectedEvent]] = {}
        for event in events:
            parts.setdefault(self._databases.of(event.execution_id), []).append(event)
        return sum(await on_each([*parts], lambda shard: self._insert_on(shard, parts[shard])))

    async def _insert_on(self, shard: Database, events: Sequence[ProjectedEvent]) -> int:
        await self._copies[shard].copy({event.catalog_id for event in events})
        columns = [[getattr(event, name) for event in events] for name in _COLUMNS]
        async with shard.transaction() as connection:
            await connection.execute(self._lock, sorted({event.execution_id for event in events}))
            tag = await connection.execute(self._insert, *columns)
        return int(tag.rpartition(" ")[2])

    async def catalog_ids(self, execution_ids: Collection[int]) -> dict[int, int]:
        """The catalog id of each execution that has an event."""
        parts: dict[Database, list[int]] = {}
        for execution_id in execution_ids:
            parts.setdefault(self._databases.of(execution_id), []).append(execution_id)

        async def look(shard: Database) -> list[Record]:
            return await shard.fetch(self._catalog_ids, parts[shard])

        return {record["id"]: record["catalog_id"] for part in await on_each([*parts], look) for record in part}

    async def known_catalog_ids(self, catalog_ids: Collection[int]) -> set[int]:
        """Those of the ids that are in the catalog."""
        records = await self._databases.cluster.fetch(self._known, [*catalog_ids])
        return {record["catalog_id"] for record in records}
