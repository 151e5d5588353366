"""How many executions began when, by status (migration 014): kept by appending changes, added up by a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from noetl.store.database import Database

_KEY = "hashtextextended('noetl.execution_tally', 0)"
LOCK = f"SELECT pg_advisory_xact_lock({_KEY})"
"""Taken first in a transaction that changes the tally by what it reads; one that reads before that sees too little."""
TRY_LOCK = f"SELECT pg_try_advisory_xact_lock({_KEY})"
"""As `LOCK`, but false where another one has it."""


def grains(row: str) -> str:
    """SQL of the two rows that an execution counts in: ``catalog_id`` (NULL for all entries) and ``since``.

    ``row`` is an alias of ``execution``, whose catalog entry and start never change.
    """
    started = f"coalesce({row}.start_time, {row}.created_at)"
    return f"""(VALUES
            (NULL::bigint, date_trunc('hour', {started}, 'UTC')),
            ({row}.catalog_id, date_trunc('day', {started}, 'UTC'))
        ) AS grain (catalog_id, since)"""


def jump(tally: str, *, by_catalog: bool, status: str | None) -> str:
    """SQL of the place of a page in the list: one row ``(below, rest)``, none beyond the end.

    ``$2`` is the offset, ``$3`` the catalog ids if ``by_catalog``, ``status`` a placeholder. The page begins ``rest``
    rows behind the first execution that began before ``below``.
    """
    condition = "catalog_id = ANY ($3::bigint[])" if by_catalog else "catalog_id IS NULL"
    if status is not None:
        condition += f" AND status = {status}"
    return f"""
        SELECT since + interval '{"1 day" if by_catalog else "1 hour"}' AS below, $2::bigint - skipped AS rest
        FROM (
            SELECT since, sum(executions) AS held,
                sum(sum(executions)) OVER (ORDER BY since DESC) - sum(executions) AS skipped
            FROM {tally} WHERE {condition} GROUP BY since
        ) AS counted
        WHERE skipped <= $2::bigint AND skipped + held > $2::bigint
        ORDER BY since DESC LIMIT 1"""


class TallyStore:
    """Statements that keep ``execution_tally`` small and right."""

    def __init__(self, database: Database) -> None:
        self._database = database
        schema = database.quoted_schema
        self.table = f"{schema}.execution_tally"
        self._add_up = f"""
            WITH changed AS (
                SELECT DISTINCT catalog_id, since, status FROM {self.table} WHERE NOT is_sum
            ),
            gone AS (
                DELETE FROM {self.table} AS tally USING changed
                WHERE tally.catalog_id IS NOT DISTINCT FROM changed.catalog_id
                    AND tally.since = changed.since AND tally.status = changed.status
                RETURNING tally.catalog_id, tally.since, tally.status, tally.executions
            )
            INSERT INTO {self.table} (catalog_id, since, status, executions, is_sum)
            SELECT catalog_id, since, status, sum(executions), true FROM gone
            GROUP BY catalog_id, since, status HAVING sum(executions) <> 0"""
        self._recount = f"""
            INSERT INTO {self.table} (catalog_id, since, status, executions)
            SELECT catalog_id, since, status, sum(executions)
            FROM (
                SELECT NULL::bigint AS catalog_id,
                    date_trunc('hour', coalesce(start_time, created_at), 'UTC') AS since, status, count(*) AS executions
                FROM {schema}.execution GROUP BY 2, status
                UNION ALL
                SELECT catalog_id, date_trunc('day', coalesce(start_time, created_at), 'UTC'), status, count(*)
                FROM {schema}.execution GROUP BY catalog_id, 2, status
                UNION ALL
                SELECT catalog_id, since, status, -executions FROM {self.table}
            ) AS found
            GROUP BY catalog_id, since, status HAVING sum(executions) <> 0"""

    async def add_up(self) -> None:
        """Replace changes by their sums; what is read meanwhile is the same before and after."""
        async with self._database.transaction() as connection:
            await connection.execute(LOCK)
            await connection.execute(self._add_up)

    async def recount(self) -> int:
        """Count all executions and append what the sums lack; returns the number of rows that were wrong.

        The count and the sums are of one snapshot, in which every change is with its execution, so what happens
        meanwhile is not counted twice. Two recounts at once would be: hence the lock.
        """
        async with self._database.transaction() as connection:
            await connection.execute(LOCK)
            return int((await connection.execute(self._recount)).rpartition(" ")[2])
