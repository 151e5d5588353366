"""The loads: each takes a server and options, runs once, and returns what it measured."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.load.apache_bench import apache_bench
from benchmarks.load.connection import encode
from benchmarks.load.figures import Figures
from benchmarks.load.playbooks import LOOP, chain, execute, register
from benchmarks.load.servers import Meter
from benchmarks.load.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.load.connection import Connection
    from benchmarks.load.servers import Target

POST_EVENT: Final = "POST /api/events"
WARM_UP_SECONDS: Final = 1.0
WARM_UP_REQUESTS: Final = 4_000
COMMANDS_OF_A_SIZE: Final = 1_000
PLAYBOOKS_BESIDE_READS: Final = 8
"""Started per second: little, and the same for a slow server and a fast one."""
"""Small loops and chains are repeated until about so many commands have run."""


def event_body(execution_id: str) -> dict[str, object]:
    """The event of the published claim: it is stored and decides nothing (spec 60, section 19)."""
    return {
        "execution_id": execution_id,
        "step": "load_smoke",
        "event_type": "step.enter",
        "result_kind": "data",
        "payload": {"status": "OK"},
        "actionable": False,
        "informative": True,
    }


async def event_requests(target: Target, executions: int) -> list[bytes]:
    """A request that posts an event, for each of so many new executions."""
    await register(target, "bench/events", chain(2))
    return [encode("POST", "/api/events", event_body(await execute(target, "bench/events"))) for _ in range(executions)]


async def closed_loop(target: Target, requests: list[bytes], label: str, connections: int, seconds: float) -> Figures:
    """Each connection sends the next request as soon as it has its answer; the first second does not count."""
    figures = Figures("requests", {label: []}, seconds=seconds)
    latencies = figures.latencies[label]
    meter = Meter(target)
    warm_until = time.perf_counter() + WARM_UP_SECONDS
    end = warm_until + seconds

    async def client(number: int) -> None:
        connection = target.connect()
        for request in itertools.islice(itertools.cycle(requests), number % len(requests), None):
            begin = time.perf_counter()
            if begin >= end:
                break
            answer = await connection.send(request)
            if begin >= warm_until:
                latencies.append(time.perf_counter() - begin)
                figures.count += 1
                figures.errors += answer.status != 200
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(client(number))
        await asyncio.sleep(WARM_UP_SECONDS)
        meter.begin()
    meter.end(figures)
    return figures


async def open_loop(
    target: Target, requests: list[bytes], label: str, rate: float, seconds: float, connections: int
) -> Figures:
    """Requests at fixed times, whatever the server does; a latency begins when the request was due.

    So a server that stalls is charged for all that had to wait (no coordinated omission). Answers 503 with Retry-After
    are counted apart (``refused``), with the longest time they took.
    """
    figures = Figures("requests", {label: []}, seconds=seconds, notes={"refused": 0, "refused_max_ms": 0.0})
    due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    async def client(connection: Connection) -> None:
        while (item := await due.get()) is not None:
            at, request = item
            sent = time.perf_counter()
            try:
                answer = await connection.send(request)
            except OSError:
                figures.errors += 1
                continue
            now = time.perf_counter()
            if answer.status == 200:
                figures.latencies[label].append(now - at)
                figures.count += 1
            elif answer.status == 503 and b"retry-after" in answer.headers:
                figures.notes["refused"] += 1
                figures.notes["refused_max_ms"] = max(figures.notes["refused_max_ms"], (now - sent) * 1e3)
            else:
                figures.errors += 1
        connection.close()

    meter = Meter(target)
    meter.begin()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(client(target.connect()))
        begin = time.perf_counter()
        supply = itertools.cycle(requests)
        for number in range(int(rate * seconds)):
            at = begin + number / rate
            if (pause := at - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            due.put_nowait((at, next(supply)))
        for _ in range(connections):
            due.put_nowait(None)
    figures.seconds = time.perf_counter() - begin
    meter.end(figures)
    return figures


async def events(target: Target, *, executions: int, connections: int, seconds: float) -> Figures:
    """Worker events, closed loop, spread over so many executions."""
    return await closed_loop(target, await event_requests(target, executions), POST_EVENT, connections, seconds)


async def events_of_apache_bench(target: Target, *, connections: int, seconds: float) -> Figures:
    """Worker events of one execution, closed loop, by a load generator that leaves the CPUs to the server."""
    await register(target, "bench/events", chain(2))
    body = orjson.dumps(event_body(await execute(target, "bench/events")))
    rate = (await apache_bench(target, body, WARM_UP_REQUESTS, connections=connections)).rate
    meter = Meter(target)
    meter.begin()
    figures = await apache_bench(target, body, int(rate * seconds), connections=connections)
    meter.end(figures)
    return figures


async def steady(target: Target, *, rate: float, connections: int, seconds: float) -> Figures:
    """Worker events at a fixed rate."""
    requests = await event_requests(target, 20)
    await closed_loop(target, requests, POST_EVENT, 4, 1)
    return await open_loop(target, requests, POST_EVENT, rate, seconds, connections)


async def playbooks(target: Target, *, steps: int, workers: int, executions: int) -> Figures:
    """Chains of steps; as many executions under way as there are workers."""
    path = f"bench/chain{steps}"
    await register(target, path, chain(steps))
    request = encode("POST", "/api/execute", {"path": path})
    async with Workers(target, workers) as crew:
        meter = Meter(target)
        meter.begin()
        begin = time.perf_counter()

        async def client(count: int) -> None:
            connection = target.connect()
            for _ in range(count):
                answer = await connection.send(request)
                await crew.finished(str(answer.json["execution_id"]))
            connection.close()

        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(client(executions // workers + (number < executions % workers)))
        crew.figures.seconds = time.perf_counter() - begin
        meter.end(crew.figures)
    return crew.figures


async def loop(target: Target, *, iterations: int, workers: int) -> Figures:
    """Parallel loops, one after the other."""
    return await _sized(target, "bench/loop", lambda: LOOP, iterations, workers)


async def long_chain(target: Target, *, steps: int, workers: int) -> Figures:
    """Chains of so many steps, one after the other."""
    return await _sized(target, f"bench/chain{steps}", lambda: chain(steps), steps, workers)


async def _sized(
    target: Target, path: str, steps: Callable[[], list[dict[str, object]]], size: int, workers: int
) -> Figures:
    await register(target, path, steps())
    async with Workers(target, workers) as crew:
        meter = Meter(target)
        meter.begin()
        begin = time.perf_counter()
        for _ in range(max(1, COMMANDS_OF_A_SIZE // size)):
            await crew.finished(await execute(target, path, {"n": size}))
        crew.figures.seconds = time.perf_counter() - begin
        meter.end(crew.figures)
    return crew.figures


async def reads(target: Target, *, connections: int, seconds: float) -> Figures:
    """What people and dashboards read, in turn, while workers run a few playbooks of 5 steps a second."""
    await register(target, "bench/chain5", chain(5))
    async with Workers(target, 8) as crew:
        ids = [await execute(target, "bench/chain5") for _ in range(20)]
        for identifier in ids:
            await crew.finished(identifier)
        paths = [
            "/api/executions?limit=50",
            *(f"/api/executions/{identifier}" for identifier in ids[:5]),
            *(f"/api/executions/{identifier}/status" for identifier in ids),
            "/api/worker/pools",
            "/api/health",
        ]

        async def start_playbooks() -> None:
            while True:
                await execute(target, "bench/chain5")
                await asyncio.sleep(1 / PLAYBOOKS_BESIDE_READS)

        beside = asyncio.create_task(start_playbooks())
        requests = [encode("GET", path) for path in paths]
        figures = await closed_loop(target, requests, "GET", connections, seconds)
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
    figures.notes["commands_beside"] = crew.figures.count
    return figures
