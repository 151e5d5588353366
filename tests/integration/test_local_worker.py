"""The local worker against the real server: each kind of tool, and what it says about the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from noetl.client import NoetlClient
from noetl.dev.control_plane import ControlPlane
from noetl.dev.services import free_port
from noetl.dev.worker import LocalWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.client import ExecutionDetail, ExecutionEvent
    from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
    from tests.conftest import MakeServer

PIPELINE = [
    {"one": {"kind": "python", "code": "result = {'v': 10}"}},
    {"two": {"kind": "python", "args": {"p": "{{ _prev.v }}"}, "code": "result = {'w': p + 1}"}},
    {"three": {"kind": "shell", "command": "echo {{ _results.one.v }} {{ _prev.w }}"}},
]

CASES: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("python result", {"kind": "python", "args": {"a": 2}, "code": "result = a + 1"}, "success", {"data": 3}),
    (
        "python without a result",
        {"kind": "python", "code": "print('hi')"},
        "success",
        {"data": {"stdout": "hi\n", "stderr": ""}, "exit_code": 0},
    ),
    (
        "python that raises",
        {"kind": "python", "code": "raise ValueError('boom')"},
        "error",
        {"error": "Python script exited with code 1", "exit_code": 1},
    ),
    (
        "python that takes too long",
        {"kind": "python", "timeout": 1, "code": "import time; time.sleep(60)"},
        "timeout",
        {"error": "Execution timed out after 1 seconds"},
    ),
    ("shell", {"kind": "shell", "command": "echo hello"}, "success", {"stdout": "hello\n", "exit_code": 0}),
    ("shell that fails", {"kind": "shell", "command": "exit 3"}, "error", {"error": "Command exited with code 3"}),
    ("noop", {"kind": "noop"}, "success", {"data": {"message": "noop", "status": "ok"}}),
    ("pipeline", PIPELINE, "success", {"stdout": "10 11\n"}),
    (
        "pipeline that fails",
        [{"one": {"kind": "shell", "command": "exit 2"}}, {"two": {"kind": "noop"}}],
        "error",
        {"error": "Command exited with code 2"},
    ),
    ("large result", {"kind": "python", "code": "result = 'x ' * 45000"}, "success", {"data": "x " * 45000}),
]


@pytest.fixture(scope="module")
async def server(make_server: MakeServer, nats: EmbeddedNats) -> AsyncIterator[ControlPlane]:
    process = await make_server()
    stop = asyncio.Event()
    worker = asyncio.create_task(LocalWorker(process.url, nats.url, worker_id="test-worker").run(stop))
    async with ControlPlane(process.url) as control_plane:
        yield control_plane
    stop.set()
    await worker


async def run(server: ControlPlane, tool: Any, payload: dict[str, Any] | None = None) -> ExecutionDetail:
    """Register a playbook with one step, run it, and return its detail."""
    playbook = {
        "apiVersion": "noetl.io/v2",
        "kind": "Playbook",
        "metadata": {"name": "one", "path": "worker/one"},
        "workflow": [{"step": "start", "tool": tool}],
    }
    await server.catalog.register(yaml.safe_dump(playbook))
    started = await server.executions.start("worker/one", payload)
    async with asyncio.timeout(30):
        await server.executions.wait(started.execution_id, poll_seconds=0.05)
    return await server.executions.get(started.execution_id)


def event(detail: ExecutionDetail, event_type: str) -> ExecutionEvent:
    """The one event of this type."""
    (found,) = (item for item in detail.events if item.event_type == event_type)
    return found


@pytest.mark.parametrize(("tool", "status", "members"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_tool_result_is_reported_as_by_the_real_worker(
    server: ControlPlane, tool: Any, status: str, members: dict[str, Any]
) -> None:
    detail = await run(server, tool)
    assert detail.status == "COMPLETED"
    result = event(detail, "call.done").result["context"]["result"]
    assert result["status"] == status
    context = result["context"]
    assert {name: context[name] for name in members} == members
    assert event(detail, "command.completed").status == status


async def test_http_answer_is_data(server: ControlPlane) -> None:
    detail = await run(server, {"kind": "http", "url": "{{ url }}/health"}, {"url": server.url})
    data = event(detail, "call.done").result["context"]["result"]["context"]["data"]
    assert data["body"] == {"status": "ok"}
    assert data["status_code"] == 200


async def test_refused_connection_fails_the_step(server: ControlPlane) -> None:
    detail = await run(server, {"kind": "http", "url": "http://127.0.0.1:1/"})
    assert detail.status == "FAILED"
    assert "refused" in event(detail, "command.failed").result["context"]["error"]


async def test_postgres_rows_are_data(server: ControlPlane, postgres: EmbeddedPostgres) -> None:
    tool = {
        "kind": "postgres",
        "connection": postgres.dsn,
        "query": "SELECT 1 AS a, 2.5::numeric AS b, 'x' AS c",
    }
    data = event(await run(server, tool), "call.done").result["context"]["result"]["context"]["data"]
    assert data["columns"] == ["a", "b", "c"]
    assert data["rows"][0]["b"] == 2.5


async def test_unknown_kind_fails_the_step_and_names_the_real_worker(server: ControlPlane) -> None:
    detail = await run(server, {"kind": "duckdb", "query": "select 1"})
    assert detail.status == "FAILED"
    assert "noetl-worker" in event(detail, "command.failed").result["context"]["error"]


async def test_sub_playbook_is_awaited(server: ControlPlane) -> None:
    child = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: child, path: worker/child}
workflow:
  - step: start
    tool: {kind: python, args: {v: "{{ v }}"}, code: "import time; time.sleep(0.3); result = {'v': v}"}
"""
    await server.catalog.register(child)
    tool = {"kind": "playbook", "path": "worker/child", "args": {"v": 42}, "return_step": "start", "poll_interval": 1}
    data = event(await run(server, tool), "call.done").result["context"]["result"]["context"]["data"]
    assert data["status"] == "COMPLETED"
    assert data["completed"] is True


async def test_worker_that_never_reached_nats_stops_when_told_so(make_server: MakeServer) -> None:
    server = await make_server()
    worker = LocalWorker(server.url, f"nats://127.0.0.1:{free_port()}", worker_id="local-early")
    stop = asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    async with asyncio.timeout(10), NoetlClient(server.url) as client:
        while "local-early" not in {pool.name for pool in await client.pools.list()}:  # noqa: ASYNC110 (the server tells)
            await asyncio.sleep(0.02)
        stop.set()
        await running
