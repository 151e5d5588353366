"""Fixtures for every test: a real PostgreSQL, a real NATS, fresh databases, and the real server as a process.

=======================  ========  ==================================================================================
fixture                  scope     gives
=======================  ========  ==================================================================================
postgres                 session   `EmbeddedPostgres`: one cluster for all tests (fsync off)
nats                     module    `EmbeddedNats`: an empty server; what one module publishes never reaches another
database_url             module    DSN of a fresh, empty database
migrated_database_url    module    DSN of a fresh database that has the newest schema
make_database            session   ``await make_database()`` -> DSN of one more empty database
make_postgres            function  ``await make_postgres()`` -> a cluster of one's own, to be killed
make_server              module    ``await make_server({"NOETL_...": "..."})`` -> a running `ServerProcess`
=======================  ========  ==================================================================================

Asynchronous tests and fixtures share one event loop (``asyncio_default_test_loop_scope`` is ``session``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncpg
import pytest

from noetl.dev.server_process import ServerProcess
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
from tests.pgbouncer import VARIABLE, open_pgbouncer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from tests.pgbouncer import PgBouncer

ENCRYPTION_KEY: Final = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
"""32 bytes in base64; protects nothing but the data of tests."""

INTERNAL_TOKEN: Final = "internal-token-of-the-tests"

POSTGRES_SETTINGS: Final = {
    "fsync": "off",  # survives a kill -9 of PostgreSQL, not a power failure: all that a test needs
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}


class MakeDatabase(Protocol):
    """Creates a database and returns its DSN; ``template`` names the database to copy."""

    async def __call__(self, template: str | None = None) -> str: ...


class MakePostgres(Protocol):
    """Starts a cluster of the test's own; ``settings`` are server settings beside those of all tests."""

    async def __call__(self, settings: Mapping[str, str] | None = None) -> EmbeddedPostgres: ...


class MakeServer(Protocol):
    """Starts the server and returns it ready, or not yet started with ``start=False``.

    Without ``database`` or ``nats`` in the call it uses the module's; ``nats_url=""`` starts it without NATS.
    """

    async def __call__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        database_url: str | None = None,
        nats_url: str | None = None,
        port: int | None = None,
        start: bool = True,
    ) -> ServerProcess: ...


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    """One cluster for the whole run."""
    # not pytest's own folder: that one is private, and under root PostgreSQL runs as another user
    folder = tempfile.mkdtemp(prefix="noetl-postgres-")
    try:
        async with EmbeddedPostgres(folder, settings=POSTGRES_SETTINGS) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
async def nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    """A NATS server with JetStream and no streams."""
    async with EmbeddedNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
async def pooler(postgres: EmbeddedPostgres) -> AsyncIterator[PgBouncer | None]:
    """What all databases are reached through, if a variable asks for it."""
    if VARIABLE not in os.environ:
        yield None
        return
    async with open_pgbouncer(postgres.port) as service:
        yield service


@pytest.fixture(scope="session")
async def make_database(postgres: EmbeddedPostgres, pooler: PgBouncer | None) -> AsyncIterator[MakeDatabase]:
    """Fresh databases ``test_1``, ``test_2``, ..., dropped with the cluster."""
    count = 0
    administration: Any = await asyncpg.connect(postgres.dsn)

    async def make(template: str | None = None) -> str:
        nonlocal count
        count += 1
        copied = f' TEMPLATE "{template}"' if template else ""
        await administration.execute(f"CREATE DATABASE test_{count}{copied}")
        return (pooler or postgres).database_dsn(f"test_{count}")

    try:
        yield make
    finally:
        await administration.close()


@pytest.fixture(scope="module")
async def database_url(make_database: MakeDatabase) -> str:
    """An empty database."""
    return await make_database()


@pytest.fixture(scope="session")
async def schema_template(postgres: EmbeddedPostgres, make_database: MakeDatabase) -> str:
    """Name of a database with the newest schema that nobody is connected to, to be copied."""
    from noetl.store.migrations import upgrade_url

    name = (await make_database()).rpartition("/")[2]
    await upgrade_url(postgres.database_dsn(name))
    return name


@pytest.fixture(scope="module")
async def migrated_database_url(make_database: MakeDatabase, schema_template: str) -> str:
    """A database with the newest schema and no rows beside its seeds."""
    return await make_database(schema_template)


@pytest.fixture
async def make_postgres() -> AsyncIterator[MakePostgres]:
    """Clusters for tests that kill them."""
    async with AsyncExitStack() as stack:

        async def make(settings: Mapping[str, str] | None = None) -> EmbeddedPostgres:
            folder = tempfile.mkdtemp(prefix="noetl-postgres-")
            stack.callback(shutil.rmtree, folder)
            cluster = EmbeddedPostgres(folder, settings={**POSTGRES_SETTINGS, **(settings or {})})
            return await stack.enter_async_context(cluster)

        yield make


@pytest.fixture(scope="module")
async def make_server(
    tmp_path_factory: pytest.TempPathFactory, database_url: str, nats: EmbeddedNats
) -> AsyncIterator[MakeServer]:
    """Servers that stop at the end of the module; ``kill``, ``stop`` and ``restart`` are the test's to call."""
    module_database, module_nats = database_url, nats.url
    async with AsyncExitStack() as stack:

        async def make(
            environment: Mapping[str, str] | None = None,
            *,
            database_url: str | None = None,
            nats_url: str | None = None,
            port: int | None = None,
            start: bool = True,
        ) -> ServerProcess:
            settings = {
                "DATABASE_URL": module_database if database_url is None else database_url,
                "NATS_URL": module_nats if nats_url is None else nats_url,
                "NOETL_ENCRYPTION_KEY": ENCRYPTION_KEY,
                "NOETL_INTERNAL_API_TOKEN": INTERNAL_TOKEN,
                "NOETL_SERVER_MACHINE_ID": "1",
                "NOETL_WORKERS": "1",
                "NOETL_SHUTDOWN_DELAY_SECONDS": "0",  # no load balancer has to notice
                **(environment or {}),
            }
            server = ServerProcess(tmp_path_factory.mktemp("server"), settings, port=port)
            stack.push_async_callback(server.stop)
            if start:
                await server.start()
            return server

        yield make
