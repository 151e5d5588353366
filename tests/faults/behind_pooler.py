"""Two servers behind a real PgBouncer in transaction mode (spec 70, I18); needs its program.

    python -m tests.faults.behind_pooler /usr/sbin/pgbouncer [--executions 60] [--capacity 0]

Six server connections serve both servers, so every transaction may meet another session; workers repeat requests and
hang up. Afterwards the database must say that nothing was lost or done twice.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from noetl.dev.server_process import ServerProcess
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres, free_port
from tests.faults.checker import query
from tests.faults.site import QUICK, Site
from tests.faults.worker import CARELESS, Crew
from tests.faults.workflows import MIXED

PORT_SECONDS: Final = 10.0


class Pooler:
    """PgBouncer before one database."""

    def __init__(self, program: str, folder: Path, database_url: str) -> None:
        parts = urlsplit(database_url)
        name = parts.path.removeprefix("/")
        self._port = free_port()
        self.url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{self._port}").geturl()
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n{name} = host={parts.hostname} port={parts.port} dbname={name} user={parts.username}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 6\nmax_client_conn = 500\n"
        )
        self._command = [program, str(settings)]
        if os.geteuid() == 0:
            self._command[1:1] = ["-u", "nobody"]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Pooler:
        self._process = await asyncio.create_subprocess_exec(*self._command, stderr=asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(PORT_SECONDS):
            while True:
                try:
                    connection = await asyncpg.connect(self.url, statement_cache_size=0)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    await connection.close()
                    return self

    async def __aexit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()


def _open_folder() -> Path:
    """A temporary folder that lets the users of PostgreSQL and PgBouncer pass."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-pooler-"))
    folder.chmod(0o755)
    return folder


async def run(program: str, executions: int, capacity: int) -> None:
    """Start everything, run the mixed workflows, and look."""
    folder = _open_folder()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres"))
        nats = await stack.enter_async_context(EmbeddedNats(folder / "nats"))
        pooler = await stack.enter_async_context(Pooler(program, folder, postgres.dsn))
        site = Site(postgres, nats, [], postgres.dsn)
        for number in range(2):
            settings = {
                "DATABASE_URL": pooler.url,
                "NATS_URL": nats.url,
                "NOETL_PG_STATEMENT_CACHE_CAPACITY": str(capacity),
                "NOETL_SERVER_MACHINE_ID": str(number),
                **QUICK,
            }
            server = ServerProcess(folder / f"server-{number}", settings)
            site.servers.append(await stack.enter_async_context(server))
        await site.register(MIXED)
        async with Crew(site.urls, nats.url, slots=12, habits=CARELESS) as crew:
            await asyncio.gather(*(site.start(MIXED[key % len(MIXED)], f"run-{key}") for key in range(executions)))
            await site.finished(crew)
            await site.prove(crew)
        clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname IS NOT NULL"
        sessions = (await query(postgres.dsn, clients))[0][0]
        print(f"{executions} executions, {crew.done} commands, {sessions} sessions: all proven")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--executions", type=int, default=60)
    parser.add_argument("--capacity", type=int, default=0, help="of the statement cache; 0 is the setting for poolers")
    options = parser.parse_args()
    asyncio.run(run(options.program, options.executions, options.capacity))


if __name__ == "__main__":
    main()
