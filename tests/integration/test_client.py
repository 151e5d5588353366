"""The typed client against the real server: every resource, its models and its errors."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from noetl.client import (
    BadRequestError,
    ConflictError,
    NoetlClient,
    NotFoundError,
    RefusedError,
)
from tests.conftest import INTERNAL_TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeServer

HELLO = (Path(__file__).parents[2] / "examples" / "hello.yaml").read_text()
WAITING = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: waiting, path: client/waiting}
workflow:
- {step: start, tool: {kind: noop}}
"""


@pytest.fixture(scope="module")
async def server(make_server: MakeServer) -> ServerProcess:
    return await make_server()


@pytest.fixture(scope="module")
async def noetl(server: ServerProcess) -> AsyncIterator[NoetlClient]:
    async with NoetlClient(server.url, token=INTERNAL_TOKEN) as client:
        yield client


@pytest.fixture
async def execution_id(noetl: NoetlClient) -> int:
    """An execution that nobody works on."""
    await noetl.catalog.register(WAITING)
    return (await noetl.executions.start("client/waiting", {"n": 1})).execution_id


async def post_events(noetl: NoetlClient, execution_id: int, *event_ids: int, event_type: str = "call.note") -> None:
    """Store events with these ids that decide nothing."""
    for event_id in event_ids:
        event = {"execution_id": execution_id, "event_type": event_type, "step": "start", "event_id": event_id}
        await noetl.call("POST", "/api/events", {**event, "status": "RUNNING", "context": {"n": event_id}})


async def test_playbook_is_registered_read_and_listed(noetl: NoetlClient) -> None:
    first, second = await noetl.catalog.register(HELLO), await noetl.catalog.register(HELLO)
    assert (second.path, second.version, second.kind) == ("examples/hello", first.version + 1, "Playbook")
    assert second.problems == []
    assert (await noetl.catalog.get("examples/hello")).version == second.version
    by_id = await noetl.catalog.get_by_id(first.catalog_id)
    assert by_id == await noetl.catalog.get("examples/hello", first.version)
    assert (by_id.content, by_id.payload) == (HELLO, {"name": "world"})
    assert abs(datetime.now(UTC) - by_id.created_at) < timedelta(minutes=1)

    newest = await noetl.catalog.list(latest_only=True)
    assert [(entry.version, entry.content) for entry in newest if entry.path == first.path] == [(second.version, None)]
    (entry,) = await noetl.catalog.list(kind="playbook", limit=1, offset=1, include_content=True)
    assert (entry.catalog_id, entry.content) == (first.catalog_id, HELLO)
    assert await noetl.catalog.list(kind="credential") == []


async def test_problems_of_a_document_come_all_at_once(noetl: NoetlClient) -> None:
    text = HELLO.replace("kind: python", "kind: pyton") + "executor: {}\n"
    checked = await noetl.catalog.validate(text)
    assert (checked.valid, checked.path, checked.kind) == (False, "examples/hello", "Playbook")
    assert len(checked.problems) == text.count("pyton")
    assert [warning.field for warning in checked.warnings] == ["executor"]
    assert (await noetl.catalog.validate(HELLO)).valid
    assert (await noetl.catalog.register(text)).problems == checked.problems


async def test_execution_is_started_listed_and_read(noetl: NoetlClient, execution_id: int) -> None:
    detail = await noetl.executions.get(execution_id)
    assert (detail.execution_id, detail.path, detail.status, detail.workload) == (
        execution_id, "client/waiting", "RUNNING", {"n": 1},
    )  # fmt: skip
    assert [event.event_type for event in detail.events] == ["playbook_started", "command.issued"]
    assert detail.started_at == detail.events[0].created_at

    (newest,) = await noetl.executions.list(limit=1)
    assert (newest.execution_id, newest.event_count, newest.completed_at) == (execution_id, 2, None)
    for filters in ({"status": "RUNNING"}, {"path": "CLIENT/w"}, {"catalog_id": detail.catalog_id}):
        assert execution_id in {found.execution_id for found in await noetl.executions.list(**filters)}
    assert await noetl.executions.list(status="FAILED") == []
    assert execution_id not in {found.execution_id for found in await noetl.executions.list(offset=1)}


async def test_one_idempotency_key_is_one_execution(noetl: NoetlClient) -> None:
    entry = await noetl.catalog.register(WAITING)
    starts = [
        await noetl.executions.start(catalog_id=entry.catalog_id, idempotency_key=key) for key in ("a", "a", "b", None)
    ]
    assert starts[0] == starts[1]
    assert len({started.execution_id for started in starts}) == 3


async def test_version_and_parent_of_an_execution_are_given(noetl: NoetlClient, execution_id: int) -> None:
    entry = await noetl.catalog.register(WAITING)
    started = await noetl.executions.start(
        "client/waiting", version=entry.version - 1, parent_execution_id=execution_id
    )
    child = await noetl.executions.get(started.execution_id)
    assert (child.version, child.parent_execution_id) == (entry.version - 1, execution_id)
    assert set(await noetl.executions.cancel(execution_id, cascade=True)) == {execution_id, started.execution_id}


async def test_cancelled_execution_has_ended_and_not_failed(noetl: NoetlClient, execution_id: int) -> None:
    before = await noetl.executions.status(execution_id)
    assert (before.status, before.has_ended, before.end_time) == ("RUNNING", False, None)
    assert not await noetl.executions.is_cancelled(execution_id)
    assert await noetl.executions.cancel(execution_id, "no longer needed") == [execution_id]
    after = await noetl.executions.wait(execution_id)
    assert (after.status, after.has_ended, after.has_failed) == ("CANCELLED", True, False)
    assert await noetl.executions.is_cancelled(execution_id)
    with pytest.raises(RefusedError, match="Cannot cancel execution in CANCELLED state"):
        await noetl.executions.cancel(execution_id)


async def test_finalized_execution_tells_its_error(noetl: NoetlClient, execution_id: int) -> None:
    waiting = asyncio.create_task(noetl.executions.wait(execution_id, poll_seconds=0.01))
    for _ in range(2):
        await noetl.executions.finalize(execution_id, "FAILED", "given up")
    status = await asyncio.wait_for(waiting, 10)
    assert (status.has_failed, status.error) == (True, "given up")


async def test_events_are_paged_and_filtered(noetl: NoetlClient, execution_id: int) -> None:
    await post_events(noetl, execution_id, *range(1, 8))
    page = await noetl.executions.event_page(execution_id, page=2, page_size=3)
    assert len(page.events) == 3
    assert (page.pagination.total_events, page.pagination.total_pages) == (9, 3)
    assert (page.pagination.has_next, page.pagination.has_prev, page.has_ended) == (True, True, False)
    notes = [event async for event in noetl.executions.events(execution_id, event_type="call.note")]
    assert [event.event_id for event in notes] == [7, 6, 5, 4, 3, 2, 1]
    assert notes[0].result["context"] == {"n": 7}
    everything = [event.event_id async for event in noetl.executions.events(execution_id)]
    assert everything == sorted(everything, reverse=True)
    assert len(everything) == 9
    later = [event.event_id async for event in noetl.executions.events(execution_id, since_event_id=5)]
    assert later == everything[:4]


async def test_all_pages_are_read_even_when_new_events_push_them(
    noetl: NoetlClient, execution_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl.client.executions.PAGE_SIZE", 2)
    await post_events(noetl, execution_id, *range(1, 6))
    found: list[int] = []
    async for event in noetl.executions.events(execution_id, event_type="call.note"):
        found.append(event.event_id)
        if len(found) in (1, 3):
            await post_events(noetl, execution_id, 100 + len(found))
    assert found == [5, 4, 3, 2, 1]


async def test_followed_events_come_once_and_all_whatever_their_ids(
    noetl: NoetlClient, execution_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl.client.executions.NEWEST", 2)
    monkeypatch.setattr("noetl.client.executions.PAGE_SIZE", 3)
    followed: asyncio.Queue[int] = asyncio.Queue()
    types: list[str] = []

    async def follow() -> None:
        async for event in noetl.executions.follow(execution_id, poll_seconds=0.01):
            types.append(event.event_type)
            if event.event_type == "call.note":
                followed.put_nowait(event.event_id)

    following = asyncio.create_task(follow())
    async with asyncio.timeout(20):
        for ids in ([50, 60], [10], [20, 70, 30, 40, 80], [5]):  # below and above those already told
            await post_events(noetl, execution_id, *ids)
            assert sorted([await followed.get() for _ in ids]) == sorted(ids)
        await noetl.executions.cancel(execution_id)
        await following
    assert (types[:2], types[-1]) == (["playbook_started", "command.issued"], "playbook_cancelled")
    assert len(types) == 2 + 9 + 1
    assert followed.empty()


async def test_result_is_stored_and_read_back(noetl: NoetlClient, execution_id: int) -> None:
    data = {"b": [1, 2.5, None], "a": "ü"}
    stored = await noetl.results.put(execution_id, "step/one", data, source_step="start")
    assert stored.bytes == len(orjson.dumps(data))
    assert await noetl.results.get(stored.ref) == data
    with pytest.raises(BadRequestError):
        await noetl.results.get("noetl://nowhere")
    with pytest.raises(NotFoundError, match="result not found"):
        await noetl.results.get(stored.ref.rpartition("/")[0] + "/1")


@pytest.mark.parametrize("tells_size", [True, False])
async def test_large_result_goes_through_in_pieces(noetl: NoetlClient, execution_id: int, tells_size: bool) -> None:
    text = b"[" + b",".join(b'"%06d"' % number for number in range(400_000)) + b"]"
    pieces = [text[start : start + 100_000] for start in range(0, len(text), 100_000)]

    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    size = len(text) if tells_size else None
    stored = await noetl.results.put_stream(execution_id, "large", source(), size=size)
    assert stored.bytes == len(text)
    async with noetl.results.stream(stored.ref) as coming:
        received = [piece async for piece in coming]
    assert b"".join(received) == text
    assert len(received) > 3, "it came in pieces"


async def test_failing_source_of_an_upload_is_not_the_servers_fault(noetl: NoetlClient, execution_id: int) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield b'["half'
        raise FileNotFoundError("the other half")

    with pytest.raises(FileNotFoundError, match="the other half"):
        await noetl.results.put_stream(execution_id, "broken", source())
    assert await noetl.is_healthy()


async def test_upload_beyond_the_limit_is_refused_before_it_is_sent(make_server: MakeServer) -> None:
    sent = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(4_000):
            sent += 1
            yield b" " * 100_000
        yield b"1"

    server = await make_server({"NOETL_RESULT_MAX_BYTES": "3000000", "NATS_URL": ""})
    async with NoetlClient(server.url) as noetl:
        with pytest.raises(BadRequestError, match="length limit exceeded") as refusal:
            await noetl.results.put_stream(1, "huge", source(), size=400_000_001)
        assert (refusal.value.status, refusal.value.code) == (413, "too_large")
    assert sent < 4_000


async def test_missing_streamed_result_is_an_error_of_the_same_kind(noetl: NoetlClient, execution_id: int) -> None:
    with pytest.raises(NotFoundError, match="result not found"):
        async with noetl.results.stream(f"noetl://execution/{execution_id}/result/x/1"):
            pass


async def test_variables_are_set_read_and_deleted(noetl: NoetlClient, execution_id: int) -> None:
    await noetl.variables.set(execution_id, {"b/ä": [1], "a": None}, type="computed", source_step="start")
    listed = await noetl.variables.list(execution_id)
    assert [(one.name, one.value, one.type, one.access_count) for one in listed] == [
        ("a", None, "computed", 0), ("b/ä", [1], "computed", 0),
    ]  # fmt: skip
    assert (await noetl.variables.get(execution_id, "b/ä")).access_count == 1
    await noetl.variables.delete(execution_id, "b/ä")
    with pytest.raises(NotFoundError, match="Variable not found: b/ä"):
        await noetl.variables.get(execution_id, "b/ä")
    assert [await noetl.variables.clear(execution_id) for _ in range(2)] == [1, 0]


async def test_credentials_show_their_value_only_on_demand(noetl: NoetlClient) -> None:
    secret = {"password": "hunter2-hunter2"}
    stored = await noetl.credentials.put("client/db", "postgres", secret, tags=["t"], description="for tests")
    assert (stored.name, stored.tags, stored.data) == ("client/db", ["t"], None)
    for identifier in ("client/db", stored.id):
        assert (await noetl.credentials.get(identifier)).data is None
        shown = await noetl.credentials.get(identifier, include_data=True)
        assert shown.data == secret
        assert "hunter2" not in repr(shown)
    assert [one.name for one in await noetl.credentials.list(type="postgres", q="client")] == ["client/db"]
    await noetl.credentials.delete("client/db")
    with pytest.raises(NotFoundError, match="Credential 'client/db' not found"):
        await noetl.credentials.get("client/db")


async def test_workers_register_live_and_leave(noetl: NoetlClient) -> None:
    registered = await noetl.pools.register("client-test", labels={"pool_name": "p"}, capacity=4)
    assert (registered.status, registered.labels, registered.capacity) == ("ready", {"pool_name": "p"}, 4)
    await noetl.pools.heartbeat("client-test")
    (listed,) = await noetl.pools.list(name="client-test", status="ready")
    assert listed.heartbeat > registered.heartbeat
    await noetl.pools.deregister("client-test")
    with pytest.raises(NotFoundError, match="Runtime not found"):
        await noetl.pools.heartbeat("client-test")
    await noetl.pools.heartbeat("client-test", registration={"status": "ready"})
    await noetl.pools.deregister("client-test")


async def test_health_names_its_parts(noetl: NoetlClient) -> None:
    health = await noetl.health()
    assert (health.status, health.database, health.nats) == ("ok", "connected", "connected")
    assert await noetl.is_healthy()


async def test_refusal_carries_status_code_and_the_words_of_the_server(noetl: NoetlClient) -> None:
    with pytest.raises(NotFoundError, match=r"^Execution not found: 5555$") as refusal:
        await noetl.executions.get(5555)
    error = refusal.value
    assert (error.status, error.code, error.message) == (404, "not_found", "Execution not found: 5555")
    assert error.request_id
    with pytest.raises(BadRequestError, match="Cannot parse `a/b` to a `i64`"):
        await noetl.executions.get("a/b")


async def test_same_event_id_with_other_content_is_a_conflict(noetl: NoetlClient, execution_id: int) -> None:
    event = {"execution_id": execution_id, "event_type": "x", "step": "s", "event_id": 5, "status": "RUNNING"}
    await noetl.call("POST", "/api/events", event)
    with pytest.raises(ConflictError) as refusal:
        await noetl.call("POST", "/api/events", {**event, "status": "COMPLETED"})
    assert (refusal.value.status, refusal.value.code) == (409, "conflict")


async def test_ids_are_integers_even_where_the_server_writes_strings(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_JSON_IDS": "string", "NATS_URL": ""})
    async with NoetlClient(server.url) as noetl:
        entry = await noetl.catalog.register(WAITING)
        started = await noetl.executions.start(catalog_id=entry.catalog_id)
        status = await noetl.executions.status(started.execution_id)
        assert status.execution_id == started.execution_id
        assert isinstance(started.execution_id, int)
