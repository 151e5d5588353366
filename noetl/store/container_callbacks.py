"""Finding a container callback that is in the log already, while nobody else can store the same one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from noetl.store.shards import Databases

_LOCK_CLASS: Final = 0x6362_6C6B
"""First half of two-part advisory locks, which never meet the one-part locks of executions."""


class ContainerCallbackStore:
    """Statements on ``noetl.event`` for callbacks, found by ``meta.idempotency_key`` (an index covers it)."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._lock = "SELECT pg_advisory_xact_lock($1::integer, hashtext($2))"
        self._find = f"""
            SELECT event_id FROM {databases.quoted_schema}.event
            WHERE execution_id = $1 AND meta ? 'idempotency_key' AND meta ->> 'idempotency_key' = $2
            ORDER BY event_id LIMIT 1"""

    @asynccontextmanager
    async def exclusively(self, execution_id: int, key: str) -> AsyncGenerator[int | None]:
        """Lock the key among all processes for the time of the block; gives the id of its event, or None.

        Holds a connection of the pool. Raises DatabaseUnavailableError or DatabaseError.
        """
        async with self._databases.of(execution_id).transaction() as connection:
            await connection.execute(self._lock, _LOCK_CLASS, key)
            # A statement of its own: its snapshot begins after the wait for the lock.
            yield await connection.fetchval(self._find, execution_id, key)
