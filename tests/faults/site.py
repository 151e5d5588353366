"""Everything that can be killed: two servers, a PostgreSQL and a NATS of the test's own."""

from __future__ import annotations

import asyncio
import random
import shutil
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from noetl.dev.services import EmbeddedNats
from tests.faults.checker import differing_plans, not_stored_once, query, unfinished, violations
from tests.faults.wire import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from noetl.dev.server_process import ServerProcess
    from noetl.dev.services import EmbeddedPostgres
    from tests.conftest import MakePostgres, MakeServer
    from tests.faults.worker import Crew
    from tests.faults.workflows import Workflow

QUICK = {
    "NOETL_ANNOUNCE_AFTER_SECONDS": "1",
    "NOETL_COMMAND_REAPER_PENDING_RETRY_SECONDS": "15",
    "NOETL_COMMAND_CLAIM_LEASE_SECONDS": "5",
    "NOETL_COMMAND_REAPER_INTERVAL_SECONDS": "10",
    "NOETL_COMMAND_MAX_ATTEMPTS": "100",
}
"""Limits as short as the settings allow, and no end of attempts: the faults here are not the worker's."""


@dataclass
class Site:
    """The services under test, and the plan of each execution that was started on them."""

    postgres: EmbeddedPostgres
    nats: EmbeddedNats
    servers: list[ServerProcess]
    database_url: str
    plans: dict[int, Mapping[str, int]] = field(default_factory=dict)

    @property
    def urls(self) -> list[str]:
        """Base URLs of the servers."""
        return [server.url for server in self.servers]

    async def register(self, workflows: Sequence[Workflow]) -> None:
        """Put playbooks into the catalog."""
        client = Client(self.urls)
        for workflow in workflows:
            status, answer = await client.insist("POST", "/api/catalog/register", {"content": workflow.text})
            assert status == 200, answer
        client.close()

    async def start(self, workflow: Workflow, key: str, payload: Any = None) -> int:
        """Start an execution once, however often the request has to be sent."""
        client = Client(self.urls, first=len(self.plans))
        try:
            body = {"path": workflow.path, "payload": payload or {}, "idempotency_key": key}
            status, answer = await client.insist("POST", "/api/execute", body)
            assert status == 200, answer
        finally:
            client.close()
        execution_id = int(answer["execution_id"])
        self.plans[execution_id] = workflow.expected
        return execution_id

    async def finished(self, crew: Crew | None = None, within_seconds: float = 120) -> None:
        """Wait until every execution has ended; say what is open when they do not."""
        try:
            async with asyncio.timeout(within_seconds):
                while await unfinished(self.database_url):
                    if crew is not None and (failure := crew.failure()) is not None:
                        raise failure
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise AssertionError(f"not finished: {await self.open_commands()}") from None

    async def open_commands(self) -> list[Any]:
        """Commands that wait, or whose worker has not reported."""
        return await query(
            self.database_url,
            "SELECT execution_id, step_name, status, attempt, worker_id, now() - updated_at FROM noetl.command"
            " WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED') ORDER BY 1 LIMIT 20",
        )

    async def prove(self, crew: Crew, *, nobody_is_late: bool = True) -> None:
        """What must hold after every fault (design.md, promises P1-P3)."""
        assert await violations(self.database_url, nobody_is_late=nobody_is_late) == {}
        assert await differing_plans(self.database_url, self.plans) == {}
        assert await not_stored_once(self.database_url, crew.acknowledged) == []
        assert crew.refused == []


@asynccontextmanager
async def open_site(
    make_postgres: MakePostgres, make_server: MakeServer, folder: Path, *, servers: int = 2
) -> AsyncGenerator[Site]:
    """Start everything; each server has an identity of its own."""
    postgres = await make_postgres()
    connection: Any = await asyncpg.connect(postgres.dsn)
    await connection.execute("CREATE DATABASE faults")
    await connection.close()
    database_url = postgres.database_dsn("faults")
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(EmbeddedNats(folder))
        site = Site(postgres, nats, [], database_url)
        for number in range(servers):
            environment = {"NOETL_SERVER_MACHINE_ID": str(number), "NOETL_SERVER_NAME": f"server-{number}", **QUICK}
            server = await make_server(environment, database_url=database_url, nats_url=nats.url)
            stack.push_async_callback(server.stop)
            site.servers.append(server)
        yield site


async def kill_server(site: Site) -> None:
    """One of the servers dies and is started again."""
    server = random.choice(site.servers)
    await server.kill()
    await server.start()


async def kill_nats(site: Site) -> None:
    """NATS dies and comes back with its streams."""
    await site.nats.kill()
    await site.nats.start()


async def empty_nats(site: Site) -> None:
    """NATS dies and comes back with nothing: no stream, no consumer, no message."""
    await site.nats.kill()
    shutil.rmtree(site.nats.data_directory / "jetstream")
    await site.nats.start()


async def kill_postgres(site: Site) -> None:
    """PostgreSQL dies and recovers."""
    await site.postgres.kill()
    await site.postgres.start()


async def kill_everything(site: Site) -> None:
    """As a power cut of the whole site."""
    await asyncio.gather(*(server.kill() for server in site.servers), site.nats.kill(), site.postgres.kill())
    await asyncio.gather(site.nats.start(), site.postgres.start())
    await asyncio.gather(*(server.start() for server in site.servers))
