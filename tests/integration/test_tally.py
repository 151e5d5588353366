"""The tally of executions equals a count of them, whoever starts and ends them, and at any moment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from noetl.store.executions import ExecutionStore
from noetl.store.tally import LOCK, TallyStore
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.store.database import Database
    from tests.conftest import MakeDatabase
    from tests.integration.ledger_harness import LedgerHarness

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: tallied, path: tallied}
workflow:
  - step: start
    tool: {kind: noop}
"""
DIFFERENCES = """
    SELECT catalog_id, since, status, sum(executions) FROM (
        SELECT catalog_id, since, status, executions FROM noetl.execution_tally
        UNION ALL
        SELECT NULL, date_trunc('hour', start_time, 'UTC'), status, -1 FROM noetl.execution
        UNION ALL
        SELECT catalog_id, date_trunc('day', start_time, 'UTC'), status, -1 FROM noetl.execution
    ) AS both_sides GROUP BY 1, 2, 3 HAVING sum(executions) <> 0"""


@pytest.fixture
async def ledger(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(await make_database(schema_template)) as harness:
        await harness.register(PLAYBOOK)
        yield harness


async def counted(database: Database, status: str) -> int:
    sql = "SELECT coalesce(sum(executions), 0) FROM noetl.execution_tally WHERE catalog_id IS NULL AND status = $1"
    return int(await database.fetchval(sql, status))


async def foreign(database: Database, execution: int, event_id: int, event_type: str) -> None:
    """An event as the reference writes it: nothing beside the row of the log."""
    await database.execute(
        "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type)"
        " SELECT $1, $2, catalog_id, $3 FROM noetl.catalog LIMIT 1",
        execution, event_id, event_type,
    )  # fmt: skip


async def test_the_ledger_tells_of_starts_and_ends_with_their_events(ledger: LedgerHarness) -> None:
    started = await asyncio.gather(*(ledger.start("tallied") for _ in range(12)))
    assert await counted(ledger.database, "RUNNING") == 12
    await ledger.ledger.cancel(started[0])
    await ledger.ledger.finalize(started[1], "FAILED", "x")
    await ledger.run_workers(lambda _: None, workers=3)
    assert [await counted(ledger.database, status) for status in ("RUNNING", "COMPLETED", "FAILED", "CANCELLED")] == [
        0, 10, 1, 1,
    ]  # fmt: skip
    assert await ledger.database.fetch(DIFFERENCES) == []


async def test_executions_of_other_servers_are_tallied_when_they_are_seen(ledger: LedgerHarness) -> None:
    database, settlement = ledger.database, ExecutionStore(ledger.database).settlement
    for execution in (71, 72, 73):
        await foreign(database, execution, 1, "playbook_started")
    await foreign(database, 71, 2, "playbook.completed")
    await settlement.settle_recent()
    assert (await counted(database, "RUNNING"), await counted(database, "COMPLETED")) == (2, 1)
    await foreign(database, 72, 2, "playbook_cancelled")
    await settlement.settle_recent()
    await settlement.settle_recent()
    assert (await counted(database, "RUNNING"), await counted(database, "CANCELLED")) == (1, 1)
    assert await database.fetch(DIFFERENCES) == []


async def test_sums_replace_changes_while_executions_begin_and_end(ledger: LedgerHarness) -> None:
    tally = TallyStore(ledger.database)
    for _ in range(3):
        work = asyncio.gather(*(ledger.start("tallied") for _ in range(8)), tally.add_up(), tally.add_up())
        await work
        await ledger.run_workers(lambda _: None, workers=2, idle_seconds=0.1)
        await tally.add_up()
        assert await ledger.database.fetch(DIFFERENCES) == []
    rows = await ledger.database.fetch("SELECT * FROM noetl.execution_tally")
    assert len(rows) <= 4  # an hour and a day, or two of them at midnight
    assert all(row["is_sum"] for row in rows)


async def test_a_recount_repairs_what_others_have_changed(ledger: LedgerHarness) -> None:
    database, tally = ledger.database, TallyStore(ledger.database)
    await ledger.start("tallied")
    await database.execute("UPDATE noetl.execution SET status = 'FAILED'")
    await database.execute(
        "INSERT INTO noetl.execution (execution_id, catalog_id, status, start_time)"
        " SELECT 5, catalog_id, 'COMPLETED', '2026-01-01Z' FROM noetl.catalog"
    )
    assert await database.fetch(DIFFERENCES) != []
    wrong = await asyncio.gather(tally.recount(), tally.recount())
    assert sorted(wrong) == [0, 6]
    assert await database.fetch(DIFFERENCES) == []


async def test_settling_leaves_the_tally_to_whoever_changes_it(ledger: LedgerHarness) -> None:
    database, settlement = ledger.database, ExecutionStore(ledger.database).settlement
    await foreign(database, 81, 1, "playbook_started")
    async with database.transaction() as connection:
        await connection.execute(LOCK)
        assert await settlement.settle_recent() == 0
        sweep = asyncio.create_task(settlement.sweep())
        await somebody_waits(database)
        assert await counted(database, "RUNNING") == 0
    assert await sweep == 1
    assert await database.fetch(DIFFERENCES) == []


async def test_an_end_that_is_written_while_its_start_is_settled_stays(ledger: LedgerHarness) -> None:
    database, settlement = ledger.database, ExecutionStore(ledger.database).settlement
    await foreign(database, 82, 1, "playbook_started")
    async with database.transaction() as connection:
        await connection.execute(
            """INSERT INTO noetl.execution (
                execution_id, catalog_id, status, start_time, end_time, last_event_id, last_event_type)
            SELECT 82, catalog_id, 'COMPLETED', now(), now(), 2, 'playbook.completed' FROM noetl.catalog"""
        )
        settling = asyncio.create_task(settlement.settle_recent())
        await somebody_waits(database)
    assert await settling == 0
    assert await database.fetchval("SELECT status FROM noetl.execution WHERE execution_id = 82") == "COMPLETED"


async def somebody_waits(database: Database) -> None:
    """Wait until a statement waits for a lock."""
    sql = """SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database())"""
    async with asyncio.timeout(10):
        while not await database.fetchval(sql):  # noqa: ASYNC110 (the database tells of no event)
            await asyncio.sleep(0.01)
