"""Traces of a running server as a collector gets them, and servers whose collector or extra is not there."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from noetl.client import NoetlClient
from noetl.dev.worker import LocalWorker
from tests.integration.http.rawhttp import RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from noetl.dev.server_process import ServerProcess
    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = ("traceparent", f"00-{TRACE}-{CALLER}-01")
PAYLOAD = "text-of-the-payload"
HEADER = "token-of-the-collector"

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: traced, path: tests/traced}
workflow:
  - step: start
    tool: {kind: noop}
    next: [{step: end}]
  - step: end
    tool: {kind: noop}
"""


class Collector:
    """Takes traces over OTLP/HTTP."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        """By span id."""
        self.resource: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.answers = asyncio.Event()
        self.answers.set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        await self.answers.wait()
        self.tokens.add(request.headers.get("authorization", ""))
        for resource in message.resource_spans:
            self.resource = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans |= {span.span_id.hex(): span for span in scope.spans}
        return web.Response(content_type="application/x-protobuf")

    def named(self, name: str, trace_id: str | None = None) -> list[Span]:
        found = [span for span in self.spans.values() if span.name == name]
        return [span for span in found if trace_id is None or span.trace_id.hex() == trace_id]

    def parent(self, span: Span) -> str:
        """Name of the parent span."""
        return self.spans[span.parent_span_id.hex()].name


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    application = web.Application()
    application.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.answers.set()
    await runner.cleanup()


def attributes(span: Span) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value") or "") for item in span.attributes}


def lines(server: ServerProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]


async def run_playbook(server: ServerProcess, nats: EmbeddedNats) -> str:
    """Run the playbook to its end with a real worker, started by a caller that is traced; returns the execution id."""
    stop = asyncio.Event()
    worker = asyncio.create_task(LocalWorker(server.url, nats.url, worker_id="w").run(stop))
    try:
        async with NoetlClient(server.url) as noetl:
            await noetl.catalog.register(PLAYBOOK)
            reply = await RawClient("127.0.0.1", server.port).post(
                f"/api/execute?secret={PAYLOAD}", {"path": "tests/traced", "payload": {"key": PAYLOAD}}, TRACEPARENT
            )
            execution_id = reply.json["execution_id"]
            status = await asyncio.wait_for(noetl.executions.wait(execution_id, poll_seconds=0.05), 20)
            assert status.status == "COMPLETED"
    finally:
        stop.set()
        await worker
    return execution_id


async def test_spans_of_a_playbook_reach_the_collector(
    make_server: MakeServer, nats: EmbeddedNats, collector: Collector
) -> None:
    server = await make_server(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={HEADER}",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
    )
    execution_id = await run_playbook(server, nats)
    client = RawClient("127.0.0.1", server.port)
    await client.request("GET", "/healthz", headers=[TRACEPARENT])
    assert (await client.get(f"/api/executions/{execution_id}")).status == 200
    assert (await client.post("/api/commands/1/claim", {"worker_id": "w"})).status == 404
    await server.stop()  # sends what waits

    [execute] = collector.named("POST /api/execute")
    assert (execute.trace_id.hex(), execute.parent_span_id.hex(), execute.kind) == (TRACE, CALLER, 2)
    assert attributes(execute) == {
        "http.request.method": "POST",
        "http.route": "/api/execute",
        "http.response.status_code": 200,
        "execution_id": execution_id,
    }
    [start] = collector.named("playbook.execute", TRACE)
    assert (collector.parent(start), attributes(start)) == ("POST /api/execute", {"execution_id": execution_id})
    [batch] = collector.named("ledger.batch", TRACE)
    assert collector.parent(batch) == "playbook.execute"
    assert attributes(batch) == {"execution_id": execution_id, "size": 1}
    [publish] = collector.named("nats.publish", TRACE)
    assert (collector.parent(publish), publish.kind) == ("playbook.execute", 4)
    assert attributes(publish).keys() == {"execution_id", "event_id", "pool_segment"}
    assert execute.start_time_unix_nano <= start.start_time_unix_nano <= batch.start_time_unix_nano
    assert batch.end_time_unix_nano <= start.end_time_unix_nano <= execute.end_time_unix_nano

    passes = collector.named("orchestrator.evaluate")
    assert len(passes) == 2
    for decided in passes:
        assert collector.parent(decided) == "event.ingest"
        assert attributes(decided)["execution_id"] == execution_id
    claims = [span for span in collector.named("command.claim") if "error.type" not in attributes(span)]
    assert [(collector.parent(span), attributes(span)) for span in claims] == [
        ("POST /api/commands/{event_id}/claim", {"execution_id": execution_id})
    ] * 2
    assert collector.named("periodic.recovery")
    [detail] = [span for span in collector.named("GET /api/executions/{execution_id}") if span.trace_id.hex() != TRACE]
    assert attributes(detail)["execution_id"] == execution_id
    [unknown] = [
        span
        for span in collector.named("POST /api/commands/{event_id}/claim")
        if attributes(span)["http.response.status_code"] == 404
    ]
    assert unknown.status.code == 0, "an error of the client is none of the server"

    [probe] = [span for span in collector.spans.values() if span.name.endswith(("/healthz", "/readyz"))]
    assert probe.parent_span_id.hex() == CALLER, "a probe has a span only when its caller is traced"
    everything = "".join(map(str, collector.spans.values()))
    assert PAYLOAD not in everything
    assert not any(span.events for span in collector.spans.values())
    assert collector.tokens == {HEADER}
    assert HEADER not in server.log_text()
    assert collector.resource["service.name"] == "noetl-server"
    assert collector.resource["deployment.environment.name"] == "test"


async def test_server_without_the_extra_starts_and_names_it_and_logs_traces_of_callers(
    make_server: MakeServer, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    server = await make_server(
        {
            "PYTHONPATH": str(tmp_path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "RUST_LOG": "tower_http=debug,info",
        }
    )
    client = RawClient("127.0.0.1", server.port)
    for path, headers in {
        "/a": [TRACEPARENT, ("x-request-id", "mine")],
        "/b": [("traceparent", f"00-{'0' * 32}-{CALLER}-01")],
        "/c": [TRACEPARENT, TRACEPARENT],
        "/d": [],
    }.items():
        assert (await client.request("GET", path, headers=headers)).status == 404
    await server.stop()
    [warning] = [line for line in lines(server) if line["level"] == "WARN"]
    assert "noetl-server[otel]" in warning["fields"]["message"]
    requests = {line["fields"].get("path"): line["fields"] for line in lines(server)}
    assert (requests["/a"]["trace_id"], requests["/a"]["request_id"]) == (TRACE, "mine")
    assert all("trace_id" not in requests[path] for path in ("/b", "/c", "/d"))


async def test_collector_that_does_not_answer_delays_neither_requests_nor_the_end(
    make_server: MakeServer, collector: Collector
) -> None:
    collector.answers.clear()
    server = await make_server(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_BSP_MAX_QUEUE_SIZE": "8",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4",
        }
    )
    client = RawClient("127.0.0.1", server.port)
    for _ in range(50):
        assert (await client.request("GET", "/healthz", headers=[TRACEPARENT])).status == 200
    begin = time.monotonic()
    await server.stop()
    assert time.monotonic() - begin < 5
    assert any(line["fields"]["message"] == "Traces left unsent" for line in lines(server))
