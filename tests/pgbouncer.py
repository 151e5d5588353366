"""A real PgBouncer in transaction mode, where one is installed (Debian: ``apt-get install pgbouncer``)."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from noetl.dev.services import EmbeddedService

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
VARIABLE = "NOETL_TEST_PGBOUNCER"
"""Set to anything, all databases of a test run are reached through it."""


class PgBouncer(EmbeddedService):
    """Gives few connections of a PostgreSQL to many clients, another one for each transaction."""

    name = "pgbouncer"

    def __init__(self, folder: Path, postgres_port: int) -> None:
        super().__init__(folder)
        self._postgres_port = postgres_port

    def database_dsn(self, database: str) -> str:
        """URL of a database through the pooler."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _prepare(self) -> None:
        folder = self.data_directory
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "users").write_text('"postgres" ""\n')
        (folder / "pgbouncer.ini").write_text(
            f"""
[databases]
* = host=127.0.0.1 port={self._postgres_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 8
max_client_conn = 1000
"""
        )

    def _command(self) -> list[str]:
        assert PROGRAM is not None, "pgbouncer is not installed"
        return [PROGRAM, str(self.data_directory / "pgbouncer.ini")]

    def _user(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    async def _is_ready(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True


@asynccontextmanager
async def open_pgbouncer(postgres_port: int) -> AsyncGenerator[PgBouncer]:
    """A pooler in front of a PostgreSQL on this port of 127.0.0.1."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-pgbouncer-"))
    folder.chmod(0o755)  # noqa: ASYNC240 (one call; the pooler runs as another user under root)
    try:
        async with PgBouncer(folder, postgres_port) as service:
            yield service
    finally:
        shutil.rmtree(folder)
