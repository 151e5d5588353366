"""Partitions of the event log: those of the future are made, those of the past are detached and dropped."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import pytest

from noetl.config import load_settings
from noetl.errors import ConflictError
from noetl.store.database import Database, RefusedStatementError
from noetl.store.partitions import (
    HIGHEST_ID,
    LOWEST_ID,
    Partition,
    PartitionStore,
    id_at,
    missing_partitions,
    moment_of,
)
from noetl.store.retention import RetentionStore
from tests.faults.checker import query
from tests.integration.command_line import noetl_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase

NOW = datetime(2026, 11, 24, tzinfo=UTC)
BEFORE = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture
async def url(make_database: MakeDatabase, schema_template: str) -> str:
    return await make_database(schema_template)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    connected = await Database.connect(load_settings({"DATABASE_URL": url}).database)
    yield connected
    await connected.close()


async def put(url: str, started: datetime, *, ended: bool = True, at: datetime | None = None, number: int = 0) -> int:
    """An execution with one event, whose id says ``started`` and whose event is of then or of ``at``."""
    execution_id = id_at(started) + number
    await query(
        url,
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES (1, 'p', 1, 'playbook')"
        " ON CONFLICT DO NOTHING",
    )
    moment = (at or started).replace(tzinfo=None)
    await query(
        url,
        "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, created_at)"
        " VALUES ($1, $1, 1, 'playbook_started', $2)",
        execution_id, moment,
    )  # fmt: skip
    await query(
        url,
        "INSERT INTO noetl.execution (execution_id, catalog_id, status, end_time) VALUES ($1, 1, 'COMPLETED', $2)",
        execution_id, moment.replace(tzinfo=UTC) if ended else None,
    )  # fmt: skip
    await query(
        url,
        "INSERT INTO noetl.command (command_id, event_id, execution_id, catalog_id, step_name)"
        " VALUES ($1, $1, $1, 1, 'a')",
        execution_id,
    )
    return execution_id


async def partition_of(url: str, execution_id: int) -> str:
    """The partition that holds the events of an execution."""
    rows = await query(url, "SELECT tableoid::regclass::text FROM noetl.event WHERE execution_id = $1", execution_id)
    return rows[0][0].removeprefix("noetl.")


# -- the future --------------------------------------------------------------------------------------------------------


def test_ids_and_moments() -> None:
    assert id_at(datetime(2026, 1, 1, tzinfo=UTC)) == 264905529753600000
    assert moment_of(264905529753600000) == datetime(2026, 1, 1, tzinfo=UTC)
    assert moment_of(HIGHEST_ID) == datetime(2093, 9, 6, 15, 47, 35, 551000, tzinfo=UTC)
    assert moment_of(LOWEST_ID) is None


def test_what_is_free_of_each_quarter_is_missing() -> None:
    q = [id_at(datetime(2032, month, 1, tzinfo=UTC)) for month in (1, 4, 7, 10)]
    present = [Partition("low", LOWEST_ID, q[1] - 10), Partition("middle", q[1] - 5, q[1] + 5)]
    start = datetime(2032, 2, 3, tzinfo=UTC)
    assert missing_partitions(present, start, start + timedelta(days=100)) == [
        Partition("event_2032_q1", q[1] - 10, q[1] - 5),
        Partition("event_2032_q2", q[1] + 5, q[2]),
    ]
    assert missing_partitions([Partition("all", LOWEST_ID, HIGHEST_ID)], start, start + timedelta(days=900)) == []


async def test_the_canonical_partitions_serve_the_coming_year_and_no_id_minted_later_is_left_out(
    database: Database, url: str
) -> None:
    store = PartitionStore(database)
    assert await store.make_ahead(NOW) == []
    made = [name for year in range(2027, 2035) for name in await store.make_ahead(datetime(year, 6, 1, tzinfo=UTC))]
    # one day in 2028 that the canonical schema leaves out, and what comes after its last range
    assert made[:3] == ["event_2028_q1", "event_2032_q2", "event_2032_q3"]
    for year in range(2026, 2035):
        execution_id = await put(url, datetime(year, 1, 1, 12, tzinfo=UTC))
        assert await partition_of(url, execution_id) != "event_default"
    assert await store.make_ahead(datetime(2034, 6, 1, tzinfo=UTC)) == []


async def test_two_processes_make_each_partition_once(database: Database) -> None:
    moment = datetime(2032, 6, 1, tzinfo=UTC)
    made = await asyncio.gather(*(PartitionStore(database).make_ahead(moment) for _ in range(4)))
    *nothing, made_once = sorted(made, key=len)
    assert nothing == [[], [], []]
    assert made_once == ["event_2032_q2", "event_2032_q3", "event_2032_q4", "event_2033_q1", "event_2033_q2"]


async def test_a_new_partition_is_like_the_others(database: Database, url: str) -> None:
    await PartitionStore(database).make_ahead(datetime(2032, 6, 1, tzinfo=UTC))
    parts: dict[str, list[Any]] = {}
    for name in ("event_2026_q3", "event_2032_q3"):
        parts[name] = await query(
            url,
            "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass),"
            " (SELECT array_agg(pg_get_constraintdef(oid) ORDER BY conname) FROM pg_constraint"
            "   WHERE conrelid = $1::text::regclass AND contype IN ('c', 'f', 'p')),"
            " (SELECT array_agg((attname, atttypid, attnotnull, attstorage)::text ORDER BY attname) FROM pg_attribute"
            "   WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped)",
            f"noetl.{name}",
        )
    assert parts["event_2032_q3"] == parts["event_2026_q3"]


async def test_a_range_of_which_the_default_partition_has_rows_is_left_to_it(database: Database, url: str) -> None:
    execution_id = await put(url, datetime(2032, 8, 1, tzinfo=UTC))
    made = await PartitionStore(database).make_ahead(datetime(2032, 6, 1, tzinfo=UTC))
    assert "event_2032_q3" not in made
    assert "event_2032_q4" in made
    assert await partition_of(url, execution_id) == "event_default"


async def test_the_server_makes_partitions_and_says_so(url: str, database: Database) -> None:
    """`db upgrade` does the same for a role that owns the tables."""
    await query(url, "DROP TABLE noetl.event_2027_h1")
    finished = await noetl_server("db", "upgrade", environment={"DATABASE_URL": url})
    assert (finished.exit_code, finished.errors) == (0, "")
    assert "made partition event_2027_q1\nmade partition event_2027_q2\n" in finished.output


# -- the past ----------------------------------------------------------------------------------------------------------


async def test_only_partitions_without_events_since_the_date_are_old(database: Database, url: str) -> None:
    await put(url, datetime(2025, 5, 1, tzinfo=UTC))
    await put(url, datetime(2026, 2, 1, tzinfo=UTC), at=datetime(2026, 8, 1, tzinfo=UTC))  # ran for long
    await put(url, datetime(2026, 8, 1, tzinfo=UTC))
    # an id of the old Python server: of 2026 by its event, of 2028 by its range
    await put(url, datetime(2028, 2, 1, tzinfo=UTC), at=datetime(2026, 1, 15, tzinfo=UTC))
    old = await RetentionStore(database).old(BEFORE, NOW)
    assert [one.partition.name for one in old] == ["event_pre_2026", "event_2026_q2", "event_2026_q1_standard"]
    assert [one.newest is None for one in old] == [False, True, False]
    inside = datetime(2026, 5, 1, tzinfo=UTC)
    assert "event_2026_q2" not in [one.partition.name for one in await RetentionStore(database).old(BEFORE, inside)]


async def test_unfinished_executions_keep_their_partition(database: Database, url: str) -> None:
    await put(url, datetime(2026, 2, 1, tzinfo=UTC), ended=False)
    store = RetentionStore(database)
    [first] = [one for one in await store.old(BEFORE, NOW) if one.partition.name == "event_2026_q1"]
    assert first.unfinished == 1
    with pytest.raises(ConflictError, match="event_2026_q1 has 1 unfinished executions"):
        await store.detach(first.partition)


async def test_the_command_tells_then_detaches_then_drops(url: str) -> None:
    gone = [await put(url, datetime(2026, 2, 1, tzinfo=UTC), number=number) for number in range(3)]
    kept = await put(url, datetime(2026, 8, 1, tzinfo=UTC))
    open_one = await put(url, datetime(2026, 5, 1, tzinfo=UTC), ended=False)
    environment = {"DATABASE_URL": url}
    log_rows = "SELECT execution_id FROM noetl.event ORDER BY 1"
    everything = [*((one,) for one in gone), (open_one,), (kept,)]

    told = await noetl_server("db", "retention", "--before", "2026-07-01", environment=environment)
    assert told.exit_code == 1  # one is refused
    assert "would detach event_2026_q1: 2026-01-01 to 2026-04-01, newest event 2026-02-01 00:00" in told.output
    assert "refused   event_2026_q2" in told.output
    assert "Nothing was changed" in told.output
    assert await query(url, log_rows) == everything

    done = await noetl_server("db", "retention", "--before", "2026-07-01", "--apply", environment=environment)
    assert "detached  event_2026_q1" in done.output
    assert await query(url, log_rows) == everything[3:]
    assert await query(url, "SELECT count(*) FROM noetl.event_2026_q1") == [(3,)]
    assert len(await query(url, "SELECT FROM noetl.execution")) == 5

    dropped = await noetl_server(
        "db", "retention", "--before", "2026-07-01", "--apply", "--drop", environment=environment
    )
    assert "dropped   event_2026_q1: 2026-01-01 to 2026-04-01" in dropped.output
    assert "with 3 executions" in dropped.output
    assert await query(url, "SELECT to_regclass('noetl.event_2026_q1') IS NULL") == [(True,)]
    for table in ("execution", "command"):
        assert await query(url, f"SELECT execution_id FROM noetl.{table} ORDER BY 1") == everything[3:]
    counted = "SELECT sum(executions)::bigint FROM noetl.execution_tally WHERE catalog_id IS NULL"
    assert await query(url, counted) == [(2,)]


async def test_detaching_gives_way_to_writers(database: Database, url: str) -> None:
    """A transaction that writes holds the log; the detachment asks again instead of stopping everybody behind it."""
    await put(url, datetime(2026, 2, 1, tzinfo=UTC))
    store = RetentionStore(database)
    [first] = [one for one in await store.old(BEFORE, NOW) if one.partition.name == "event_2026_q1"]
    writer = cast("Any", await asyncpg.connect(url))
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("LOCK TABLE noetl.event IN ROW EXCLUSIVE MODE")
    detaching = asyncio.create_task(store.detach(first.partition))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'noetl.event'::regclass"
    async with asyncio.timeout(20):
        while await query(url, waiting) != [(1,)]:  # noqa: ASYNC110 (PostgreSQL tells nobody)
            await asyncio.sleep(0.05)
    # whoever queued behind it gets through while the first writer still holds on
    await asyncio.wait_for(put(url, datetime(2026, 11, 1, tzinfo=UTC)), 5)
    assert not detaching.done()
    await transaction.rollback()
    await writer.close()
    await asyncio.wait_for(detaching, 20)
    assert [part.name for part, _ in await store.detached()] == ["event_2026_q1"]


async def test_without_a_default_partition_it_is_detached_concurrently(database: Database, url: str) -> None:
    await put(url, datetime(2026, 2, 1, tzinfo=UTC))
    await query(url, "DROP TABLE noetl.event_default")
    store = RetentionStore(database)
    [first] = [one for one in await store.old(BEFORE, NOW) if one.partition.name == "event_2026_q1"]
    reader = cast("Any", await asyncpg.connect(url))
    transaction = reader.transaction()
    await transaction.start()
    await reader.execute("LOCK TABLE noetl.event IN ROW EXCLUSIVE MODE")  # an ordinary detachment would wait for this
    detaching = asyncio.create_task(store.detach(first.partition))
    pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
    async with asyncio.timeout(20):
        while await query(url, pending) != [(1,)]:  # noqa: ASYNC110 (PostgreSQL tells nobody)
            await asyncio.sleep(0.05)
    detaching.cancel()  # interrupted while it waits: the next run finishes it
    with pytest.raises(asyncio.CancelledError):
        await detaching
    await transaction.rollback()
    await reader.close()
    await store.detach(first.partition)
    assert [part.name for part, _ in await store.detached()] == ["event_2026_q1"]


async def test_a_role_that_does_not_own_the_log_is_refused(url: str, database: Database) -> None:
    await query(url, "DROP TABLE noetl.event_2027_h2")
    await query(url, "CREATE ROLE retention_guest LOGIN")
    await query(url, "GRANT USAGE, CREATE ON SCHEMA noetl TO retention_guest")
    await query(url, "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA noetl TO retention_guest")
    guest = await Database.connect(
        load_settings({"DATABASE_URL": url.replace("postgres@", "retention_guest@")}).database
    )
    with pytest.raises(RefusedStatementError) as refused:
        await PartitionStore(guest).make_ahead(NOW)
    await guest.close()
    assert refused.value.sqlstate == "42501"
