"""Everything for one machine: embedded PostgreSQL and NATS, the server and a worker, started and stopped together."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import os
import secrets
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar

from noetl.dev.server_process import PythonProcess, ServerProcess
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres, ServiceError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from types import TracebackType

    from noetl.dev.services import EmbeddedService

WATCH_SECONDS: Final = 0.2

T = TypeVar("T")


class WorkerProcess(PythonProcess):
    """`noetl.dev.worker` as a child process."""

    name = "worker"

    def __init__(self, data_directory: Path, server_url: str, nats_url: str) -> None:
        super().__init__(data_directory)
        self._server_url = server_url
        self._nats_url = nats_url

    def _command(self) -> list[str]:
        arguments = ["--server", self._server_url, "--nats", self._nats_url]
        return [sys.executable, "-m", "noetl.dev.worker", *arguments]

    async def _is_ready(self) -> bool:
        """It registers by itself; commands that are issued before wait for it in the stream."""
        return True


class DevStack:
    """The whole of NoETL on 127.0.0.1.

    Args:
        data_directory: where data and logs live; None for a temporary folder that goes with the stack.
        port: port of the server, a free one by default.
        environment: further settings of the server.
    """

    def __init__(
        self,
        data_directory: Path | None = None,
        *,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._given_directory = data_directory
        self._port = port
        self._environment = dict(environment or {})
        self._stack = AsyncExitStack()
        self.data_directory = Path()
        self.postgres_dsn = ""
        self.nats_url = ""
        self.server: ServerProcess | None = None
        self._parts: list[EmbeddedService] = []

    @property
    def url(self) -> str:
        """Base URL of the server."""
        if self.server is None:
            raise ServiceError("the stack is not running")
        return self.server.url

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something that needs the stack; it is cancelled when a part of the stack ends by itself.

        Raises:
            ServiceError: such an end; the message carries the end of the part's log.
        """
        working, watching = asyncio.create_task(work), asyncio.create_task(self._watch())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            self._refuse_ended_parts()
            return await working
        finally:
            working.cancel()
            watching.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _watch(self) -> NoReturn:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._refuse_ended_parts()

    def _refuse_ended_parts(self) -> None:
        for part in self._parts:
            if (code := part.exit_code) is not None:
                raise ServiceError(f"{part.name} ended with code {code}; its log ends with:\n{part.log_end()}")

    async def _start(self) -> None:
        folder = self._given_directory or _temporary_folder(self._stack)
        folder.mkdir(parents=True, exist_ok=True)
        self.data_directory = folder
        _lock(folder, self._stack)
        postgres = EmbeddedPostgres(folder / "postgresql")
        nats = EmbeddedNats(folder / "nats")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stack.enter_async_context(postgres))
                group.create_task(self._stack.enter_async_context(nats))
        except* ServiceError as errors:
            raise errors.exceptions[0] from None
        self.postgres_dsn, self.nats_url = postgres.dsn, nats.url
        self.server = ServerProcess(
            folder / "server",
            {
                "DATABASE_URL": postgres.dsn,
                "NATS_URL": nats.url,
                "NOETL_ENCRYPTION_KEY": _encryption_key(folder / "encryption.key"),
                "NOETL_SQL_API": "open",
                "NOETL_WORKERS": "1",
                "NOETL_SHUTDOWN_DELAY_SECONDS": "0",
                **self._environment,
            },
            port=self._port,
        )
        self.server.environment.setdefault("NOETL_PUBLIC_SERVER_URL", self.server.url)
        await self._stack.enter_async_context(self.server)
        worker = await self._stack.enter_async_context(WorkerProcess(folder / "worker", self.server.url, nats.url))
        self._parts = [postgres, nats, self.server, worker]


def _temporary_folder(stack: AsyncExitStack) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="noetl-"))
    folder.chmod(0o711)  # PostgreSQL runs as another user when we are root, and must get through
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _lock(folder: Path, stack: AsyncExitStack) -> None:
    """Keep others off the folder; the system lifts the lock when we end, however we end.

    Raises:
        ServiceError: somebody else has it.
    """
    lock = stack.enter_context((folder / "lock").open("ab"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ServiceError(f"another noetl-server dev uses {folder}: stop it, or give --data another folder") from None


def _encryption_key(path: Path) -> str:
    """The key kept in the data folder, made at the first start."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as output:
            output.write(base64.b64encode(secrets.token_bytes(32)))
    return path.read_text().strip()


def default_data_directory() -> Path:
    """Where `noetl-server dev` keeps its data; root's home is closed to PostgreSQL's user, so root has another one."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/noetl-server")
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "noetl-server"
