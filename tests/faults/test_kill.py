"""`kill -9` of server, NATS and PostgreSQL in the middle of a mixed load."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import yaml

from noetl.client import ApiError
from noetl.dev.control_plane import ControlPlane
from noetl.dev.services import EmbeddedNats
from noetl.dev.worker import LocalWorker
from tests.faults.checker import unfinished, violations

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.server_process import ServerProcess
    from noetl.dev.services import EmbeddedPostgres
    from tests.conftest import MakePostgres, MakeServer

ROUNDS = int(os.environ.get("NOETL_FAULT_ROUNDS", "1"))
EXECUTIONS = 12
NOOP = {"kind": "noop"}


def playbook(name: str, *steps: dict[str, Any]) -> str:
    """A playbook of noop steps."""
    workflow = [{"tool": NOOP, **step} for step in steps]
    metadata = {"name": name, "path": f"faults/{name}"}
    return yaml.safe_dump(
        {"apiVersion": "noetl.io/v2", "kind": "Playbook", "metadata": metadata, "workflow": workflow}
    )  # fmt: skip


PLAYBOOKS = {
    "chain": playbook(
        "chain",
        {"step": "start", "next": "a"},
        {"step": "a", "next": "b"},
        {"step": "b", "next": "c"},
        {"step": "c", "next": "end"},
        {"step": "end"},
    ),
    "fan": playbook(
        "fan",
        {"step": "start", "next": ["a", "b", "c"]},
        {"step": "a", "next": "join"},
        {"step": "b", "next": "join"},
        {"step": "c", "next": "join"},
        {"step": "join", "next": "end"},
        {"step": "end"},
    ),
    "parallel": playbook(
        "parallel",
        {"step": "start", "next": "many"},
        {
            "step": "many",
            "loop": {"in": "{{ range(20) }}", "iterator": "i", "spec": {"mode": "parallel"}},
            "next": "end",
        },
        {"step": "end"},
    ),
    "sequential": playbook(
        "sequential",
        {"step": "start", "next": "each"},
        {"step": "each", "loop": {"in": "{{ range(5) }}", "iterator": "i"}, "next": "end"},
        {"step": "end"},
    ),
}


@dataclass
class Site:
    """Everything that can be killed."""

    postgres: EmbeddedPostgres
    nats: EmbeddedNats
    servers: list[ServerProcess]
    database_url: str

    @property
    def client(self) -> ControlPlane:
        """The first server."""
        return ControlPlane(self.servers[0].url)


@pytest.fixture
async def site(
    make_postgres: MakePostgres, make_server: MakeServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    postgres = await make_postgres()
    connection: Any = await asyncpg.connect(postgres.dsn)
    await connection.execute("CREATE DATABASE faults")
    await connection.close()
    database_url = postgres.database_dsn("faults")
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(EmbeddedNats(tmp_path_factory.mktemp("nats")))
        servers: list[ServerProcess] = []
        for number in range(2):
            environment = {
                "NOETL_SERVER_MACHINE_ID": str(number),
                "NOETL_ANNOUNCE_AFTER_SECONDS": "1",
                "NOETL_COMMAND_CLAIM_LEASE_SECONDS": "10",
                "NOETL_COMMAND_REAPER_INTERVAL_SECONDS": "10",
            }
            server = await make_server(environment, database_url=database_url, nats_url=nats.url)
            stack.push_async_callback(server.stop)
            servers.append(server)
        yield Site(postgres, nats, servers, database_url)


async def insist(site: Site, method: str, path: str, body: Any) -> Any:
    """A request that is repeated until some server answers it, as a careful client does."""
    while True:
        for server in site.servers:
            try:
                return await ControlPlane(server.url).call(method, path, body)
            except (ApiError, OSError) as error:
                if isinstance(error, ApiError) and error.status < 500:
                    raise
        await asyncio.sleep(0.1)


async def load(site: Site, round_number: int) -> None:
    """Start executions of all kinds, each exactly once however often the request is sent."""
    for text in PLAYBOOKS.values():
        await insist(site, "POST", "/api/catalog/register", {"content": text})

    async def one(number: int) -> None:
        path = f"faults/{list(PLAYBOOKS)[number % len(PLAYBOOKS)]}"
        key = f"round-{round_number}-{number}"
        await insist(site, "POST", "/api/execute", {"path": path, "idempotency_key": key})

    async with asyncio.TaskGroup() as group:
        for number in range(EXECUTIONS):
            group.create_task(one(number))
            await asyncio.sleep(0.05)


async def kill_server(site: Site) -> None:
    server = random.choice(site.servers)
    await server.kill()
    await server.start()


async def kill_nats(site: Site) -> None:
    await site.nats.kill()
    await site.nats.start()


async def kill_postgres(site: Site) -> None:
    await site.postgres.kill()
    await site.postgres.start()


@pytest.mark.parametrize("fault", [kill_server, kill_nats, kill_postgres], ids=["server", "nats", "postgres"])
async def test_nothing_is_lost_or_done_twice(site: Site, fault: Any) -> None:
    stop = asyncio.Event()
    workers = [
        asyncio.create_task(
            LocalWorker(server.url, site.nats.url, worker_id=f"worker-{number}", concurrency=8).run(stop)
        )
        for number, server in enumerate(site.servers)
    ]
    for round_number in range(ROUNDS):
        loading = asyncio.create_task(load(site, round_number))
        for _ in range(3):
            await asyncio.sleep(random.uniform(0.2, 0.6))
            await fault(site)
        await loading
        try:
            async with asyncio.timeout(100):
                while await unfinished(site.database_url):  # noqa: ASYNC110 (only the database knows)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            pytest.fail(f"not finished: {await violations(site.database_url)}")
        assert await violations(site.database_url) == {}
    stop.set()
    await asyncio.wait_for(asyncio.gather(*workers), 30)
