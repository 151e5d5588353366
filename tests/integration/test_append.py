"""The statement that appends a batch: what it costs, counted by PostgreSQL (promise P4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from noetl.store.ledger import BatchRows, LedgerStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase

EXECUTION = 383_000_000_000_000_001
COMMANDS = 400
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def connection(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[Any]:
    """A connection to a database without statistics: what the planner has when a server is new."""
    url = await make_database(schema_template)
    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO noetl.resource VALUES ('Playbook') ON CONFLICT DO NOTHING")
        await connection.execute(
            "INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES (1, 'p', 1, 'Playbook')"
        )
        yield connection
    finally:
        await connection.close()


def batch(first_id: int, *, begins: bool) -> BatchRows:
    """A loop that issues all its iterations at once, in the first step of an execution or in a later one."""
    rows = BatchRows()
    moment = NOW.replace(tzinfo=None)
    if begins:
        rows.add_event(EXECUTION, first_id, 1, "playbook_started", "p", "STARTED", moment)
    for iteration in range(COMMANDS):
        event_id = first_id + 1 + iteration
        rows.add_event(
            EXECUTION, event_id, 1, "command.issued", "loop", "PENDING", moment, context=f'{{"item": {iteration}}}',
            command_row_id=event_id, iteration_index=iteration,
        )  # fmt: skip
    return rows


async def rows_read(connection: Any, table: str) -> int:
    """Rows of all partitions that this transaction has found by an index."""
    return await connection.fetchval(
        "SELECT sum(idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables WHERE relname LIKE $1", f"{table}%"
    )


async def test_every_command_of_a_batch_costs_the_same(connection: Any) -> None:
    store = LedgerStore("noetl")
    async with connection.transaction():
        position = (await store.append(connection, [(EXECUTION, 0)], batch(1, begins=True)))[EXECUTION]
        await store.append(connection, [(EXECUTION, position)], batch(1_001, begins=False))
        assert await rows_read(connection, "event") < 2 * COMMANDS * 1.1
        issued = await connection.fetch("SELECT event_id, iter_index, context ->> 'item' AS item FROM noetl.command")
    assert len(issued) == 2 * COMMANDS
    assert all(row["iter_index"] == int(row["item"]) == (row["event_id"] - 2) % 1000 for row in issued)


async def test_every_update_of_a_batch_costs_the_same(connection: Any) -> None:
    store = LedgerStore("noetl")
    async with connection.transaction():
        position = (await store.append(connection, [(EXECUTION, 0)], batch(1, begins=True)))[EXECUTION]
        await connection.execute("ANALYZE noetl.command")  # as autovacuum does within a minute
        before = await rows_read(connection, "command")
        rows = BatchRows()
        for event_id in range(2, COMMANDS + 2):
            rows.update_command(EXECUTION, event_id, "CLAIMED", 9, NOW, worker_id="w")
            rows.update_command(EXECUTION, event_id, "COMPLETED", None, NOW)
        await store.append(connection, [(EXECUTION, position)], rows)
        assert await rows_read(connection, "command") - before < 2 * COMMANDS * 1.1
        states = await connection.fetch(
            "SELECT DISTINCT status, worker_id, claimed_at, started_at, completed_at, latest_event_id"
            " FROM noetl.command"
        )
    assert [tuple(row) for row in states] == [("COMPLETED", "w", NOW, None, NOW, 9)]
