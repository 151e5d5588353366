"""ASGI servers compared under our application: which one should stand between the sockets and `HttpApplication`?

    pip install granian hypercorn h11
    python -m benchmarks.asgi_servers [SERVER ...] [--rounds 5] [--seconds 5] [--connections 50] [--cpu 0]

The whole server runs, with its ledger and a PostgreSQL of its own, confined to one CPU; only what serves HTTP is
exchanged. All of them run at the same time and get the load (the events scenario of `benchmarks.load`, closed loop)
in turn, in another order each round, so that whatever else the machine does concerns all alike. The table shows the
medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvicorn
import uvloop

from benchmarks.load import scenarios
from benchmarks.load.__main__ import machine
from benchmarks.load.figures import table
from benchmarks.load.servers import open_servers
from noetl.dev.server_process import ServerProcess

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

EXECUTIONS: Final = 20


# -- in the server's process ------------------------------------------------------------------------------------------


class Uvicorn(uvicorn.Server):
    """Plain uvicorn with another HTTP/1.1 parser than the configuration of ours names."""

    parser = "httptools"

    def __init__(self, configuration: uvicorn.Config) -> None:
        configuration.http = self.parser  # type: ignore[assignment]
        super().__init__(configuration)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """The server of ours decides when it stops."""
        yield


class UvicornH11(Uvicorn):
    """uvicorn with the parser in pure Python."""

    parser = "h11"


class Hypercorn:
    """Hypercorn with what `noetl.server` expects of an HTTP server."""

    def __init__(self, configuration: uvicorn.Config) -> None:
        self._configuration = configuration
        self._stopping = asyncio.Event()

    @property
    def should_exit(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            self._stopping.set()

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Serve until told to stop."""
        import hypercorn.asyncio
        from hypercorn.config import Config

        configuration = Config()
        configuration.bind = [f"fd://{os.dup(sockets[0].fileno())}"]
        configuration.keep_alive_timeout = float(self._configuration.timeout_keep_alive)
        configuration.accesslog = configuration.errorlog = None
        application: Any = self._configuration.app
        await hypercorn.asyncio.serve(application, configuration, shutdown_trigger=self._stopping.wait)


class Granian(Hypercorn):
    """Granian inside the event loop of the application, one thread for its own runtime."""

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Serve until told to stop."""
        from granian.constants import HTTPModes, Interfaces
        from granian.server.embed import Server

        host, port = sockets[0].getsockname()[:2]
        sockets[0].close()  # it opens its own
        server = Server(
            self._configuration.app,
            host,
            port,
            interface=Interfaces.ASGI,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
        )
        serving = asyncio.create_task(server.serve())
        await self._stopping.wait()
        server.stop()
        await serving


CANDIDATES: Final[dict[str, tuple[type | None, str]]] = {
    "ours (uvicorn, httptools)": (None, "uvicorn"),
    "uvicorn, httptools": (Uvicorn, "uvicorn"),
    "uvicorn, h11": (UvicornH11, "uvicorn"),
    "granian": (Granian, "granian"),
    "hypercorn": (Hypercorn, "hypercorn"),
}


def serve(name: str) -> None:
    """The program `noetl-server serve` with another HTTP server."""
    import noetl.server
    from noetl.cli import main as command_line

    candidate = CANDIDATES[name][0]
    if candidate is not None:
        noetl.server._HttpServer = candidate  # type: ignore[assignment] # pyright: ignore[reportPrivateUsage]
    sys.argv = ["noetl-server", "serve"]
    command_line()


# -- in the process that measures -------------------------------------------------------------------------------------


def program(name: str) -> type[ServerProcess]:
    """How to start the server behind this candidate."""

    class Candidate(ServerProcess):
        def _command(self) -> list[str]:
            return [sys.executable, "-m", "benchmarks.asgi_servers", "--serve", name]

        def _environment(self) -> dict[str, str]:
            return {**super()._environment(), "PYTHONPATH": str(Path(__file__).parents[1])}

    return Candidate


async def compare(names: list[str], rounds: int, seconds: float, connections: int, cpu: int) -> list[dict[str, Any]]:
    """A row per candidate: the medians of its rounds."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    async with AsyncExitStack() as stack:
        requests: dict[str, Callable[[], Any]] = {}
        for name in names:
            (target,) = await stack.enter_async_context(open_servers(None, cpus=(cpu,), program=program(name)))
            bodies = await scenarios.event_requests(target, EXECUTIONS)
            requests[name] = lambda target=target, bodies=bodies: scenarios.closed_loop(
                target, bodies, scenarios.POST_EVENT, connections, seconds
            )
        for number in range(rounds):
            turn = number % len(names)
            for name in [*names[turn:], *names[:turn]]:
                rows[name].append((await requests[name]()).row("events", name))
                print(table(rows[name][-1:]).splitlines()[-1], flush=True)
    return [_medians(measured) for measured in rows.values()]


def _medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    figures = {
        key: statistics.median(row[key] for row in rows) for key in ("rate", "p50", "p95", "p99", "cpu_us", "rss_mib")
    }
    database = statistics.median(row["database_cpu_us"] for row in rows)
    return {**rows[0], **figures, "database_cpu_us": database, "errors": sum(row["errors"] for row in rows)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="*", help=f"of {', '.join(CANDIDATES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    names: list[str] = options.servers or list(CANDIDATES)
    if unknown := [name for name in names if name not in CANDIDATES]:
        raise SystemExit(f"no such server: {', '.join(unknown)}; there are: {', '.join(CANDIDATES)}")
    rows = uvloop.run(compare(names, options.rounds, options.seconds, options.connections, options.cpu))
    packages = sorted({CANDIDATES[name][1] for name in names} | {"httptools", "uvloop"})
    print(f"\n{machine()}; {', '.join(f'{package} {version(package)}' for package in packages)}\n\n{table(rows)}")
    first = rows[0]
    for row in rows[1:]:
        print(
            f"{row['server']}: rate {row['rate'] / first['rate']:.2f}, p95 {row['p95'] / first['p95']:.2f}, "
            f"CPU {row['cpu_us'] / first['cpu_us']:.2f} of {first['server']}"
        )


if __name__ == "__main__":
    main()
