"""Numbers for the dashboard, from the tally of executions by hour and status (spec 10, section 12, fix 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from noetl.store.tally import TallyStore

if TYPE_CHECKING:
    from datetime import date

    from noetl.store.database import Database

TREND_DAYS: Final = 7


class Totals(msgspec.Struct):
    """Executions by status, playbook versions in the catalog, workers that serve."""

    running: int
    completed: int
    failed: int
    cancelled: int
    playbooks: int
    workers: int

    @property
    def executions(self) -> int:
        """All executions, whatever their status."""
        return self.running + self.completed + self.failed + self.cancelled


class DashboardStore:
    """Aggregates over all executions of one database: sums of a row for each hour and status."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = database.quoted_schema
        tally = TallyStore(database).table
        self.totals_sql: Final = f"""
            SELECT coalesce(sum(executions) FILTER (WHERE status = 'COMPLETED'), 0)::bigint AS completed,
                coalesce(sum(executions) FILTER (WHERE status = 'FAILED'), 0)::bigint AS failed,
                coalesce(sum(executions) FILTER (WHERE status = 'CANCELLED'), 0)::bigint AS cancelled,
                coalesce(sum(executions) FILTER (WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')), 0)::bigint
                    AS running,
                (SELECT count(*) FROM {schema}.catalog WHERE lower(kind) = 'playbook') AS playbooks,
                (SELECT count(*) FROM {schema}.runtime
                    WHERE kind = 'worker_pool' AND status IN ('ready', 'active')) AS workers
            FROM {tally} WHERE catalog_id IS NULL"""
        self.trend_sql: Final = f"""
            SELECT (since AT TIME ZONE 'UTC')::date AS day, sum(executions)::bigint AS executions
            FROM {tally}
            WHERE catalog_id IS NULL
                AND since >= ((now() AT TIME ZONE 'UTC')::date - {TREND_DAYS - 1})::timestamp AT TIME ZONE 'UTC'
            GROUP BY day HAVING sum(executions) > 0 ORDER BY day"""

    async def totals(self) -> Totals:
        """The present numbers."""
        record = await self._database.fetchrow(self.totals_sql)
        assert record is not None
        return Totals(**record)

    async def trend(self) -> list[tuple[date, int]]:
        """Executions started on each of the last seven days (UTC, today included) that had any, ascending."""
        return [(record["day"], record["executions"]) for record in await self._database.fetch(self.trend_sql)]
