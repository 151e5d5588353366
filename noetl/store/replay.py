"""Reading the event log for a replay: one snapshot of it, in pages of bounded size (spec 15, section 2)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.engine.replay import ReplayEvent
from noetl.store.pages import rows_of_next_page

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from noetl.store.connection import Connection
    from noetl.store.shards import Databases

FIRST_PAGE_ROWS: Final = 64
HIGHEST_PAGE_ROWS: Final = 512

_LOWEST_ID: Final = -(2**63)
_HIGHEST_ID: Final = 2**63 - 1


class ReplayCutoff(msgspec.Struct, frozen=True):
    """Up to where a log is replayed, inclusive: an event id, or a time in naive UTC. Neither means all of it."""

    event_id: int | None = None
    time: datetime | None = None


class ReplayStore:
    """Statements on ``event`` for one execution at a time."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        # Ids of stages and frames are text in a replay. Of the result only the reference counts, and it is taken out
        # here: results may be large, and what nobody looks at does not have to travel.
        self._page = f"""
            SELECT event_id, coalesce(event_type, ''), node_name, coalesce(status, ''), stage_id::text, frame_id::text,
                command_id, worker_id, aggregate_type, aggregate_id, meta, result -> 'reference'
            FROM {databases.quoted_schema}.event
            WHERE execution_id = $1 AND event_id BETWEEN $2 AND $3 AND ($4::timestamp IS NULL OR created_at <= $4)
            ORDER BY event_id LIMIT $5"""

    async def pages(self, execution_id: int, cutoff: ReplayCutoff, limit: int) -> AsyncGenerator[list[ReplayEvent]]:
        """The first ``limit`` events up to the cutoff by ascending id; the log does not change between the pages.

        Holds a connection of the pool while it is open: close it (``aclosing``) when it is not exhausted.

        Raises:
            DatabaseUnavailableError, DatabaseError: as `Database.acquire`.
        """
        async with (
            self._databases.of(execution_id).acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            last_id = _HIGHEST_ID if cutoff.event_id is None else cutoff.event_id
            next_id, rows = _LOWEST_ID, FIRST_PAGE_ROWS
            while limit > 0 and next_id <= last_id:
                wanted = min(rows, limit)
                page = await self._fetch(connection, execution_id, next_id, last_id, cutoff.time, wanted)
                if page:
                    yield page
                if len(page) < wanted:
                    return
                limit -= wanted
                next_id = page[-1].event_id + 1
                size = sum(len(event.meta or "") + len(event.reference or "") for event in page)
                rows = rows_of_next_page(len(page), size, HIGHEST_PAGE_ROWS)

    async def _fetch(
        self, connection: Connection, execution_id: int, first_id: int, last_id: int, until: datetime | None, rows: int
    ) -> list[ReplayEvent]:
        records = await connection.fetch(self._page, execution_id, first_id, last_id, until, rows)
        return [ReplayEvent(*record.values()) for record in records]
