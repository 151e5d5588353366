"""The servers under load: ours and the reference's program, on one PostgreSQL and one NATS each of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
from nats import connect

from benchmarks.load.connection import Connection
from noetl.dev.server_process import ServerProcess
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
from noetl.store.migrations import load_migrations

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from benchmarks.load.figures import Figures

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


class ReferenceProcess(ServerProcess):
    """The reference server from its own binary."""

    name = "reference"

    def __init__(self, data_directory: Path, environment: Mapping[str, str], binary: Path) -> None:
        super().__init__(data_directory, environment)
        self._binary = binary

    def _command(self) -> list[str]:
        return [str(self._binary)]

    async def _is_ready(self) -> bool:
        connection = Connection("127.0.0.1", self.port)
        try:
            return (await connection.call("GET", "/health")).status == 200
        except OSError:
            return False
        finally:
            connection.close()


@dataclass
class Target:
    """A server under load. ``database_pid`` is the postmaster, ``database_url`` its database."""

    name: str
    port: int
    pid: int
    nats_url: str
    database_url: str
    database_pid: int
    host: str = "127.0.0.1"

    def connect(self) -> Connection:
        """A new connection, not opened yet."""
        return Connection(self.host, self.port)

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask the database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()


def _tree(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *top.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """CPU time that a process, its children and its ended children have used."""
    total = 0.0
    for process in _tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    ended = psutil.Process(pid).cpu_times()
    return total + ended.children_user + ended.children_system


class Meter:
    """Measures what a server and its database use between `begin` and `end`, with the peak of its memory."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._cpu = 0.0
        self._database_cpu = 0.0

    def begin(self) -> None:
        """From here on; the peak of memory starts again (Linux)."""
        for process in _tree(self._target.pid):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        self._cpu = cpu_seconds(self._target.pid)
        self._database_cpu = cpu_seconds(self._target.database_pid)

    def end(self, figures: Figures) -> None:
        """Write what was used into the figures."""
        figures.cpu_seconds = cpu_seconds(self._target.pid) - self._cpu
        figures.database_cpu_seconds = cpu_seconds(self._target.database_pid) - self._database_cpu
        figures.resident_mib = max(_peak_mib(process.pid) for process in _tree(self._target.pid))


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def pin(pid: int, cpus: tuple[int, ...]) -> None:
    """Confine all threads of a process and its children to these CPUs."""
    for process in _tree(pid):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cpus)


@asynccontextmanager
async def open_servers(
    reference: Path | None,
    *,
    cpus: tuple[int, ...] = (),
    environment: Mapping[str, str] | None = None,
    program: type[ServerProcess] = ServerProcess,
) -> AsyncGenerator[list[Target]]:
    """Ours, and the reference where its binary is given, each alone on fresh services; gone with the context.

    ``cpus`` confines the servers, not their services, which are shared by nobody else but by all runs. ``program`` is
    how ours is started.
    """
    async with AsyncExitStack() as stack:
        folder = _open_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = EmbeddedPostgres(folder / "postgres", settings={"max_connections": "200", "shared_buffers": "256MB"})
        nats = [EmbeddedNats(folder / f"nats-{number}") for number in range(1 if reference is None else 2)]
        await stack.enter_async_context(postgres)
        for service in nats:
            await stack.enter_async_context(service)
        database = await _make_database(postgres, "ours")
        servers: list[ServerProcess] = [program(folder / "ours", _settings(database, nats[0], environment or {}))]
        databases = [database]
        if reference is not None:
            database = await _make_database(postgres, "reference", with_schema=True)
            servers.append(ReferenceProcess(folder / "reference", _settings(database, nats[1], {}), reference))
            databases.append(database)
            await _make_stream(nats[1])
        targets: list[Target] = []
        for server, service, database in zip(servers, nats, databases, strict=True):
            await stack.enter_async_context(server)
            if cpus:
                pin(server.pid, cpus)
            name = "ours" if server is servers[0] else "reference"
            targets.append(Target(name, server.port, server.pid, service.url, database, postgres.pid))
        yield targets


def _open_folder() -> Path:
    """A temporary folder that lets PostgreSQL's user pass."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-benchmark-"))
    folder.chmod(0o755)
    return folder


def _settings(database: str, nats: EmbeddedNats, more: Mapping[str, str]) -> dict[str, str]:
    parts = database.removeprefix("postgresql://").replace("@", ":").replace("/", ":").split(":")
    user, host, port, name = parts
    return {
        "DATABASE_URL": database,
        "POSTGRES_HOST": host,
        "POSTGRES_PORT": port,
        "POSTGRES_USER": user,
        "POSTGRES_DATABASE": name,
        "NATS_URL": nats.url,
        "NOETL_NATS_URL": nats.url,
        "NOETL_ENCRYPTION_KEY": KEY,
        "NOETL_SERVER_MACHINE_ID": "1",
        "NOETL_WORKERS": "1",
        "RUST_LOG": "warn",
        **more,
    }


async def _make_database(postgres: EmbeddedPostgres, name: str, *, with_schema: bool = False) -> str:
    """A database; ours makes its schema itself, the reference wants the canonical one."""
    connection = await asyncpg.connect(postgres.dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    url = postgres.database_dsn(name)
    if with_schema:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(load_migrations()[0].sql.replace("{schema}", "noetl"))
            await connection.execute("INSERT INTO noetl.resource (name) VALUES ('Playbook') ON CONFLICT DO NOTHING")
        finally:
            await connection.close()
    return url


async def _make_stream(nats: EmbeddedNats) -> None:
    """The stream that the reference publishes to and does not make."""
    client = await connect(nats.url)
    await client.jetstream().add_stream(name="noetl_commands", subjects=["noetl.commands", "noetl.commands.>"])
    await client.close()
