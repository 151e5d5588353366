"""What the server does with more than it can do: goodput, refusals, memory, recovery, and nothing lost.

    python -m benchmarks.overload [ROUTE ...] [--seconds 10] [--factors 1 1.5 3] [--cpu 0 | --no-pin] [--json FILE]

Everything is started here. For each route (`events`, `executions`) and factor the capacity is measured in a closed
loop, then requests come at a multiple of it at fixed times, whatever the server does: the harshest clients there are.
Half the capacity before and after tells how soon the server is itself again. The server has a CPU of its own; the load
comes from another, cheaply, and says so if it is itself what limits the rate. Finally SQL finds every acknowledged
write in the log, once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop

from benchmarks.load.figures import Figures, percentiles
from benchmarks.load.playbooks import chain, execute, register
from benchmarks.load.servers import Meter, open_servers

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.load.servers import Target

CONNECTIONS: Final = 3_000
"""More than the server handles at once, so that refusing is what it has to do."""
CLOSED_CONNECTIONS: Final = 128
CLOSED_SECONDS: Final = 3.0
QUIET_FACTOR: Final = 0.5
QUIET_SECONDS: Final = 3.0
WINDOW_SECONDS: Final = 0.1
RECOVERED: Final = 3.0
"""The server is itself again when p95 of a window is below so many times its figure before the overload."""
TICK_SECONDS: Final = 0.001
PROBE_SECONDS: Final = 0.05
BUSY: Final = 0.9
"""Share of a CPU above which the load generator cannot be trusted to keep its times."""


class Run:
    """What happened to the requests of one phase; times in seconds of `time.perf_counter`."""

    def __init__(self) -> None:
        self.accepted: list[tuple[float, float]] = []
        """When the answer came, and how long after the request was due."""
        self.refused: list[float] = []
        """How long after the request was sent."""
        self.acknowledged: list[int] = []
        self.failures: Counter[str] = Counter()
        self.sent = 0
        self.late = 0.0
        """Longest time that a request was sent after its time though a connection was free."""
        self.seconds = 0.0
        self.cpu = 0.0
        """What the server used."""
        self.resident_mib = 0.0
        self.busy = 0.0

    @property
    def rate(self) -> float:
        """Accepted requests per second."""
        return len(self.accepted) / self.seconds

    @property
    def per_cpu(self) -> float:
        """Accepted requests per second of the server's CPU: what a busy machine does not change."""
        return len(self.acknowledged) / self.cpu


class Line(asyncio.Protocol):
    """A connection with one request under way at most; answers come in one piece, so no parser is needed."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: Any = None
        self._pending = b""
        self._due = self._sent = 0.0
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, due: float, number: int, request: bytes) -> None:
        """Send a request that was due at a time."""
        self._due, self._number, self._sent = due, number, time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._pending + data if self._pending else data
        if data[-1:] != b"}":
            self._pending = data
            return
        self._pending = b""
        now = time.perf_counter()
        run = self._load.run
        status = data[9:12]
        if status == b"200":
            run.accepted.append((now, now - self._due))
            run.acknowledged.append(self._load.identity(self._number, data))
        elif status == b"503" and b"\r\nretry-after: " in data:
            run.refused.append(now - self._sent)
        else:
            run.failures[data[9:120].decode(errors="replace")] += 1
        self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost()

    def close(self) -> None:
        """Give the connection up."""
        self._transport.abort()


class Load:
    """Many connections to a server, and the two ways to use them."""

    def __init__(self, target: Target, request: Callable[[int], bytes], identity: Callable[[int, bytes], int]) -> None:
        self._target = target
        self._request = request
        self.identity = identity
        """What an accepted request wrote: from its number and its answer."""
        self.run = Run()
        self._number = 0
        self._free: deque[Line] = deque()
        self._lines: list[Line] = []
        self._waiting: deque[float] = deque()
        self._closed_until = 0.0
        self._closing = False
        self._settled = asyncio.Event()

    async def open(self, count: int) -> None:
        """Connect."""
        loop, target = asyncio.get_running_loop(), self._target
        for _ in range(0, count, 100):
            opened = [loop.create_connection(lambda: Line(self), target.host, target.port) for _ in range(100)]
            self._lines += [line for _, line in await asyncio.gather(*opened)]
        self._free.extend(self._lines)

    def close(self) -> None:
        """Disconnect."""
        self._closing = True
        for line in self._lines:
            line.close()

    def lost(self) -> None:
        """The server has closed a connection."""
        if not self._closing:
            self.run.failures["connection lost"] += 1

    def free(self, line: Line) -> None:
        """A connection has its answer: let it take what is overdue or, in a closed loop, the next one."""
        if self._waiting:
            self._send(line, self._waiting.popleft())
        elif (now := time.perf_counter()) < self._closed_until:
            self._send(line, now)
        else:
            self._free.append(line)
            if len(self._free) == len(self._lines):
                self._settled.set()

    def _send(self, line: Line, due: float) -> None:
        self._number += 1
        self.run.sent += 1
        self._settled.clear()
        line.send(due, self._number, self._request(self._number))

    async def closed(self, seconds: float) -> Run:
        """As fast as the answers come, over few connections."""
        self.run = run = Run()
        meter = self._metered()
        begin, cpu = time.perf_counter(), time.process_time()
        self._closed_until = begin + seconds
        for _ in range(CLOSED_CONNECTIONS):
            self._send(self._free.popleft(), begin)
        await asyncio.sleep(seconds)
        await self._settle(run, meter, begin, cpu, seconds)
        return run

    async def at_rate(self, rate: float, seconds: float) -> Run:
        """Requests at fixed times. Those without a free connection wait, and their latency counts from their time."""
        self.run = run = Run()
        meter = self._metered()
        begin, cpu = time.perf_counter(), time.process_time()
        due = 0
        while (now := time.perf_counter() - begin) < seconds:
            while due < now * rate:
                at = begin + due / rate
                due += 1
                if self._free:
                    run.late = max(run.late, time.perf_counter() - at)
                    self._send(self._free.popleft(), at)
                else:
                    self._waiting.append(at)
            await asyncio.sleep(TICK_SECONDS)
        run.failures["never sent"] += len(self._waiting)
        self._waiting.clear()
        await self._settle(run, meter, begin, cpu, seconds)
        return run

    def _metered(self) -> Meter:
        meter = Meter(self._target)
        meter.begin()
        return meter

    async def _settle(self, run: Run, meter: Meter, begin: float, cpu: float, seconds: float) -> None:
        """Wait for the answers under way; what comes after the time is acknowledged, but no goodput."""
        end = begin + seconds
        run.seconds = seconds
        run.busy = (time.process_time() - cpu) / (time.perf_counter() - begin)
        async with asyncio.timeout(30):
            await self._settled.wait()
        run.accepted = [answer for answer in run.accepted if answer[0] <= end]
        run.failures += Counter()
        figures = Figures("requests", {})
        meter.end(figures)
        run.cpu, run.resident_mib = figures.cpu_seconds, figures.resident_mib


class Probe:
    """Asks for the health of the server now and then, on a connection of its own."""

    def __init__(self, target: Target) -> None:
        self._connection = target.connect()
        self.latencies: list[float] = []

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            begin = time.perf_counter()
            answer = await self._connection.call("GET", "/api/health")
            assert answer.status == 200, answer.status
            self.latencies.append(time.perf_counter() - begin)
            await asyncio.sleep(PROBE_SECONDS)


def head(path: str, length: int) -> bytes:
    """The head of a request as clients send it."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


async def event_load(target: Target) -> tuple[Load, str]:
    """Worker events over 20 executions, each with an id of its own by which it is found in the log."""
    await register(target, "bench/events", chain(2))
    first = 1_000_000_000
    heads: list[bytes] = []
    tail = b',"step":"load_smoke","event_type":"step.enter","result_kind":"data","payload":{"status":"OK"}}'
    for _ in range(20):
        identity = await execute(target, "bench/events")
        start = b'{"execution_id":"%s","event_id":' % str(identity).encode()
        heads.append(head("/api/events", len(start) + 10 + len(tail)) + start)

    def request(number: int) -> bytes:
        return b"%s%d%s" % (heads[number % 20], first + number, tail)

    return Load(target, request, lambda number, _answer: first + number), "event_id"


async def execution_load(target: Target) -> tuple[Load, str]:
    """Starts of a playbook that nobody works on."""
    await register(target, "bench/overload", chain(5))
    body = b'{"path":"bench/overload","payload":{"n":1}}'
    request = head("/api/execute", len(body)) + body

    def identity(_number: int, answer: bytes) -> int:
        return int(orjson.loads(answer[answer.index(b"\r\n\r\n") + 4 :])["execution_id"])

    return Load(target, lambda _number: request, identity), "execution_id"


LOADS: Final = {"events": event_load, "executions": execution_load}


def recovery(run: Run, begin: float, usual: float) -> float:
    """Seconds from ``begin`` until p95 of every window that follows is near what is usual."""
    windows: dict[int, list[float]] = {}
    for at, latency in run.accepted:
        windows.setdefault(int((at - begin) / WINDOW_SECONDS), []).append(latency)
    slow = [number for number, values in windows.items() if sorted(values)[int(len(values) * 0.95)] > usual * RECOVERED]
    return (max(slow) + 1) * WINDOW_SECONDS if slow else 0.0


async def stored(target: Target, column: str, acknowledged: list[int]) -> tuple[int, int]:
    """How many of the acknowledged writes are in the log, and how many are there more than once."""
    kinds = {"event_id": "step.enter", "execution_id": "playbook_started"}
    rows = await target.rows(
        f"SELECT count(*) AS present, count(*) FILTER (WHERE copies > 1) AS repeated FROM ("
        f"SELECT count(*) AS copies FROM noetl.event WHERE {column} = ANY($1) AND event_type = $2 GROUP BY {column}) t",
        acknowledged,
        kinds[column],
    )
    return rows[0]["present"], rows[0]["repeated"]


async def measure(target: Target, route: str, factors: list[float], seconds: float) -> list[dict[str, Any]]:
    """All factors for one route."""
    load, column = await LOADS[route](target)
    await load.open(CONNECTIONS)
    acknowledged: list[int] = []
    rows: list[dict[str, Any]] = []
    await load.closed(1.0)  # what is done once is done
    acknowledged += load.run.acknowledged
    for factor in factors:
        before = await load.closed(CLOSED_SECONDS)
        usual = await load.at_rate(before.rate * QUIET_FACTOR, QUIET_SECONDS)
        probe = Probe(target)
        probing = asyncio.create_task(probe.run())
        run = await load.at_rate(before.rate * factor, seconds)
        probing.cancel()
        begin = time.perf_counter()
        after = await load.at_rate(before.rate * QUIET_FACTOR, QUIET_SECONDS)
        again = await load.closed(CLOSED_SECONDS)
        for part in (before, usual, run, after, again):
            acknowledged += part.acknowledged
        usual_p95 = percentiles([latency for _, latency in usual.accepted])["p95"] / 1e3
        capacity = statistics.mean((before.rate, again.rate))
        row = {
            "route": route,
            "factor": factor,
            "capacity": capacity,
            "capacity_before": before.rate,
            "capacity_after": again.rate,
            "offered": run.sent / seconds,
            "goodput": run.rate,
            "ratio": run.rate / capacity,
            "refused": len(run.refused) / max(1, run.sent),
            "failures": dict(run.failures),
            "accepted_ms": percentiles([latency for _, latency in run.accepted]),
            "refused_ms": percentiles(run.refused),
            "health_ms": percentiles(probe.latencies),
            "ratio_per_cpu": run.per_cpu / statistics.mean((before.per_cpu, again.per_cpu)),
            "server_cpu": run.cpu / seconds,
            "rss_mib": run.resident_mib,
            "usual_p95_ms": usual_p95 * 1e3,
            "recovery_s": recovery(after, begin, usual_p95),
            "generator": run.busy,
            "generator_late_ms": run.late * 1e3,
        }
        rows.append(row)
        print(line(row), flush=True)
    load.close()
    present, repeated = await stored(target, column, acknowledged)
    lost = len(acknowledged) - present
    print(f"{route}: {len(acknowledged)} acknowledged, {lost} not in the log, {repeated} there more than once")
    if lost or repeated:
        raise SystemExit("acknowledged writes are not in the log exactly once")
    return rows


def line(row: dict[str, Any]) -> str:
    """One measurement for people."""

    def times(name: str, *keys: str) -> str:
        return " / ".join(f"{row[name].get(key, 0):.1f}" for key in keys)

    text = (
        f"{row['route']} {row['factor']:.0%}: capacity {row['capacity']:,.0f}/s "
        f"({row['capacity_before']:,.0f} before, {row['capacity_after']:,.0f} after), offered {row['offered']:,.0f}/s, "
        f"goodput {row['goodput']:,.0f}/s = {row['ratio']:.2f} "
        f"({row['ratio_per_cpu']:.2f} per second of the server's CPU), refused {row['refused']:.0%}\n"
        f"    accepted p50/p95/p99 {times('accepted_ms', 'p50', 'p95', 'p99')} ms, "
        f"refused p50/p99 {times('refused_ms', 'p50', 'p99')} ms, "
        f"health p50/p99 {times('health_ms', 'p50', 'p99')} ms, "
        f"peak RSS {row['rss_mib']:.0f} MiB, server CPU {row['server_cpu']:.0%}, "
        f"recovery {row['recovery_s']:.1f} s (p95 before {row['usual_p95_ms']:.1f} ms)"
    )
    if row["failures"]:
        text += f"\n    neither accepted nor refused: {row['failures']}"
    if row["generator"] > BUSY:
        text += f"\n    the load generator used {row['generator']:.0%} of its CPU: it is the limit, not the server"
    return text


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all routes."""
    cpus = () if options.no_pin else (options.cpu,)
    rows: list[dict[str, Any]] = []
    async with open_servers(None, cpus=cpus) as (target,):
        others = os.sched_getaffinity(0) - set(cpus)
        if cpus and others:
            os.sched_setaffinity(0, others)
        for route in options.routes or LOADS:
            rows += await measure(target, route, options.factors, options.seconds)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("routes", nargs="*", choices=[*LOADS, []])
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.5, 3.0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--cpu", type=int, default=0, help="the server's CPU")
    parser.add_argument("--no-pin", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = uvloop.run(run(options))
    if options.json:
        options.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
