"""Behind PgBouncer in transaction mode (I18): what the ledger, the lists and the recovery need works there as well."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from noetl.config import load_settings
from noetl.store.database import Database
from tests.faults.checker import open_check
from tests.faults.history import History
from tests.faults.wire import Client
from tests.faults.worker import Crew
from tests.faults.workflows import MIXED
from tests.pgbouncer import PROGRAM, VARIABLE, open_pgbouncer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
    from tests.conftest import MakeDatabase, MakeServer
    from tests.pgbouncer import PgBouncer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")

FOLDER = Path(__file__).parent
TESTS = ("test_ledger.py", "http/test_database_routes.py::test_nothing_of_a_statement_stays_behind")
"""Any test that needs no other database user passes so: ``NOETL_TEST_PGBOUNCER=1 pytest tests/integration/...``."""


@pytest.fixture
async def pooled(postgres: EmbeddedPostgres) -> AsyncIterator[PgBouncer]:
    async with open_pgbouncer(postgres.port) as service:
        yield service


async def test_pooler_is_noticed_and_nothing_is_prepared(pooled: PgBouncer, make_database: MakeDatabase) -> None:
    name = (await make_database()).rpartition("/")[2]
    databases = [
        await Database.connect(load_settings({"DATABASE_URL": pooled.database_dsn(name)}).database) for _ in range(2)
    ]
    for number in range(100):
        values = await asyncio.gather(
            *(database.fetchval("SELECT $1::integer", number) for database in databases for _ in range(4))
        )
        assert values == [number] * 8
    named = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
    assert await databases[0].fetchval(named) == 0
    for database in databases:
        await database.close()


async def test_server_runs_workflows_through_the_pooler(
    pooled: PgBouncer, make_server: MakeServer, make_database: MakeDatabase, nats: EmbeddedNats
) -> None:
    name = (await make_database()).rpartition("/")[2]
    url = pooled.database_dsn(name)
    server = await make_server(database_url=url)
    client = Client([server.url])
    history = History()
    for workflow in MIXED:
        assert (await client.insist("POST", "/api/catalog/register", {"content": workflow.text}))[0] == 200
    plans = {}
    async with Crew([server.url], nats.url, slots=8, history=history) as crew:
        for workflow in MIXED:
            _, started = await client.insist("POST", "/api/execute", {"path": workflow.path})
            plans[int(started["execution_id"])] = workflow
        async with asyncio.timeout(60):
            for execution_id in plans:
                status = {}
                while not (status.get("completed") or status.get("failed")):
                    assert crew.failure() is None
                    _, status = await client.insist("GET", f"/api/executions/{execution_id}/status")
                    await asyncio.sleep(0.05)
    client.close()
    async with open_check(url) as check:
        await check.log()
        await check.models(plans)
        await check.history(history)
    assert check.broken == {}
    assert "prepared statement" not in server.log_text()


@pytest.mark.slow
async def test_integration_tests_pass_through_the_pooler() -> None:
    """In a process of their own, whose databases are all behind it."""
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            *(str(FOLDER / name) for name in TESTS),
        ),
        env={**os.environ, VARIABLE: "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
