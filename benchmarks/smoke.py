"""The gate of the published claim: about 1,000 worker events a second at a p95 below 100 ms (spec 60, section 19).

    python -m benchmarks.smoke [--requests 60000] [--reference BINARY]

ApacheBench (`ab`, Debian's apache2-utils) sends `step.enter` events of one execution over 50 keep-alive connections to
a server that is confined to one CPU, after 2,000 requests to warm up; PostgreSQL commits synchronously. The gate: at
least 1,000 req/s, p95 below 100 ms, no error, one row for each request, the counter of /metrics grown by exactly so
many, memory below 512 MiB. Exit code 1 when ours misses it. Without `ab` the load generator of `benchmarks.load` sends
the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop

from benchmarks.load.__main__ import REFERENCE_VARIABLE, machine
from benchmarks.load.apache_bench import apache_bench, is_installed
from benchmarks.load.connection import encode
from benchmarks.load.figures import Figures, ratios, table
from benchmarks.load.playbooks import chain, execute, register
from benchmarks.load.scenarios import POST_EVENT, event_body
from benchmarks.load.servers import Meter, open_servers

if TYPE_CHECKING:
    from benchmarks.load.servers import Target

CONNECTIONS: Final = 50
WARM_UP_REQUESTS: Final = 2_000
LOWEST_RATE: Final = 1_000.0
HIGHEST_P95_MS: Final = 100.0
HIGHEST_RSS_MIB: Final = 512.0
_COUNTER: Final = re.compile(rb"noetl_events_ingested_total\{([^}]*)\} ([0-9.e+]+)")


async def smoke(target: Target, requests: int) -> Figures:
    """Run it on one server; the notes say what was stored and counted."""
    await register(target, "tests/fixtures/routing_test", chain(2))
    execution_id = await execute(target, "tests/fixtures/routing_test")
    body = orjson.dumps(event_body(execution_id))
    send = partial(apache_bench, connections=CONNECTIONS) if is_installed() else _own_generator
    await send(target, body, WARM_UP_REQUESTS)
    count_query = "SELECT count(*) FROM noetl.event WHERE execution_id = $1 AND event_type = 'step.enter'"
    rows_before = (await target.rows(count_query, int(execution_id)))[0][0]
    counted_before = await _counted(target)
    meter = Meter(target)
    meter.begin()
    figures = await send(target, body, requests)
    meter.end(figures)
    figures.notes |= {
        "rows": (await target.rows(count_query, int(execution_id)))[0][0] - rows_before,
        "counted": await _counted(target) - counted_before,
    }
    return figures


async def _counted(target: Target) -> int:
    """The counter of ingested events of this type that ended well."""
    connection = target.connect()
    answer = await connection.call("GET", "/metrics")
    connection.close()
    return int(
        sum(
            float(value)
            for labels, value in _COUNTER.findall(answer.body)
            if b'event_type="step.enter"' in labels and b'status="ok"' in labels
        )
    )


async def _own_generator(target: Target, body: bytes, requests: int) -> Figures:
    figures = Figures("requests", {POST_EVENT: []})
    request = encode("POST", "/api/events", body)
    loop = asyncio.get_running_loop()
    begin = loop.time()

    async def client(count: int) -> None:
        connection = target.connect()
        for _ in range(count):
            sent = loop.time()
            answer = await connection.send(request)
            figures.latencies[POST_EVENT].append(loop.time() - sent)
            figures.count += 1
            figures.errors += answer.status != 200
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(client(requests // CONNECTIONS + (number < requests % CONNECTIONS)))
    figures.seconds = loop.time() - begin
    return figures


def failures(row: dict[str, Any], requests: int) -> list[str]:
    """What misses the gate, in words."""
    checks = {
        f"{row['rate']:.0f} req/s, at least {LOWEST_RATE:.0f} wanted": row["rate"] >= LOWEST_RATE,
        f"p95 of {row['p95']:.1f} ms, below {HIGHEST_P95_MS:.0f} wanted": row["p95"] < HIGHEST_P95_MS,
        f"{row['errors']} errors": row["errors"] == 0,
        f"{row['rows']} rows for {requests} requests": row["rows"] == requests,
        f"the counter grew by {row['counted']} for {requests} requests": row["counted"] == requests,
        f"{row['rss_mib']:.0f} MiB, below {HIGHEST_RSS_MIB:.0f} wanted": row["rss_mib"] < HIGHEST_RSS_MIB,
    }
    return [text for text, holds in checks.items() if not holds]


async def run(requests: int, reference: Path | None, cpu: int) -> list[dict[str, Any]]:
    """The rows of all servers."""
    rows: list[dict[str, Any]] = []
    async with open_servers(reference, cpus=(cpu,)) as targets:
        for target in targets:
            rows.append((await smoke(target, requests)).row("smoke", target.name))
            rows[-1]["unit"] = "req"
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--reference", type=Path, default=os.environ.get(REFERENCE_VARIABLE))
    parser.add_argument("--cpu", type=int, default=0)
    options = parser.parse_args()
    rows = uvloop.run(run(options.requests, options.reference, options.cpu))
    print(f"{machine()}; {'ApacheBench' if is_installed() else 'own generator'}\n\n{table(rows)}\n")
    for row in rows:
        print(f"{row['server']}: {row['rows']} rows, counter + {row['counted']}, slowest {row['max']:.1f} ms")
    print("\n".join(ratios(rows)))
    missed = failures(next(row for row in rows if row["server"] == "ours"), options.requests)
    print("\n".join(["the gate is missed:", *missed]) if missed else "the gate holds")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
