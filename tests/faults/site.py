"""Everything that can fail: servers, a PostgreSQL, a NATS and the network between them, of a test's own."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from noetl.dev.server_process import ServerProcess
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
from tests.conftest import ENCRYPTION_KEY, INTERNAL_TOKEN, POSTGRES_SETTINGS
from tests.faults.checker import open_check, query, unfinished
from tests.faults.proxy import Link
from tests.faults.wire import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence

    from tests.faults.history import History
    from tests.faults.worker import Crew
    from tests.faults.workflows import Workflow

QUICK = {
    "NOETL_ANNOUNCE_AFTER_SECONDS": "1",
    "NOETL_COMMAND_REAPER_PENDING_RETRY_SECONDS": "15",
    "NOETL_COMMAND_CLAIM_LEASE_SECONDS": "5",
    "NOETL_COMMAND_REAPER_WORKER_STALE_SECONDS": "30",
    "NOETL_COMMAND_REAPER_INTERVAL_SECONDS": "10",
    "NOETL_COMMAND_MAX_ATTEMPTS": "100",
}
"""Limits as short as the settings allow, and no end of attempts: the faults here are not the worker's."""


@dataclass
class Site:
    """The services under test, the links between them, and the plan of each execution that was started on them.

    ``links`` are named ``postgres-0`` (of server 0), ``nats-0``, ``server-0`` (of clients to server 0) and
    ``nats-workers``.
    """

    postgres: EmbeddedPostgres
    nats: EmbeddedNats
    database_url: str
    folder: Path
    servers: list[ServerProcess] = field(default_factory=list)
    links: dict[str, Link] = field(default_factory=dict)
    plans: dict[int, Workflow] = field(default_factory=dict)
    volume: Path | None = None
    """A small file system of its own for PostgreSQL, where there is one."""

    @property
    def urls(self) -> list[str]:
        """Base URLs of the servers, for clients."""
        return [f"http://127.0.0.1:{self.links[f'server-{number}'].port}" for number in range(len(self.servers))]

    @property
    def nats_url(self) -> str:
        """NATS, for workers."""
        return f"nats://127.0.0.1:{self.links['nats-workers'].port}"

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
        self.plans[execution_id] = workflow
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

    async def prove(self, history: History, *, nobody_is_late: bool = True) -> None:
        """What must hold after every fault (design.md, promises P1-P3)."""
        async with open_check(self.database_url) as check:
            await check.log(nobody_is_late=nobody_is_late)
            await check.models(self.plans, history.cancels)
            await check.history(history)
            assert check.broken == {}


@contextmanager
def _folder(volume_mib: int) -> Generator[Path]:
    """A folder with another one, ``volume``, in it, which may be a file system of its own."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-faults-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user under root
    volume = folder / "volume"
    volume.mkdir()
    try:
        if volume_mib:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={volume_mib}m", "noetl-faults", volume], check=True)
        yield folder
    finally:
        if volume_mib:
            subprocess.run(["umount", "--lazy", volume], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def open_site(
    *, servers: int = 2, volume_mib: int = 0, clock: Path | None = None, server: type[ServerProcess] = ServerProcess
) -> AsyncGenerator[Site]:
    """Start everything; each server has an identity of its own.

    With ``volume_mib`` PostgreSQL gets a file system of that size (root only); ``clock`` is the libfaketime library
    that the last server is started with, to be told what time it is.
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(_folder(volume_mib))
        volume = folder / "volume"
        settings = {**POSTGRES_SETTINGS, "max_wal_size": "64MB", "wal_recycle": "off"}
        postgres = await stack.enter_async_context(EmbeddedPostgres(volume / "postgres", settings=settings))
        connection: Any = await asyncpg.connect(postgres.dsn)
        await connection.execute("CREATE DATABASE faults")
        await connection.close()
        nats = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
        site = Site(postgres, nats, postgres.database_dsn("faults"), folder)
        site.volume = volume if volume_mib else None

        async def link(name: str, target: int) -> int:
            site.links[name] = await stack.enter_async_context(Link(name, target))
            return site.links[name].port

        await link("nats-workers", nats.port)
        for number in range(servers):
            postgres_port = await link(f"postgres-{number}", postgres.port)
            nats_port = await link(f"nats-{number}", nats.port)
            environment = {
                "DATABASE_URL": f"postgresql://postgres@127.0.0.1:{postgres_port}/faults",
                "NATS_URL": f"nats://127.0.0.1:{nats_port}",
                "NOETL_ENCRYPTION_KEY": ENCRYPTION_KEY,
                "NOETL_INTERNAL_API_TOKEN": INTERNAL_TOKEN,
                "NOETL_SERVER_MACHINE_ID": str(number),
                "NOETL_SERVER_NAME": f"server-{number}",
                "NOETL_WORKERS": "1",
                "NOETL_SHUTDOWN_DELAY_SECONDS": "0",
                **QUICK,
            }
            if clock is not None and number == servers - 1:
                environment |= _clock(clock, folder)
            process = await stack.enter_async_context(server(folder / f"server-{number}", environment))
            await link(f"server-{number}", process.port)
            site.servers.append(process)
        yield site


def _clock(library: Path, folder: Path) -> dict[str, str]:
    """A clock that follows what the file says, read again every second; the monotonic clock stays true."""
    set_clock(folder, 0)
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(folder: Path, seconds: int) -> None:
    """Put the clock of the last server so many seconds ahead."""
    new = folder / "clock.new"
    new.write_text(f"{seconds:+d}s\n")
    new.replace(folder / "clock")
