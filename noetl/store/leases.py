"""Leases of periodic work: one holder in the cluster, another one within seconds of its death."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noetl.store.database import Database


class LeaseStore:
    """Statements on ``server_lease``. Time is the database's, so replicas need not agree on a clock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.server_lease"
        self._acquire = f"""
            INSERT INTO {table} AS lease (name, holder, expires_at) VALUES ($1, $2, now() + $3::interval)
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
            WHERE lease.holder = excluded.holder OR lease.expires_at < now()
            RETURNING true"""
        self._release = f"DELETE FROM {table} WHERE name = $1 AND holder = $2"

    async def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """Take or prolong a lease; False while somebody else holds it."""
        return bool(await self._database.fetchval(self._acquire, name, holder, timedelta(seconds=seconds)))

    async def release(self, name: str, holder: str) -> None:
        """Give a lease back, so that the next holder need not wait for its end."""
        await self._database.execute(self._release, name, holder, retry=True)
