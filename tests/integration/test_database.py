"""The pool: sessions, time-outs, errors, broken connections (spec 50, section 2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from noetl.config import load_settings
from noetl.errors import DatabaseError, DatabaseUnavailableError
from noetl.store.database import ConnectionLostError, Database, RefusedStatementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.store.connection import Connection
    from tests.conftest import MakePostgres

UNUSED_PORT = 1


async def connect(url: str, **variables: str) -> Database:
    return await Database.connect(load_settings({"DATABASE_URL": url, **variables}).database)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = await connect(database_url, POSTGRES_MAX_CONNECTIONS="3", POSTGRES_ACQUIRE_TIMEOUT="0.3", NOETL_LANES="1")
    yield opened
    await opened.close()


async def test_sessions_are_in_utc_and_named(database: Database) -> None:
    await database.execute("ALTER ROLE current_user SET TimeZone = 'America/New_York'")
    try:
        assert await database.fetchval("SELECT current_setting('TimeZone')") == "UTC"
        assert await database.fetchval("SELECT current_setting('application_name')") == "noetl-control-plane"
        connection = await database.connect_dedicated()
        assert await connection.fetchval("SELECT current_setting('TimeZone')") == "UTC"
        await connection.close()
    finally:
        await database.execute("ALTER ROLE current_user RESET TimeZone")


async def test_jsonb_passes_through_as_text(database: Database) -> None:
    assert await database.fetchval("SELECT $1::jsonb", '{"a": [1.0, null]}') == '{"a": [1.0, null]}'


async def test_a_refused_statement_keeps_the_servers_words_for_the_log(database: Database) -> None:
    with pytest.raises(RefusedStatementError) as refused:
        await database.fetchval("SELECT 1 / 0")
    assert refused.value.message == "Database error"
    assert refused.value.detail == "Database error: error returned from database: division by zero"
    assert refused.value.sqlstate == "22012"


@pytest.mark.parametrize(
    "cause",
    [
        "SET LOCAL transaction_read_only = on; CREATE TABLE never ()",
        "DO $$ BEGIN RAISE 'could not extend file' USING errcode = '53100'; END $$",
        "DO $$ BEGIN RAISE 'out of memory' USING errcode = '53200'; END $$",
    ],
)
async def test_a_database_that_cannot_write_at_the_moment_is_unavailable(database: Database, cause: str) -> None:
    """A full disk or a failover passes: clients are told to come again, not that they were wrong."""
    with pytest.raises(DatabaseUnavailableError, match="the database is unreachable"):
        async with database.transaction() as connection:
            await connection.execute(cause)


async def test_an_error_inside_a_transaction_rolls_it_back(database: Database) -> None:
    await database.execute("CREATE TABLE rolled (a integer)")

    async def write_and_fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO rolled VALUES (1)")
            await connection.execute("SELECT nothing")

    with pytest.raises(DatabaseError):
        await write_and_fail()
    assert await database.fetchval("SELECT count(*) FROM rolled") == 0


async def test_reads_of_one_execution_leave_no_transaction_and_no_setting_behind(database: Database) -> None:
    state = "SELECT current_setting('transaction_read_only') || current_setting('plan_cache_mode')"
    assert await database.read_one(lambda connection: connection.fetchval(state)) == "onforce_generic_plan"
    with pytest.raises(RefusedStatementError, match="Database error"):
        await database.read_one(lambda connection: connection.fetchval("SELECT 1 / 0"))
    reading = asyncio.create_task(database.read_one(lambda connection: connection.execute("SELECT pg_sleep(30)")))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await asyncio.gather(*(database.fetchval(state) for _ in range(9))) == ["offauto"] * 9


async def test_a_read_whose_connection_breaks_is_made_again(database: Database) -> None:
    calls = 0

    async def read(connection: Connection) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            await connection.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
        return await connection.fetchval("SELECT 7")

    assert await database.read_one(read) == 7
    assert calls == 2


async def test_an_exhausted_pool_answers_unavailable_and_recovers(database: Database) -> None:
    release = asyncio.Event()
    held = asyncio.Barrier(4)

    async def hold() -> None:
        async with database.acquire():
            await held.wait()
            await release.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(hold())
        await held.wait()
        waiting = asyncio.create_task(database.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        assert database.statistics().waiting == 1
        with pytest.raises(DatabaseUnavailableError, match="pool timed out while waiting for an open connection"):
            await waiting
        assert (database.statistics().size, database.statistics().idle, database.statistics().waiting) == (3, 0, 0)
        release.set()
    assert await database.fetchval("SELECT 1") == 1


async def test_a_cancelled_request_gives_its_connection_back(database: Database) -> None:
    for _ in range(6):
        running = asyncio.create_task(database.fetchval("SELECT pg_sleep(60)"))
        async with asyncio.timeout(5):
            # the statement's start is no event that the client sees
            while database.statistics().size == 0 or database.statistics().idle == database.statistics().size:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await database.fetchval("SELECT 1") == 1


async def test_reads_survive_connections_that_died_while_idle(database: Database, database_url: str) -> None:
    other = await connect(database_url)
    for _ in range(30):  # how the driver notices depends on the moment: each of its ways must be survived
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(database.fetchval("SELECT pg_sleep(0.01)"))
        assert database.statistics().idle == 3
        killed = await other.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        assert killed >= 3
        assert await database.fetchval("SELECT 1") == 1
    await other.close()


async def test_a_write_on_a_broken_connection_is_not_sent_twice(database: Database) -> None:
    await database.execute("CREATE SEQUENCE attempts")
    cut = "SELECT nextval('attempts'), pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(ConnectionLostError):
        await database.execute(cut)
    assert await database.fetchval("SELECT last_value FROM attempts") == 1
    with pytest.raises(ConnectionLostError):
        await database.fetchval(cut)
    assert await database.fetchval("SELECT last_value FROM attempts") == 3


async def test_a_database_that_is_not_there_is_waited_for_and_then_given_up() -> None:
    with pytest.raises(DatabaseUnavailableError, match="pool timed out"):
        await connect(f"postgresql://noetl@127.0.0.1:{UNUSED_PORT}/noetl", POSTGRES_ACQUIRE_TIMEOUT="0.5")


async def test_an_unknown_database_is_refused_at_once(database_url: str) -> None:
    with pytest.raises(DatabaseError, match="Database error") as refused:
        await connect(database_url.rpartition("/")[0] + "/nowhere")
    assert refused.value.detail is not None
    assert 'database "nowhere" does not exist' in refused.value.detail


async def test_the_pool_survives_a_crash_of_the_server(make_postgres: MakePostgres) -> None:
    cluster = await make_postgres()
    database = await connect(cluster.dsn)
    assert await database.health(2)
    await cluster.kill()
    async with asyncio.timeout(10):
        while await database.health(2):  # noqa: ASYNC110 (orphaned backends answer until they notice)
            await asyncio.sleep(0.01)
    with pytest.raises(DatabaseUnavailableError):
        await database.fetchval("SELECT 1")
    await cluster.restart()
    assert await database.fetchval("SELECT 1") == 1
    await database.close()


async def test_without_a_statement_cache_everything_works_and_nothing_is_prepared_by_name(database_url: str) -> None:
    database = await connect(database_url, NOETL_PG_STATEMENT_CACHE_CAPACITY="0")
    # Each statement is planned anew: for the values at hand, not for all partitions.
    assert await database.read_one(lambda one: one.fetchval("SELECT current_setting('plan_cache_mode')")) == "auto"
    async with database.transaction() as connection:
        for number in range(5):
            assert await connection.fetchval("SELECT $1::integer + 1", number) == number + 1
        assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
    await database.close()
