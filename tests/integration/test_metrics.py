"""`/metrics` of a running server: it counts what happened, and hostile clients cannot make it grow."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from noetl.client import NoetlClient
from tests.integration.http.rawhttp import RawClient, Reply

if TYPE_CHECKING:
    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeServer

METHODS = ("GET", "PROPFIND", "MKCOL", "REPORT", "SUBSCRIBE", "PURGE", "UNLOCK")
"""One that is served, and some that the HTTP parser lets through."""
HELLO = (Path(__file__).parents[2] / "examples" / "hello.yaml").read_text()


@pytest.fixture(scope="module")
async def server(make_server: MakeServer) -> ServerProcess:
    return await make_server()


@pytest.fixture
async def client(server: ServerProcess) -> RawClient:
    return RawClient("127.0.0.1", server.port)


async def call(client: RawClient, method: str, path: str, body: str = "") -> Reply:
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    await client.send((head + body).encode())
    return await client.receive(head=method == "HEAD")


async def samples(client: RawClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    reply = await call(client, "GET", "/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


async def started(server: ServerProcess) -> int:
    async with NoetlClient(server.url) as noetl:
        await noetl.catalog.register(HELLO)
        return (await noetl.executions.start("examples/hello")).execution_id


def event(execution_id: int, event_type: str) -> str:
    return json.dumps({"execution_id": str(execution_id), "step": "start", "event_type": event_type, "payload": {}})


async def test_what_happened_is_counted(server: ServerProcess, client: RawClient) -> None:
    before = await samples(client)
    execution_id = await started(server)
    await call(client, "POST", "/api/events", event(execution_id, "step.enter"))
    await call(client, "POST", "/api/catalog/register", '{"content": ":"}')
    await call(client, "POST", "/api/catalog/register", "{")  # not understood: not counted
    await call(client, "PUT", "/api/result/1", '{"name": "r", "data": [1]}')
    await call(client, "GET", "/api/result/resolve?ref=noetl://execution/1/result/r/1")
    await call(client, "GET", "/api/result/resolve?ref=x")
    after = await samples(client)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert grown("noetl_events_ingested_total", event_type="step.enter", status="ok") == 1
    assert grown("noetl_event_ingest_duration_seconds_count", event_type="step.enter") == 1
    assert grown("noetl_write_requests_total", endpoint="catalog_register", status="ok") == 1
    assert grown("noetl_write_requests_total", endpoint="catalog_register", status="error") == 1
    assert grown("noetl_write_request_duration_seconds_count", endpoint="catalog_register") == 2
    assert grown("noetl_result_store_put_total", status="ok") == 1
    assert grown("noetl_result_store_put_duration_seconds_count", status="ok") == 1
    assert grown("noetl_result_store_resolve_total", status="not_found") == 1
    assert grown("noetl_result_store_resolve_total", status="bad_request") == 1
    assert grown("noetl_executions_started_total") == 1
    assert grown("noetl_commands_issued_total", pool_segment="shared") == 1
    assert grown("noetl_http_requests_total", method="POST", route="/api/events", status="200") == 1
    assert grown("noetl_db_acquire_duration_seconds_count", pool="cluster") > 0
    assert grown("noetl_lane_batch_size_count") > 0
    assert grown("noetl_lane_phase_seconds_count", phase="write") > 0
    assert after["noetl_http_requests_in_flight", ()] == 1
    assert after["noetl_nats_connected", ()] == 1
    assert after["noetl_db_pool_connections", (("pool", "cluster"), ("state", "maximum"))] == 10
    assert after["noetl_lane_queue_depth", ()] == 0
    assert after["process_resident_memory_bytes", ()] > 1 << 20


async def test_hostile_requests_do_not_make_it_grow(server: ServerProcess, client: RawClient) -> None:
    execution_id = await started(server)
    for number in range(300):
        await call(client, METHODS[number % len(METHODS)], f"/api/{number}/{'x' * number}")
        await call(client, METHODS[number % len(METHODS)], f"/api/commands/{number}")
        await call(client, "GET", f"/api/commands/{number}")
        await call(client, "GET", f"/api/executions/{execution_id + number}?a={number}")
    async with asyncio.TaskGroup() as tasks:
        for part in range(4):
            tasks.create_task(_send_events(server, execution_id, range(part * 75, part * 75 + 75)))
    page = (await call(client, "GET", "/metrics")).text
    assert len(set(re.findall(r'noetl_events_ingested_total\{event_type="([^"]*)"', page))) <= 201
    assert set(re.findall(r'method="([^"]*)"', page)) <= {
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "OTHER",
    }
    routes = set(re.findall(r'route="([^"]*)"', page))
    assert {"unmatched", "/api/commands/{event_id}"} <= routes
    assert not {route for route in routes if re.search(r"\d", route)}
    assert "execution_id=" not in page
    assert str(execution_id) not in page
    assert len(page.splitlines()) < 8_000


async def _send_events(server: ServerProcess, execution_id: int, numbers: range) -> None:
    client = RawClient("127.0.0.1", server.port)
    for number in numbers:
        await call(client, "POST", "/api/events", event(execution_id, f"made.up.{number}"))
        await call(client, "POST", "/api/events", event(number, "y" * number))


async def test_page_is_not_there_when_switched_off(make_server: MakeServer) -> None:
    quiet = await make_server({"NOETL_DISABLE_METRICS": "true"})
    assert (await call(RawClient("127.0.0.1", quiet.port), "GET", "/metrics")).status == 404
