"""Reading executions: lists, details, progress. The row in ``execution`` serves lists, the log everything else."""

from __future__ import annotations

from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.store.outcome import CANCELLED_TYPES, STATUSES, error_text, started_event, terminal_event
from noetl.store.settlement import SettlementStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from noetl.store.connection import Record
    from noetl.store.database import Database

SETTLE_PAUSE_SECONDS: Final = 1.0
"""Lists look for executions of other servers at most this often."""
EVENT_PAGE_ROWS: Final = 200
FEW_CATALOG_IDS: Final = 50
RECENT_FACTOR: Final = 20
"""A page of executions of many catalog entries is first looked for among this many times as many newest ones."""


class ExecutionRow(msgspec.Struct, gc=False):
    """One execution in a list. ``path`` and ``version`` are None when the catalog row is gone."""

    execution_id: int
    catalog_id: int
    path: str | None
    version: int | None
    status: str
    started_at: datetime
    ended_at: datetime | None
    parent_execution_id: int | None
    error: str | None
    event_count: int


class ExecutionHead(msgspec.Struct, gc=False):
    """What the start event says; ``workload`` is a JSON text."""

    execution_id: int
    catalog_id: int
    path: str | None
    version: int | None
    parent_execution_id: int | None
    workload: str | None


class ExecutionProgress(msgspec.Struct, gc=False):
    """Counters over the log (spec 10, section 6.3); ``started_at`` is None for a log without start event."""

    execution_id: int
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    is_cancelled: bool
    current_step: str | None
    completed_steps: list[str]
    total_steps: int
    running_steps: int
    failed_steps: int


class EventRow(msgspec.Struct, gc=False):
    """An event as the detail shows it; ``result`` is a JSON text."""

    event_id: int
    event_type: str | None
    node_name: str | None
    status: str | None
    created_at: datetime
    result: str | None
    error: str | None


class ExecutionStore:
    """Statements on ``execution`` and, for one execution at a time, ``event``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.settlement = SettlementStore(database)
        self._settle_at = 0.0
        schema = database.quoted_schema
        self._execution = f"{schema}.execution"
        self._event = f"{schema}.event"
        self._catalog = f"{schema}.catalog"
        self._catalog_ids = f"SELECT catalog_id FROM {self._catalog} WHERE strpos(lower(path), lower($1)) > 0"
        self._head = f"""
            SELECT $1::bigint AS execution_id, started.catalog_id, catalog.path, catalog.version,
                started.parent_execution_id, started.workload
            FROM ({started_event(self._event, "$1")}) AS started
            LEFT JOIN {self._catalog} AS catalog ON catalog.catalog_id = started.catalog_id"""
        self._progress = f"""
            SELECT $1::bigint AS execution_id, coalesce(ended.status, 'RUNNING') AS status,
                started.created_at AS started_at, ended.created_at AS ended_at,
                coalesce(ended.error, (
                    SELECT {error_text("failed.")} FROM {self._event} AS failed
                    WHERE failed.execution_id = $1
                        AND (failed.error IS NOT NULL OR failed.status IN ('FAILED', 'failed', 'ERROR', 'error'))
                        AND {error_text("failed.")} IS NOT NULL
                    ORDER BY failed.event_id DESC LIMIT 1)) AS error,
                counted.is_cancelled,
                (SELECT entered.node_name FROM {self._event} AS entered
                    WHERE entered.execution_id = $1 AND entered.event_type IN ('step.enter', 'command.started')
                        AND entered.node_name IS NOT NULL
                    ORDER BY entered.created_at DESC, entered.event_id DESC LIMIT 1) AS current_step,
                ARRAY(SELECT left_steps.node_name FROM {self._event} AS left_steps
                    WHERE left_steps.execution_id = $1 AND left_steps.event_type IN ('step.exit', 'command.completed')
                        AND left_steps.status IN ('COMPLETED', 'completed', 'success')
                        AND left_steps.node_name IS NOT NULL
                    GROUP BY left_steps.node_name
                    ORDER BY min(left_steps.created_at), min(left_steps.event_id)) AS completed_steps,
                counted.total_steps, counted.running_steps, counted.failed_steps
            FROM (
                SELECT count(*) AS events,
                    coalesce(bool_or(event_type IN ({CANCELLED_TYPES})), false) AS is_cancelled,
                    count(DISTINCT node_name) FILTER (WHERE event_type = 'step.enter') AS total_steps,
                    count(DISTINCT node_name) FILTER (WHERE event_type IN ('command.claimed', 'command.started')
                        AND status IN ('RUNNING', 'STARTED')) AS running_steps,
                    count(DISTINCT node_name) FILTER (WHERE status = 'FAILED') AS failed_steps
                FROM {self._event} WHERE execution_id = $1
            ) AS counted
            LEFT JOIN ({started_event(self._event, "$1")}) AS started ON true
            LEFT JOIN ({terminal_event(self._event, "$1")}) AS ended ON true
            WHERE counted.events > 0"""
        self._is_cancelled = f"""
            SELECT EXISTS (SELECT FROM {self._event}
                WHERE execution_id = $1 AND event_type IN ({CANCELLED_TYPES}))"""
        event_columns = "event_id, event_type, node_name, status, created_at, result, error"
        self._event_order = f"SELECT event_id FROM {self._event} WHERE execution_id = $1 ORDER BY created_at, event_id"
        self._events = f"""
            SELECT {event_columns}
            FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (event_id, place)
            JOIN {self._event} USING (event_id)
            WHERE execution_id = $1
            ORDER BY place"""
        filtered = """
            WHERE execution_id = $1 AND ($2::bigint IS NULL OR event_id > $2)
                AND ($3::text IS NULL OR event_type = $3)"""
        self._count_events = f"SELECT count(*) FROM {self._event} {filtered}"
        self._event_page = f"""
            SELECT {event_columns} FROM {self._event} {filtered}
            ORDER BY event_id DESC LIMIT $4 OFFSET $5"""
        self._descendants = f"""
            WITH RECURSIVE family AS (
                SELECT execution_id, end_time FROM {self._execution} WHERE parent_execution_id = $1
                UNION
                SELECT child.execution_id, child.end_time
                FROM family JOIN {self._execution} AS child ON child.parent_execution_id = family.execution_id
            )
            SELECT execution_id FROM family
            WHERE end_time IS NULL AND execution_id <> $1 ORDER BY execution_id"""

    async def page(
        self,
        *,
        limit: int,
        offset: int = 0,
        catalog_id: int | None = None,
        path: str | None = None,
        status: str | None = None,
    ) -> list[ExecutionRow]:
        """One page of executions, newest start first (spec 10, section 6.1). Filters hold for all executions.

        ``path`` is a part of the catalog path, case does not matter; ``status`` one of `STATUSES`, anything else
        matches nothing.
        """
        if limit == 0 or (status is not None and status not in STATUSES):
            return []
        await self._settle_recent()
        catalog_ids: list[int] | None = None
        if path is not None:
            records = await self._database.fetch(self._catalog_ids, path)
            catalog_ids = [record["catalog_id"] for record in records]
        if catalog_id is not None:
            catalog_ids = [catalog_id] if catalog_ids is None or catalog_id in catalog_ids else []
        if catalog_ids == []:
            return []
        arguments = [limit, offset, *(value for value in (catalog_ids, status) if value is not None)]
        by_status = status is not None
        records: list[Record] = []
        if catalog_ids is not None and len(catalog_ids) > FEW_CATALOG_IDS:
            sql = self.page_sql(by_catalog=True, by_status=by_status, among_recent=True)
            records = await self._database.fetch(sql, *arguments)
        if len(records) < limit:
            sql = self.page_sql(by_catalog=catalog_ids is not None, by_status=by_status)
            records = await self._database.fetch(sql, *arguments)
        return [ExecutionRow(**record) for record in records]

    def page_sql(self, *, by_catalog: bool, by_status: bool, among_recent: bool = False) -> str:
        """The statement of `page`: ``$1`` limit, ``$2`` offset, then ids and status as far as they are filtered by.

        Each combination has an index in the order of the list. Several catalog ids are several such lists, of which
        the first ``limit + offset`` are merged; that is why they are joined laterally instead of compared with ANY.
        Where that is much (many ids), ``among_recent`` is tried first: a full page from there is the right one.
        """
        status = f" AND head.status = ${4 if by_catalog else 3}" if by_status else ""
        order = "coalesce(head.start_time, head.created_at) DESC NULLS LAST, head.execution_id DESC"
        condition = ""
        if among_recent:
            source = f"""(
                SELECT * FROM {self._execution} AS head
                WHERE true{status} ORDER BY {order} LIMIT ($1::bigint + $2::bigint) * {RECENT_FACTOR}
            ) AS head"""
            condition = "WHERE head.catalog_id = ANY ($3::bigint[])"
        elif by_catalog:
            source = f"""
                unnest($3::bigint[]) AS wanted (catalog_id)
                CROSS JOIN LATERAL (
                    SELECT * FROM {self._execution} AS head
                    WHERE head.catalog_id = wanted.catalog_id{status}
                    ORDER BY {order} LIMIT $1::bigint + $2::bigint
                ) AS head"""
        else:
            source = f"{self._execution} AS head"
            condition = f"WHERE true{status}"
        return f"""
            SELECT head.execution_id, head.catalog_id, catalog.path, catalog.version, head.status,
                coalesce(head.start_time, head.created_at) AS started_at, head.end_time AS ended_at,
                head.parent_execution_id, head.error, counted.event_count
            FROM (
                SELECT head.* FROM {source} {condition} ORDER BY {order} LIMIT $1::bigint OFFSET $2::bigint
            ) AS head
            LEFT JOIN {self._catalog} AS catalog ON catalog.catalog_id = head.catalog_id
            CROSS JOIN LATERAL (
                SELECT count(*) AS event_count FROM {self._event} AS event
                WHERE event.execution_id = head.execution_id
            ) AS counted
            ORDER BY {order}"""

    async def head(self, execution_id: int) -> ExecutionHead | None:
        """What started an execution; None when it has no start event."""
        record = await self._database.fetchrow(self._head, execution_id)
        return None if record is None else ExecutionHead(**record)

    async def progress(self, execution_id: int) -> ExecutionProgress | None:
        """Progress of an execution; None when it has no event at all."""
        record = await self._database.fetchrow(self._progress, execution_id)
        return None if record is None else ExecutionProgress(**record)

    async def is_cancelled(self, execution_id: int) -> bool:
        """Whether the log has a cancellation; False for an unknown execution."""
        return bool(await self._database.fetchval(self._is_cancelled, execution_id))

    async def events(self, execution_id: int) -> AsyncGenerator[Sequence[EventRow]]:
        """All events by time, in pages.

        The order by time has no index. So it is taken once, as ids (8 bytes each here), and the rows are then fetched
        by id; between two pages no connection is held, however slowly the client reads.
        """
        order = [record["event_id"] for record in await self._database.fetch(self._event_order, execution_id)]
        for first in range(0, len(order), EVENT_PAGE_ROWS):
            wanted = order[first : first + EVENT_PAGE_ROWS]
            yield _events(await self._database.fetch(self._events, execution_id, wanted))

    async def event_page(
        self, execution_id: int, *, since_event_id: int | None, event_type: str | None, limit: int, offset: int
    ) -> tuple[int, list[EventRow]]:
        """Number of matching events, and one page of them, highest id first (spec 10, fix 16)."""
        async with self._database.transaction(readonly=True) as connection:
            total = await connection.fetchval(self._count_events, execution_id, since_event_id, event_type)
            records = await connection.fetch(self._event_page, execution_id, since_event_id, event_type, limit, offset)
        return int(total), _events(records)

    async def unfinished_descendants(self, execution_id: int) -> list[int]:
        """Executions that this one started, directly or not, and that have not ended, by id."""
        records = await self._database.fetch(self._descendants, execution_id)
        return [record["execution_id"] for record in records]

    async def _settle_recent(self) -> None:
        now = monotonic()
        if now >= self._settle_at:
            self._settle_at = now + SETTLE_PAUSE_SECONDS
            await self.settlement.settle_recent()


def _events(records: Sequence[Record]) -> list[EventRow]:
    return [EventRow(**record) for record in records]
