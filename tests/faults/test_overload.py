"""More requests than the server takes at once: some are told to come again, at once, and nothing else changes (I14)."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from benchmarks.load.connection import Connection, encode
from tests.faults.checker import open_check
from tests.faults.history import History
from tests.faults.wire import Client, address
from tests.faults.workflows import MIXED

if TYPE_CHECKING:
    from tests.conftest import MakeServer

pytestmark = pytest.mark.faults

LIMIT = 50
CLIENTS = 400
SECONDS = 2.0
LARGEST_GROWTH_MIB = 64


async def test_overload_is_refused_at_once_and_what_was_acknowledged_is_stored(
    make_server: MakeServer, database_url: str
) -> None:
    server = await make_server({"NOETL_MAX_REQUESTS_IN_FLIGHT": str(LIMIT)})
    client = Client([server.url])
    assert (await client.once("POST", "/api/catalog/register", {"content": MIXED[0].text}))[0] == 200
    _, started = await client.once("POST", "/api/execute", {"path": MIXED[0].path})
    client.close()
    execution_id = int(started["execution_id"])
    history = History()
    resident = psutil.Process(server.pid).memory_info().rss
    waits: dict[int, list[float]] = {200: [], 503: []}

    async def load(first: int, step: int, seconds: float) -> int:
        """Post events, coming again a second after a refusal as it is told; returns the number that were taken."""
        connection = Connection(*address(server.url))
        end = time.monotonic() + seconds
        event_id, taken = first, 0
        while time.monotonic() < end:
            body = {"execution_id": execution_id, "step": "load", "event_type": "step.enter", "event_id": event_id}
            begin = time.perf_counter()
            answer = await connection.send(encode("POST", "/api/events", body))
            waits[answer.status].append(time.perf_counter() - begin)
            if answer.status == 200:
                history.stored(execution_id, event_id)
                event_id, taken = event_id + step, taken + 1
            else:
                assert answer.headers[b"retry-after"] == b"1"
                await asyncio.sleep(1)
        connection.close()
        return taken

    async def rate(first: int, clients: int) -> float:
        begin = time.monotonic()
        taken = await asyncio.gather(*(load(first + number, clients, SECONDS) for number in range(clients)))
        return sum(taken) / (time.monotonic() - begin)

    capacity = await rate(1, LIMIT // 2)
    assert waits[503] == []
    goodput = await rate(1_000_000, CLIENTS)
    refused = sorted(waits[503])
    assert refused, "there was no overload"
    assert goodput > 0.6 * capacity
    assert refused[len(refused) // 2] < 0.5
    assert psutil.Process(server.pid).memory_info().rss - resident < LARGEST_GROWTH_MIB << 20
    assert await health(server.url) == 200
    async with open_check(database_url, [execution_id]) as check:
        await check.history(history)
    assert check.broken == {}


async def health(url: str) -> Any:
    """Status of the server after the load."""
    client = Client([url])
    try:
        return (await client.once("GET", "/api/health"))[0]
    finally:
        client.close()
