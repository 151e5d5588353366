"""The sealing keys that workers bring with their registration (spec 40, section 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noetl.store.database import Database


class WorkerKeyStore:
    """Reads ``runtime.worker_public_key`` of worker pools; raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._find = f"""
            SELECT runtime ->> 'worker_public_key' FROM {database.quoted_schema}.runtime
            WHERE kind = 'worker_pool' AND name = $1 AND jsonb_typeof(runtime -> 'worker_public_key') = 'string'"""

    async def public_key(self, worker_id: str) -> str | None:
        """The key as the worker sent it, never a remembered one; None or empty where there is none."""
        return await self._database.fetchval(self._find, worker_id)
