"""Reading one long log costs what is asked for, not what the log holds: the plans, and the rows that they look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from noetl.config import load_settings
from noetl.store.database import Database
from noetl.store.events import EventStore
from noetl.store.executions import ExecutionStore
from noetl.store.progress import NEWEST_EVENTS
from noetl.store.replay import ReplayStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase

EVENTS = 30_000
LONG = 383_000_000_000_000_000
MODES = ("force_custom_plan", "force_generic_plan")
"""A prepared statement begins with the former and may go over to the latter."""


@pytest.fixture(scope="module")
async def long_log(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[Database]:
    """One long execution, without an error, among many short ones."""
    url = await make_database(schema_template)
    database = await Database.connect(load_settings({"DATABASE_URL": url}).database)
    await database.execute("INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES (1, 'p', 1, 'playbook')")
    await database.execute(
        """INSERT INTO noetl.event
            (execution_id, event_id, catalog_id, event_type, node_name, status, created_at, meta)
        SELECT $1 + (k > $2)::integer * (k / 4), $1 + k, 1,
            (ARRAY['command.issued', 'command.claimed', 'command.started', 'call.done', 'command.completed'])
                [1 + k % 5],
            'step_' || k % 3, (ARRAY['PENDING', 'RUNNING', 'STARTED', 'COMPLETED', 'success'])[1 + k % 5],
            '2026-01-01'::timestamp + k * interval '1 ms', '{}'
        FROM generate_series(1, $2::bigint + 20000) AS k""",
        LONG, EVENTS,
    )  # fmt: skip
    await database.execute("VACUUM ANALYZE noetl.event")
    yield database
    await database.close()


def looked_at(plan: dict[str, Any]) -> int:
    """Rows of tables and indexes that a plan looked at, kept or not."""
    own = 0
    if "Scan" in plan["Node Type"] and "Relation Name" in plan:
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return own + sum(looked_at(child) for child in plan.get("Plans", []))


async def rows_of(database: Database, mode: str, sql: str, *arguments: object) -> int:
    """Rows that a statement looks at under a plan mode, by index or in sequence."""
    async with database.transaction() as connection:
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
    return looked_at(json.loads(text)[0]["Plan"])


@pytest.mark.parametrize("mode", MODES)
async def test_progress_grows_with_the_steps_and_not_with_the_events(long_log: Database, mode: str) -> None:
    store = ExecutionStore(long_log)
    assert await rows_of(long_log, mode, store._progress, LONG) < 2 * NEWEST_EVENTS + 100
    progress = await store.progress(LONG)
    assert progress is not None
    assert (progress.running_steps, progress.completed_steps) == (3, ["step_1", "step_0", "step_2"])


@pytest.mark.parametrize("mode", MODES)
async def test_cancellation_is_looked_up(long_log: Database, mode: str) -> None:
    assert await rows_of(long_log, mode, ExecutionStore(long_log)._is_cancelled, LONG) <= 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filters", [{}, {"event_type =": "call.done"}, {"event_id >": LONG + EVENTS - 500}])
async def test_a_page_of_events_reads_its_rows(long_log: Database, mode: str, filters: dict[str, Any]) -> None:
    _, sql = ExecutionStore(long_log).event_page_sql(*filters)
    assert await rows_of(long_log, mode, sql, LONG, *filters.values(), 100, 50) <= 250 + 16


async def test_rows_of_a_detail_are_looked_up_by_id(long_log: Database) -> None:
    wanted = [LONG + 9_000 + number for number in range(16)]
    sql = ExecutionStore(long_log)._events
    assert await rows_of(long_log, "force_generic_plan", sql, LONG, wanted) <= 2 * len(wanted)


@pytest.mark.parametrize("mode", MODES)
async def test_a_page_of_a_replay_reads_its_rows(long_log: Database, mode: str) -> None:
    sql = ReplayStore(long_log)._page
    assert await rows_of(long_log, mode, sql, LONG, LONG + 5_000, 2**63 - 1, None, 200) <= 200


@pytest.mark.parametrize("mode", MODES)
async def test_a_page_of_a_reload_reads_its_rows(long_log: Database, mode: str) -> None:
    sql = EventStore("noetl")._positioned
    assert await rows_of(long_log, mode, sql, LONG, 0, 200) <= 200
