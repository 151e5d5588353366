"""Our own programs as child processes: for ``noetl-server dev``, and for the tests that kill and restart the server."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noetl.dev.services import EmbeddedService, ServiceError, first_line

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

_INHERITED: Final = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


class PythonProcess(EmbeddedService):
    """A program of this package in a working folder of its own, by which it is known again after a crash of ours."""

    def _prepare(self) -> None:
        self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _pid_file(self) -> Path:
        return self.data_directory / "pid"

    def _spawn(self) -> subprocess.Popen[bytes]:
        process = super()._spawn()
        self._pid_file().write_text(f"{process.pid}\n")
        return process

    def _is_ours(self, pid: int) -> bool:
        """Whether that process works in our folder (Linux only; elsewhere nothing is ended)."""
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == self.data_directory.resolve()
        except OSError:
            return False


class ServerProcess(PythonProcess):
    """``noetl-server serve`` on 127.0.0.1, ready when ``/readyz`` answers 200.

    The environment is the given one and a few variables of the system; no ``NOETL_*`` or ``POSTGRES_*`` of the caller
    leaks in.

    Args:
        data_directory: working folder; the log is written there.
        environment: settings of the server; ``NOETL_HOST`` and ``NOETL_PORT`` are added.
        port: TCP port, a free one by default.
    """

    name = "noetl-server"

    def __init__(
        self, data_directory: str | os.PathLike[str], environment: Mapping[str, str], *, port: int | None = None
    ) -> None:
        super().__init__(data_directory, port=port)
        self.environment = dict(environment)

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def log_text(self) -> str:
        """Everything the server wrote to its output so far, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Refuses an occupied port: whoever listens there would answer ``/readyz`` in our place."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise ServiceError(f"cannot listen on 127.0.0.1:{self.port}: {error.strerror}") from None
        return super()._spawn()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "noetl", "serve"]

    def _environment(self) -> Mapping[str, str]:
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            "NOETL_HOST": "127.0.0.1",
            "NOETL_PORT": str(self.port),
            **self.environment,
        }

    async def _is_ready(self) -> bool:
        request = f"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n"
        return b" 200 " in await first_line(self.port, request.encode(), 5.0)
