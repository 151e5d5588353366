"""Times of the reading routes on a large database.

    python -m benchmarks.reads [--data FOLDER] [--executions 1000000] [--events 100000] [--requests 100] [--only TEXT]

Starts an embedded PostgreSQL and our server, fills the database on the first run (`benchmarks.large_database`; the
folder keeps it), and sends each kind of request one after the other. Prints p50, p95, p99 and the size of an answer;
exits with 1 when a p95 is beyond the goal of 50 ms. Whole logs and replays grow with the log by nature and are shown
without a goal.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks.large_database import FIRST_CATALOG_ID, fill
from benchmarks.load.connection import Connection
from noetl.dev.server_process import ServerProcess
from noetl.dev.services import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL_SECONDS: Final = 0.050
DATABASE: Final = "large"
SETTINGS: Final = {"shared_buffers": "1GB", "fsync": "off", "max_wal_size": "4GB", "random_page_cost": "1.1"}


@dataclass(frozen=True)
class Kind:
    """One kind of request: ``request`` gives method, target and body, another one each time where that matters."""

    name: str
    request: Callable[[random.Random], tuple[str, str, Any]]
    goal: float | None = GOAL_SECONDS
    share: float = 1.0
    """How many of the requests are sent, for kinds that take long."""


def get(target: str) -> Callable[[random.Random], tuple[str, str, Any]]:
    """Always the same GET."""
    return lambda _random: ("GET", target, None)


def kinds(executions: int, events: int, long_one: int, some: list[int]) -> list[Kind]:
    """All that is measured."""
    listed = "/api/executions"
    one = f"/api/executions/{long_one}"

    def anyone(tail: str) -> Callable[[random.Random], tuple[str, str, Any]]:
        return lambda random: ("GET", f"{listed}/{random.choice(some)}{tail}", None)

    def deep(query: str, rows: int) -> Callable[[random.Random], tuple[str, str, Any]]:
        return lambda random: ("GET", f"{listed}?{query}&offset={random.randrange(rows)}", None)

    def event_page(query: str) -> Callable[[random.Random], tuple[str, str, Any]]:
        return lambda random: ("GET", f"{one}?{query}&page={random.randrange(1, events // 100)}", None)

    def since(event: int) -> tuple[str, str, Any]:
        return "GET", f"{one}?since_event_id={long_one + event}", None

    filters = {
        "": executions,
        "status=RUNNING": 220,
        "status=COMPLETED": executions * 9 // 10,
        "status=FAILED": executions * 7 // 100,
        "path=flow7": executions // 50,
        "path=flows": executions,
        "path=": executions,
        "path=nowhere": 1,
        "path=team3&status=FAILED": executions // 100,
        "path=flows&status=CANCELLED": executions // 50,
        f"catalog_id={FIRST_CATALOG_ID}": executions // 6,
        f"catalog_id={FIRST_CATALOG_ID + 199}": executions // 700,
        f"catalog_id={FIRST_CATALOG_ID}&status=FAILED": executions // 90,
    }
    return [
        *(Kind(f"list {query or 'all'}", get(f"{listed}?{query}")) for query in filters),
        *(
            Kind(f"list {query or 'all'}, 100 at any depth", deep(f"{query}&limit=100", rows))
            for query, rows in filters.items()
        ),
        Kind("list beyond the end", get(f"{listed}?offset={2 * executions}")),
        Kind("detail", anyone("")),
        Kind("status", anyone("/status")),
        Kind("cancellation-check", anyone("/cancellation-check")),
        Kind("long: status", get(f"{one}/status")),
        Kind("long: cancellation-check", get(f"{one}/cancellation-check")),
        Kind("long: first page of events", get(f"{one}?page=1&page_size=100")),
        Kind("long: any page of events", event_page("page_size=100")),
        Kind("long: events of one type", get(f"{one}?event_type=call.done&page_size=100")),
        Kind("long: any page of one type", event_page("event_type=call.done&page_size=20")),
        Kind("long: events since any", lambda r: since(r.randrange(events))),
        Kind("long: all events", get(one), goal=None, share=0.03),
        Kind("long: replay, 10,000 events", get(f"/api/replay/state?execution_id={long_one}"), goal=None, share=0.05),
        Kind("long: replay, 100,000 events", get(f"/api/replay/state?execution_id={long_one}&limit=100000"),
             goal=None, share=0.03),
        Kind("replay", lambda r: ("GET", f"/api/replay/state?execution_id={r.choice(some)}", None)),
        Kind("dashboard stats", get("/api/dashboard/stats")),
        Kind("dashboard widgets", get("/api/dashboard/widgets")),
        Kind("worker pools", get("/api/worker/pools")),
        Kind("catalog list", lambda _r: ("POST", "/api/catalog/list", {"resource_type": "Playbook"})),
        Kind("catalog resource", lambda _r: ("POST", "/api/catalog/resource", {"path": "team3/flows/flow3"})),
        Kind("variables", get(f"/api/vars/{long_one}")),
        Kind("variable", lambda r: ("GET", f"/api/vars/{long_one}/variable_{r.randrange(1, 200)}", None)),
        Kind("pool status", get("/api/pool/status")),
    ]  # fmt: skip


async def measure(kind: Kind, connection: Connection, requests: int) -> tuple[list[float], int]:
    """Seconds of each request, and the bytes of the last answer."""
    source = random.Random(kind.name)
    seconds: list[float] = []
    size = 0
    for _ in range(max(3, round(requests * kind.share))):
        method, target, body = kind.request(source)
        begin = time.perf_counter()
        answer = await connection.call(method, target, body)
        seconds.append(time.perf_counter() - begin)
        size = len(answer.body)
        if answer.status != 200:
            raise SystemExit(f"{kind.name}: {method} {target} answered {answer.status}")
    return seconds, size


async def prepared(cluster: EmbeddedPostgres, executions: int, events: int) -> tuple[int, list[int]]:
    """The long execution and some others; fills the database when the cluster has none."""
    administration: Any = await asyncpg.connect(cluster.dsn)
    try:
        if not await administration.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await administration.execute("DROP DATABASE IF EXISTS filling")
            await administration.execute("CREATE DATABASE filling")
            await fill(cluster.database_dsn("filling"), executions, events)
            await administration.execute(f"ALTER DATABASE filling RENAME TO {DATABASE}")
    finally:
        await administration.close()
    database: Any = await asyncpg.connect(cluster.database_dsn(DATABASE))
    try:
        long_one = await database.fetchval("SELECT max(execution_id) FROM noetl.execution")
        some = await database.fetch("SELECT execution_id FROM noetl.execution TABLESAMPLE SYSTEM (0.1) LIMIT 2000")
        return long_one, [row["execution_id"] for row in some] or [long_one]
    finally:
        await database.close()


async def main() -> int:
    """Read the command line, start, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/var/tmp/noetl-reads"))
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--only", default="", help="only kinds whose name has this text")
    arguments = parser.parse_args()
    missed = 0
    async with EmbeddedPostgres(arguments.data / "postgres", settings=SETTINGS) as cluster:
        long_one, some = await prepared(cluster, arguments.executions, arguments.events)
        environment = {"DATABASE_URL": cluster.database_dsn(DATABASE), "NOETL_WORKERS": "1"}
        async with ServerProcess(arguments.data / "server", environment) as server:
            connection = Connection("127.0.0.1", server.port)
            for kind in kinds(arguments.executions, arguments.events, long_one, some):
                if arguments.only not in kind.name:
                    continue
                seconds, size = await measure(kind, connection, arguments.requests)
                cuts = [value * 1e3 for value in statistics.quantiles(seconds, n=100, method="inclusive")]
                slow = kind.goal is not None and cuts[94] > kind.goal * 1e3
                missed += slow
                print(
                    f"{kind.name:<55} p50 {cuts[49]:8.2f}  p95 {cuts[94]:8.2f}  p99 {cuts[98]:8.2f} ms"
                    f"  {size:>10} bytes{'  beyond the goal' if slow else ''}",
                    flush=True,
                )
            connection.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
