"""One execution that is written at full speed, beside small ones and health checks (I11)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import query
from tests.faults.wire import Client
from tests.faults.worker import Crew
from tests.faults.workflows import MIXED

if TYPE_CHECKING:
    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer

pytestmark = pytest.mark.faults

EVENTS = int(os.environ.get("NOETL_FAULT_EVENTS", "6000"))
SMALL = 30
CONNECTIONS = 8
SLOWEST_HEALTH_SECONDS = float(os.environ.get("NOETL_FAULT_HEALTH", "0.25"))
"""The goal is 50 ms on a machine that does nothing else; a shared one adds its own pauses."""
FLOOR_SECONDS = 0.1
"""Below that a factor says nothing."""


async def test_small_playbooks_and_health_do_not_starve_beside_a_large_execution(
    make_server: MakeServer, nats: EmbeddedNats, database_url: str
) -> None:
    server = await make_server()
    client = Client([server.url])
    chain = MIXED[0]
    assert (await client.once("POST", "/api/catalog/register", {"content": chain.text}))[0] == 200

    async def small() -> float:
        begin = time.perf_counter()
        _, started = await client.once("POST", "/api/execute", {"path": chain.path})
        while True:
            _, status = await client.once("GET", f"/api/executions/{started['execution_id']}/status")
            if status["completed"]:
                return time.perf_counter() - begin
            await asyncio.sleep(0.005)

    async with Crew([server.url], nats.url, slots=4):
        await small()
        idle = sorted([await small() for _ in range(SMALL)])
        _, large = await client.once("POST", "/api/execute", {"path": chain.path})
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.flood", server.url),
            *(str(large["execution_id"]), str(EVENTS), str(CONNECTIONS)),
            cwd=Path(__file__).parents[2],
        )
        checks = asyncio.create_task(health_checks(server.url, flood))
        busy: list[float] = []
        while flood.returncode is None:
            busy.append(await small())
        busy.sort()
        health = sorted(await checks)
    client.close()
    assert flood.returncode == 0
    count = "SELECT count(*) FROM noetl.event WHERE execution_id = $1"
    assert (await query(database_url, count, int(large["execution_id"])))[0][0] >= EVENTS
    print(
        f"{EVENTS} events: a small playbook takes {idle[-1] * 1e3:.0f} ms when idle and {busy[p99(busy)] * 1e3:.0f} ms"
        f" beside them (p99 of {len(busy)}), health p99 {health[p99(health)] * 1e3:.1f} ms of {len(health)}"
    )
    assert busy[p99(busy)] < 3 * idle[-1] + FLOOR_SECONDS
    assert health[p99(health)] < SLOWEST_HEALTH_SECONDS


def p99(ordered: list[float]) -> int:
    """Place of the 99th percentile."""
    return int(len(ordered) * 0.99)


async def health_checks(url: str, flood: asyncio.subprocess.Process) -> list[float]:
    """Seconds that health took, again and again until the process has ended."""
    client, seconds = Client([url]), list[float]()
    while flood.returncode is None:
        begin = time.perf_counter()
        assert (await client.once("GET", "/api/health"))[0] == 200
        seconds.append(time.perf_counter() - begin)
        await asyncio.sleep(0.01)
    client.close()
    return seconds
