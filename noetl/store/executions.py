"""Reading executions: lists, details, progress. The row in ``execution`` serves lists, the log everything else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.store.outcome import CANCELLED_TYPES, STATUSES, started_event
from noetl.store.pages import rows_of_next_page
from noetl.store.progress import ExecutionProgress, progress_sql
from noetl.store.settlement import SettlementStore
from noetl.store.tally import TallyStore, jump

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from noetl.store.connection import Connection, Record
    from noetl.store.database import Database

SETTLE_PAUSE_SECONDS: Final = 1.0
"""Lists look for executions of other servers at most this often."""
FIRST_EVENT_ROWS: Final = 16
HIGHEST_EVENT_ROWS: Final = 200
EVENT_COLUMNS: Final = "event_id, event_type, node_name, status, created_at, result, error"
FEW_CATALOG_IDS: Final = 50
DEEP_OFFSET: Final = 1_000
"""Up to here a page is reached by counting rows."""
STARTED: Final = "coalesce(head.start_time, head.created_at)"
ORDER: Final = f"{STARTED} DESC NULLS LAST, head.execution_id DESC"
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


@dataclass(frozen=True, slots=True)
class PageChoice:
    """What a page of the list is filtered by, and how it is found (`ExecutionStore.page_sql`)."""

    by_catalog: bool = False
    by_status: bool = False
    among_recent: bool = False
    is_deep: bool = False


class ExecutionHead(msgspec.Struct, gc=False):
    """What the start event says; ``workload`` is a JSON text."""

    execution_id: int
    catalog_id: int
    path: str | None
    version: int | None
    parent_execution_id: int | None
    workload: str | None


class EventRow(msgspec.Struct, gc=False):
    """An event as the detail shows it; ``result`` is a JSON text."""

    event_id: int
    event_type: str | None
    node_name: str | None
    status: str | None
    created_at: datetime
    result: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class DetailPage:
    """Which events of an execution, highest id first; None does not filter."""

    limit: int
    offset: int
    since_event_id: int | None = None
    event_type: str | None = None


class ExecutionDetail(msgspec.Struct, gc=False):
    """An execution and which events of it are wanted: how many without paging, their ids, the first of their rows."""

    head: ExecutionHead
    progress: ExecutionProgress
    total: int
    order: list[int]
    first: list[EventRow]


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
        self._tally = TallyStore(database).table
        self._matching = f"""
            SELECT count(*) AS entries,
                coalesce(array_agg(catalog_id) FILTER (WHERE strpos(lower(path), lower($1)) > 0), '{{}}') AS matching
            FROM {self._catalog}"""
        self._head = f"""
            SELECT $1::bigint AS execution_id, started.catalog_id, catalog.path, catalog.version,
                started.parent_execution_id, started.workload
            FROM ({started_event(self._event, "$1")}) AS started
            LEFT JOIN {self._catalog} AS catalog ON catalog.catalog_id = started.catalog_id"""
        self._progress = progress_sql(self._event)
        self._is_cancelled = f"""
            SELECT EXISTS (SELECT FROM {self._event}
                WHERE execution_id = $1 AND event_type IN ({CANCELLED_TYPES}))"""
        self._event_order = f"SELECT event_id FROM {self._event} WHERE execution_id = $1 ORDER BY created_at, event_id"
        self._events = f"""
            SELECT {EVENT_COLUMNS}
            FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (event_id, place)
            JOIN {self._event} USING (event_id)
            WHERE execution_id = $1
            ORDER BY place"""
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
        catalog_ids = None if path is None and catalog_id is None else await self._catalog_entries(catalog_id, path)
        if catalog_ids == []:
            return []
        arguments = [limit, offset, *(value for value in (catalog_ids, status) if value is not None)]
        choice = PageChoice(by_status=status is not None, is_deep=offset >= DEEP_OFFSET)
        if catalog_ids is None:
            records = await self._database.fetch(self.page_sql(choice), *arguments)
        else:
            records = []
            choice = replace(choice, by_catalog=True)
            if len(catalog_ids) > FEW_CATALOG_IDS:
                records = await self._database.fetch(self.page_sql(replace(choice, among_recent=True)), *arguments)
            if len(records) < limit:
                records = await self._database.fetch(self.page_sql(choice), *arguments)
        return [ExecutionRow(**record) for record in records]

    async def _catalog_entries(self, catalog_id: int | None, path: str | None) -> list[int] | None:
        """Ids of the entries that match both; None when all entries of the catalog do."""
        if path is None:
            return [] if catalog_id is None else [catalog_id]
        record = await self._database.fetchrow(self._matching, path)
        assert record is not None
        matching: list[int] = record["matching"]
        if catalog_id is not None:
            return [catalog_id] if catalog_id in matching else []
        return None if len(matching) == record["entries"] else matching

    def page_sql(self, choice: PageChoice) -> str:
        """The statement of `page`: ``$1`` limit, ``$2`` offset, then ids and status as far as they are filtered by.

        Each combination has an index in the order of the list. Several catalog ids are several such lists, of which
        the first ``limit + offset`` are merged; that is why they are joined laterally instead of compared with ANY.
        Where that is much (many ids), ``among_recent`` is tried first: a full page from there is the right one.
        A deep page begins at the place that the tally tells, not at the newest execution.
        """
        status = f"${4 if choice.by_catalog else 3}" if choice.by_status else None
        condition = "true" if status is None else f"head.status = {status}"
        prelude, rest = "", "$2::bigint"
        if choice.is_deep:
            place = jump(self._tally, by_catalog=choice.by_catalog, status=status)
            prelude, rest = f"WITH jump AS MATERIALIZED ({place})", "(SELECT rest FROM jump)"
            condition += f" AND {STARTED} < (SELECT below FROM jump)"
        outer = ""
        if choice.among_recent:
            source = f"""(
                SELECT * FROM {self._execution} AS head
                WHERE {condition} ORDER BY {ORDER} LIMIT ($1::bigint + {rest}) * {RECENT_FACTOR}
            ) AS head"""
            outer = "WHERE head.catalog_id = ANY ($3::bigint[])"
        elif choice.by_catalog:
            source = f"""
                unnest($3::bigint[]) AS wanted (catalog_id)
                CROSS JOIN LATERAL (
                    SELECT * FROM {self._execution} AS head
                    WHERE head.catalog_id = wanted.catalog_id AND {condition}
                    ORDER BY {ORDER} LIMIT $1::bigint + {rest}
                ) AS head"""
        else:
            source = f"{self._execution} AS head"
            outer = f"WHERE {condition}"
        return f"""
            {prelude}
            SELECT head.execution_id, head.catalog_id, catalog.path, catalog.version, head.status,
                {STARTED} AS started_at, head.end_time AS ended_at, head.parent_execution_id, head.error,
                counted.event_count
            FROM (SELECT head.* FROM {source} {outer} ORDER BY {ORDER} LIMIT $1::bigint OFFSET {rest}) AS head
            LEFT JOIN {self._catalog} AS catalog ON catalog.catalog_id = head.catalog_id
            CROSS JOIN LATERAL (
                SELECT count(*) AS event_count FROM {self._event} AS event
                WHERE event.execution_id = head.execution_id
            ) AS counted
            ORDER BY {ORDER}"""

    async def detail(self, execution_id: int, page: DetailPage | None = None) -> ExecutionDetail | None:
        """An execution with all events in order of time, or a page of them (spec 10, section 6.2 and fix 16).

        None when it has no start event. `events` gives the rows.
        """

        async def read(connection: Connection) -> ExecutionDetail | None:
            head = await connection.fetchrow(self._head, execution_id)
            progress = None if head is None else await connection.fetchrow(self._progress, execution_id)
            if head is None or progress is None:
                return None
            if page is None:
                # That order has no index, so it is taken once, before rows are fetched by id.
                order = await connection.fetch(self._event_order, execution_id)
                total = len(order)
            else:
                given = {"event_id >": page.since_event_id, "event_type =": page.event_type}
                filters = {name: value for name, value in given.items() if value is not None}
                count, wanted = self.event_page_sql(*filters)
                total = await connection.fetchval(count, execution_id, *filters.values())
                order = await connection.fetch(wanted, execution_id, *filters.values(), page.limit, page.offset)
            ids = [record["event_id"] for record in order]
            first = await connection.fetch(self._events, execution_id, ids[:FIRST_EVENT_ROWS]) if ids else []
            return ExecutionDetail(
                ExecutionHead(**head),
                ExecutionProgress(**progress),
                int(total),
                ids,
                [EventRow(**row) for row in first],
            )

        return await self._database.read_one(read)

    async def progress(self, execution_id: int) -> ExecutionProgress | None:
        """Progress of an execution; None when it has no event at all."""
        record = await self._database.read_one(lambda connection: connection.fetchrow(self._progress, execution_id))
        return None if record is None else ExecutionProgress(**record)

    async def is_cancelled(self, execution_id: int) -> bool:
        """Whether the log has a cancellation; False for an unknown execution."""
        return bool(
            await self._database.read_one(lambda connection: connection.fetchval(self._is_cancelled, execution_id))
        )

    async def events(self, execution_id: int, detail: ExecutionDetail) -> AsyncGenerator[Sequence[EventRow]]:
        """The events of a detail, in its order, in pages that are small where rows are large.

        Between two pages no connection is held, however slowly the client reads.
        """
        page, begin, wanted = detail.first, 0, detail.order[:FIRST_EVENT_ROWS]
        while wanted:
            yield page
            begin += len(wanted)
            size = sum(len(row.result or "") + len(row.error or "") for row in page)
            wanted = detail.order[begin : begin + rows_of_next_page(len(wanted), size, HIGHEST_EVENT_ROWS)]
            read = partial(_fetch, self._events, execution_id, wanted)
            page = [EventRow(**record) for record in await self._database.read_one(read)] if wanted else []

    def event_page_sql(self, *filters: str) -> tuple[str, str]:
        """The statements for the number of matching events and for the ids of one page of them, highest first.

        A filter is a column and an operator, its value ``$2`` and so on. Rows that are skipped are read from an index
        alone.
        """
        conditions = "".join(f" AND {name} ${number}" for number, name in enumerate(filters, 2))
        matching = f"FROM {self._event} WHERE execution_id = $1{conditions}"
        limit, offset = f"${len(filters) + 2}::bigint", f"${len(filters) + 3}::bigint"
        return (
            f"SELECT count(*) {matching}",
            f"SELECT event_id {matching} ORDER BY event_id DESC LIMIT {limit} OFFSET {offset}",
        )

    async def unfinished_descendants(self, execution_id: int) -> list[int]:
        """Executions that this one started, directly or not, and that have not ended, by id."""
        records = await self._database.fetch(self._descendants, execution_id)
        return [record["execution_id"] for record in records]

    async def _settle_recent(self) -> None:
        now = monotonic()
        if now >= self._settle_at:
            self._settle_at = now + SETTLE_PAUSE_SECONDS
            await self.settlement.settle_recent()


def _fetch(sql: str, execution_id: int, wanted: Sequence[int], connection: Connection) -> Awaitable[list[Record]]:
    return connection.fetch(sql, execution_id, wanted)
