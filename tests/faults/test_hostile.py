"""Hostile input against every route: no 5xx, no crash, memory stays bounded, other clients notice nothing."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from noetl.config import load_settings
from noetl.server import Server
from noetl.store.database import Database
from tests.conftest import INTERNAL_TOKEN
from tests.faults.hostile import Hostile
from tests.faults.wire import Client

if TYPE_CHECKING:
    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeServer

pytestmark = pytest.mark.faults

REQUESTS = int(os.environ.get("NOETL_FAULT_REQUESTS", "1500"))
SEED = int(os.environ.get("NOETL_FAULT_SEED", "0")) or random.randrange(2**32)
SENDERS = 8
ANSWER_SECONDS = 15.0
"""Longest wait for an answer; a body that never comes is given up by the server after NOETL_REQUEST_TIMEOUT_SECONDS."""
LARGEST_MIB = 512
CONTRACTUAL = re.compile(rb"Template (parse|render) error|Validation error: |expires_at or expires_in is required")
"""The reference answers 500 to a start step that cannot be rendered, and to a keychain entry without end."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")
VALID_PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: valid, path: hostile/valid}
workflow: [{step: start, tool: {kind: noop}}]
"""


async def routes_of(database_url: str) -> list[tuple[str, str]]:
    """Method and template of every route of the application, as the server registers them."""
    settings = load_settings({"DATABASE_URL": database_url})
    database = await Database.connect(settings.database)
    try:
        application = Server(settings, database).application
        return [(method, route.template) for route in application.routes for method in route.endpoints]
    finally:
        await database.close()


async def exchange(server: ServerProcess, request: bytes, *, is_whole: bool) -> bytes:
    """Send bytes and read until the server closes; after a part of a request, say that nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answer = b""
    try:
        writer.write(request)
        if not is_whole:
            writer.write_eof()
        async with asyncio.timeout(ANSWER_SECONDS):
            while piece := await reader.read(65536):
                answer += piece
    except (ConnectionError, TimeoutError):
        pass  # the server may close on what it does not like, at any moment
    finally:
        writer.transport.abort()
    return answer


def errors_of(server: ServerProcess) -> list[str]:
    """What the server logged as its own errors."""
    return [line for line in server.log_text().splitlines() if '"level":"ERROR"' in line and "error" in line][-3:]


async def test_hostile_input_is_refused_and_harms_nobody(make_server: MakeServer, database_url: str) -> None:
    server = await make_server({"NOETL_SQL_API": "token", "NOETL_REQUEST_TIMEOUT_SECONDS": "5"}, nats_url="")
    client = Client([server.url])
    assert (await client.once("POST", "/api/catalog/register", {"content": VALID_PLAYBOOK}))[0] == 200
    pid, routes = server.pid, await routes_of(database_url)
    failures: list[tuple[bytes, bytes]] = []
    statuses: dict[int, int] = {}
    waits: list[float] = []
    peak = unanswered = 0

    async def send(number: int) -> None:
        nonlocal unanswered
        hostile = Hostile(routes, INTERNAL_TOKEN, random.Random(f"{SEED}/{number}"))
        for _ in range(REQUESTS // SENDERS):
            request, is_whole = hostile.request()
            answer = await exchange(server, request, is_whole=is_whole)
            unanswered += is_whole and not answer
            for status in map(int, _STATUS.findall(answer)):
                statuses[status] = statuses.get(status, 0) + 1
                if status >= 500 and status != 503 and not CONTRACTUAL.search(answer):
                    failures.append((request[:2_000], answer[-500:]))

    async def watch() -> None:
        nonlocal peak
        while True:
            begin = time.monotonic()
            status, _ = await client.once("GET", "/api/health")
            assert status == 200
            waits.append(time.monotonic() - begin)
            peak = max(peak, psutil.Process(pid).memory_info().rss)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(send(number) for number in range(SENDERS)))
    assert not watching.done(), watching
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    waits.sort()
    print(
        f"seed {SEED}: {REQUESTS} requests, statuses {dict(sorted(statuses.items()))}, {unanswered} without answer,"
        f" peak {peak >> 20} MiB,"
        f" health p99 {waits[int(len(waits) * 0.99)] * 1e3:.0f} ms, max {waits[-1] * 1e3:.0f} ms"
    )
    for request, answer in failures[:5]:
        print(request, "\n ->", answer)
    assert not failures, f"{len(failures)} failures with seed {SEED}; the server says: {errors_of(server)}"
    assert (server.pid, server.exit_code) == (pid, None)
    assert peak < LARGEST_MIB << 20
    assert waits[-1] < 2
    status, _ = await client.once("POST", "/api/execute", {"path": "hostile/valid"})
    assert status == 200
    client.close()
