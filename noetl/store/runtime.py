"""Rows of ``noetl.runtime``: registered workers, brokers and servers, and their heartbeats (spec 20, section 11)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.connection import Record
    from noetl.store.database import Database

_COLUMNS = (
    "runtime_id, name, kind, uri, status, labels::text, capabilities::text, capacity, runtime::text, "
    "heartbeat, created_at, updated_at"
)


class Registration(msgspec.Struct, kw_only=True):
    """What a process says about itself; the JSON members are texts ready for ``jsonb`` columns."""

    name: str
    kind: str
    uri: str | None = None
    status: str = "active"
    labels: bytes | None = None
    capabilities: bytes | None = None
    capacity: int | None = None
    runtime: bytes | None = None


class RuntimeRow(msgspec.Struct):
    """One row; the JSON columns are texts, the moments carry their zone."""

    runtime_id: int
    name: str
    kind: str
    uri: str | None
    status: str
    labels: str | None
    capabilities: str | None
    capacity: int | None
    runtime: str | None
    heartbeat: datetime
    created_at: datetime
    updated_at: datetime


class WorkerHealth(NamedTuple):
    """What the registry knows of a worker: whether it is marked offline, and the seconds since its heartbeat."""

    offline: bool
    heartbeat_age_seconds: float


class RuntimeStore:
    """All statements on ``noetl.runtime``.

    Every method raises DatabaseUnavailableError or DatabaseError. The clock is the database's, so that processes on
    several machines agree on the age of a heartbeat.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.runtime"
        self._upsert = (
            f"INSERT INTO {table} AS known"
            " (runtime_id, name, kind, uri, status, labels, capabilities, capacity, runtime,"
            " heartbeat, created_at, updated_at, registered_at)"
            " VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9::text::jsonb, now(), now(), now(),"
            " CASE WHEN $10 THEN now() END)"
            " ON CONFLICT (kind, name) DO UPDATE SET uri = excluded.uri, status = excluded.status,"
            " labels = excluded.labels, capabilities = excluded.capabilities, capacity = excluded.capacity,"
            " runtime = excluded.runtime, heartbeat = now(), updated_at = now(),"
            " registered_at = coalesce(excluded.registered_at, known.registered_at)"
            f" RETURNING {_COLUMNS}"
        )
        self._heartbeat = (
            f"UPDATE {table} SET heartbeat = now(), updated_at = now(),"
            " status = CASE status WHEN 'offline' THEN 'ready' ELSE status END"
            " WHERE kind = $1 AND name = $2 RETURNING 1"
        )
        self._delete = f"DELETE FROM {table} WHERE kind = $1 AND name = $2 RETURNING 1"
        self._list = (
            f"SELECT {_COLUMNS} FROM {table} WHERE kind = $1"
            " AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR name LIKE '%' || $3 || '%')"
            " ORDER BY kind, name"
        )
        self._mark_offline = (
            f"UPDATE {table} SET status = 'offline', updated_at = now()"
            " WHERE status <> 'offline' AND heartbeat < now() - make_interval(secs => $1) RETURNING name"
        )
        self._set_status = f"UPDATE {table} SET status = $3, updated_at = now() WHERE kind = $1 AND name = $2"
        self._stale = (
            f"SELECT name FROM {table} WHERE kind = 'worker_pool'"
            " AND (status = 'offline' OR heartbeat < now() - make_interval(secs => $1)) ORDER BY name"
        )
        self._health = (
            "SELECT name, status = 'offline' AS offline,"
            " extract(epoch FROM now() - heartbeat)::double precision AS age"
            f" FROM {table} WHERE kind = 'worker_pool' AND name = ANY($1::text[])"
        )

    async def upsert(self, runtime_id: int, registration: Registration, *, begins: bool = True) -> RuntimeRow:
        """Register, or register again: every column is overwritten but ``runtime_id`` and ``created_at``.

        ``begins`` says that the runtime has just started: what it claimed before, in an earlier life under the same
        name, nobody works on.
        """
        row = await self._database.fetchrow(
            self._upsert,
            runtime_id,
            registration.name,
            registration.kind,
            registration.uri,
            registration.status,
            _text(registration.labels),
            _text(registration.capabilities),
            registration.capacity,
            _text(registration.runtime),
            begins,
        )
        if row is None:
            raise AssertionError("INSERT ... RETURNING gives a row")
        return _row(row)

    async def heartbeat(self, kind: str, name: str) -> bool:
        """Record a heartbeat; an offline row becomes ``ready`` again. False for an unknown runtime."""
        return await self._database.fetchval(self._heartbeat, kind, name) is not None

    async def delete(self, kind: str, name: str) -> bool:
        """Remove a runtime; False for an unknown one."""
        return await self._database.fetchval(self._delete, kind, name, retry=False) is not None

    async def list(self, kind: str, status: str | None, name: str | None) -> list[RuntimeRow]:
        """Runtimes of a kind by name; ``status`` exact, ``name`` a substring in which ``%`` and ``_`` are wildcards."""
        return [_row(row) for row in await self._database.fetch(self._list, kind, status, name)]

    async def mark_offline(self, older_than_seconds: float) -> Sequence[str]:
        """Mark every runtime without a heartbeat in that time offline; the names of those that were not before."""
        rows = await self._database.fetch(self._mark_offline, float(older_than_seconds))
        return [row["name"] for row in rows]

    async def set_status(self, kind: str, name: str, status: str) -> None:
        """Set the status of one runtime, as a server does with its own row when it stops."""
        await self._database.execute(self._set_status, kind, name, status)

    async def stale_workers(self, older_than_seconds: float) -> Sequence[str]:
        """Names of the workers that are offline or without a heartbeat in that time."""
        return [row["name"] for row in await self._database.fetch(self._stale, float(older_than_seconds))]

    async def worker_health(self, names: Sequence[str]) -> dict[str, WorkerHealth]:
        """What is known of these workers; names that are not registered are absent."""
        rows = await self._database.fetch(self._health, [*names])
        return {row["name"]: WorkerHealth(row["offline"], row["age"]) for row in rows}


def _row(row: Record) -> RuntimeRow:
    return RuntimeRow(**row)


def _text(json: bytes | None) -> str | None:
    return None if json is None else json.decode()
