"""Rows in ``execution`` for what another server on the same database starts or ends.

This server's ledger writes them itself, in the transaction of the event. The reference writes events only; migration
003 explains how those are found.
"""

from __future__ import annotations

from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, Final

from noetl.store.outcome import LIFECYCLE_TYPES, START_TYPES, started_event, terminal_event
from noetl.store.tally import LOCK, TRY_LOCK, TallyStore, grains

if TYPE_CHECKING:
    from noetl.store.database import Database

RECENT_EVENTS: Final = 1_000
"""Start and terminal events that a list request looks at."""
SWEEP_EVENTS: Final = 10_000
"""Start and terminal events that one statement of the sweep looks at."""
SWEEP_LAG: Final = timedelta(minutes=2)
"""Age at which an event counts as seen for good. Log positions are drawn before the commit, so a lower one can still
appear behind a higher one; no transaction of an event lasts nearly as long."""
RECOUNT_SECONDS: Final = 3600.0
"""The tally is checked against the rows so often, the first time at the first sweep."""
PROJECTION: Final = "execution"
"""Row of ``projection`` that holds how far the sweep came, as ``version``."""


class SettlementStore:
    """Statements that bring ``execution`` up to date with events of other servers."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.tally = TallyStore(database)
        self._recount_at = 0.0
        schema = database.quoted_schema
        event, execution, projection = f"{schema}.event", f"{schema}.execution", f"{schema}.projection"
        seen = "log_position, execution_id, event_id, event_type, ingest_time"
        self._recent = _settle(
            event,
            execution,
            self.tally.table,
            f"""SELECT {seen} FROM {event}
                WHERE log_position IS NOT NULL AND event_type IN ({LIFECYCLE_TYPES})
                ORDER BY log_position DESC LIMIT $1""",
            "SELECT count(*) FROM settled",
        )
        self._next = _settle(
            event,
            execution,
            self.tally.table,
            f"""SELECT {seen} FROM {event}
                WHERE log_position > $2 AND event_type IN ({LIFECYCLE_TYPES})
                ORDER BY log_position LIMIT $1""",
            """SELECT count(*) AS seen, max(log_position) AS last_position,
                max(log_position) FILTER (WHERE ingest_time < now() - $3::interval) AS settled_position,
                (SELECT count(*) FROM settled) AS settled
            FROM seen""",
        )
        self._position = f"SELECT version FROM {projection} WHERE projection_id = '{PROJECTION}'"
        self._remember = f"""
            INSERT INTO {projection} AS known (projection_id, projection_type, version, state, checksum)
            VALUES ('{PROJECTION}', '{PROJECTION}', $1, '{{}}', '')
            ON CONFLICT (projection_id) DO UPDATE SET version = excluded.version, updated_at = now()
            WHERE known.version < excluded.version"""

    async def settle_recent(self) -> int:
        """Settle what the newest start and terminal events tell; returns the number of rows written.

        While somebody else settles or counts, nothing: whoever asks for a list does not wait for that.
        """
        async with self._database.transaction() as connection:
            if not await connection.fetchval(TRY_LOCK):
                return 0
            return int(await connection.fetchval(self._recent, RECENT_EVENTS))

    async def sweep(self) -> int:
        """Settle everything since the last sweep; returns the number of rows written. Call it every half minute.

        It remembers its place, so its cost is that of the events since then and of the last two minutes.
        """
        written = 0
        position = int(await self._database.fetchval(self._position) or 0)
        remembered = position
        while True:
            async with self._database.transaction() as connection:
                await connection.execute(LOCK)
                record = await connection.fetchrow(self._next, SWEEP_EVENTS, position, SWEEP_LAG)
            if record is None or record["last_position"] is None:
                break
            written += record["settled"]
            position = record["last_position"]
            remembered = max(remembered, record["settled_position"] or 0)
            if record["seen"] < SWEEP_EVENTS:
                break
        if remembered:
            await self._database.execute(self._remember, remembered, retry=True)
        if monotonic() >= self._recount_at:
            await self.tally.recount()
            self._recount_at = monotonic() + RECOUNT_SECONDS
        await self.tally.add_up()
        return written


def _settle(event: str, execution: str, tally: str, seen: str, answer: str) -> str:
    """SQL that writes the rows of executions whose events in ``seen`` are not reflected, then selects ``answer``.

    A start is reflected by the row's being there, an end by its id in the row. Whatever is not is derived anew from
    the log, so it does not matter in which order events are looked at, or how often. Two such statements at once would
    count their changes from the same rows, hence the lock of the tally; a ledger that ends an execution meanwhile does
    not take it, so an end is never taken back.
    """
    return f"""
        WITH seen AS MATERIALIZED ({seen}),
        unsettled AS (
            SELECT DISTINCT seen.execution_id
            FROM seen
            WHERE NOT EXISTS (
                SELECT FROM {execution} AS head
                WHERE head.execution_id = seen.execution_id
                    AND (seen.event_type IN ({START_TYPES}) OR head.last_event_id = seen.event_id)
            )
        ),
        settled AS (
            INSERT INTO {execution} AS head (
                execution_id, catalog_id, parent_execution_id, status, start_time, end_time, error,
                last_event_type, last_node_name, last_event_id)
            SELECT unsettled.execution_id, started.catalog_id, started.parent_execution_id,
                coalesce(ended.status, 'RUNNING'), started.created_at AT TIME ZONE 'UTC',
                ended.created_at AT TIME ZONE 'UTC', ended.error, coalesce(ended.event_type, started.event_type),
                coalesce(ended.node_name, started.node_name), coalesce(ended.event_id, started.event_id)
            FROM unsettled
            CROSS JOIN LATERAL ({started_event(event, "unsettled.execution_id")}) AS started
            LEFT JOIN LATERAL ({terminal_event(event, "unsettled.execution_id")}) AS ended ON true
            ORDER BY unsettled.execution_id
            ON CONFLICT (execution_id) DO UPDATE SET
                status = excluded.status, end_time = excluded.end_time, error = excluded.error,
                last_event_type = excluded.last_event_type, last_node_name = excluded.last_node_name,
                last_event_id = excluded.last_event_id, updated_at = now()
            WHERE head.last_event_id IS DISTINCT FROM excluded.last_event_id
                AND (excluded.end_time IS NOT NULL OR head.end_time IS NULL)
            RETURNING head.execution_id, head.catalog_id, head.start_time, head.created_at, head.status
        ),
        -- What a statement reads of a table is as it was before it: `before` is the row that it changed.
        tallied AS (
            INSERT INTO {tally} (catalog_id, since, status, executions)
            SELECT grain.catalog_id, grain.since, changed.status, sum(changed.change)
            FROM settled AS head
            LEFT JOIN {execution} AS before USING (execution_id)
            CROSS JOIN LATERAL (VALUES (head.status, 1), (before.status, -1)) AS changed (status, change)
            CROSS JOIN LATERAL {grains("head")}
            WHERE changed.status IS NOT NULL AND head.status IS DISTINCT FROM before.status
            GROUP BY grain.catalog_id, grain.since, changed.status HAVING sum(changed.change) <> 0
        )
        {answer}"""
