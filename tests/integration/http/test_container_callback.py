"""How the end of a container job gets into the log (spec 20, section 10.4)."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from noetl._fast.snowflake import SnowflakeGenerator
from noetl.config import load_settings
from noetl.http.application import HttpApplication
from noetl.http.container_callback import ContainerCallbackRoutes
from noetl.ledger.ledger import Ledger, LedgerLimits
from noetl.ledger.playbooks import Playbooks
from noetl.observability.metrics import CALLBACK_STATES, Metrics
from noetl.store.catalog import CatalogStore
from noetl.store.commands import CommandStore
from noetl.store.container_callbacks import ContainerCallbackStore
from noetl.store.database import Database
from noetl.store.executions import ExecutionStore
from tests.integration.http.internal_routes import call, internal_application
from tests.integration.ledger_harness import CollectingAnnouncer, LedgerHarness, SilentMetrics, open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.ledger.items import IncomingEvent
    from tests.integration.http.rawhttp import RawClient, Reply, Serve

PLAYBOOK = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: job, path: job}
workflow:
  - step: start
    tool: {kind: noop}
    next:
      arcs: [{step: job}]
  - step: job
    tool: {kind: noop}
    next:
      arcs: [{step: end}]
  - step: end
    tool: {kind: noop}
"""


@pytest.fixture(scope="module")
async def harness(harness: LedgerHarness) -> LedgerHarness:
    await harness.register(PLAYBOOK)
    return harness


@pytest.fixture(scope="module")
def metrics() -> Metrics:
    return Metrics("0")


@pytest.fixture(scope="module")
def application(harness: LedgerHarness, metrics: Metrics) -> HttpApplication:
    return internal_application(harness, metrics)


@pytest.fixture
async def client(application: HttpApplication, serve: Serve) -> RawClient:
    return await serve(application)


@pytest.fixture
async def execution_id(harness: LedgerHarness) -> int:
    return await harness.start("job")


async def report(client: RawClient, execution_id: int, step: str = "job", **members: Any) -> Reply:
    body = {"state": "succeeded", "job_name": "job-1", **members}
    return await call(client, f"/api/internal/container-callback/{execution_id}/{step}", body)


async def stored(harness: LedgerHarness, execution_id: int) -> list[dict[str, Any]]:
    records = await harness.database.fetch(
        "SELECT * FROM noetl.event WHERE execution_id = $1 AND event_type = 'call.done' ORDER BY log_position",
        execution_id,
    )
    return [dict(record) for record in records]


@asynccontextmanager
async def narrow_harness(url: str) -> AsyncIterator[LedgerHarness]:
    """A server whose pool has one connection, which is busy for a second before a request gives up."""
    settings = load_settings({"DATABASE_URL": url, "POSTGRES_MAX_CONNECTIONS": "1", "POSTGRES_ACQUIRE_TIMEOUT": "1"})
    database = await Database.connect(settings.database)
    catalog, announcer = CatalogStore(database), CollectingAnnouncer()
    ledger = Ledger(
        database, catalog, ExecutionStore(database), CommandStore(database), Playbooks(catalog, 2**20),
        SnowflakeGenerator(3), announcer, SilentMetrics(), LedgerLimits(),
    )  # fmt: skip
    running = asyncio.create_task(ledger.run())
    try:
        yield LedgerHarness(database, ledger, catalog, announcer)
    finally:
        await ledger.close()
        await running
        await database.close()


@pytest.mark.parametrize("state", CALLBACK_STATES)
async def test_callback_becomes_a_call_done_of_the_step(
    client: RawClient, harness: LedgerHarness, metrics: Metrics, execution_id: int, state: str
) -> None:
    before = metrics.container_callbacks.labels(state).value
    members = {
        "job_uid": "0a1b", "completed_at": "2026-11-23T14:47:12.5+02:00", "exit_code": -1, "reason": "Error",
        "stdout_uri": "s3://a/out", "stderr_uri": "s3://a/err",
    }  # fmt: skip
    reply = await report(client, execution_id, state=state, **members)
    [row] = await stored(harness, execution_id)
    assert (reply.status, reply.json) == (202, {"status": "accepted_in_flight", "event_id": str(row["event_id"])})
    status = "COMPLETED" if state == "succeeded" else "FAILED"
    assert (row["node_id"], row["node_name"], row["node_type"], row["status"]) == ("job", "job", "container", status)
    payload = {
        "terminal_state": state, "job_name": "job-1", **members, "completed_at": "2026-11-23T12:47:12.500Z",
    }  # fmt: skip
    assert json.loads(row["context"]) == payload
    assert json.loads(row["result"]) == {"status": status, "context": payload}
    [catalog_id] = {record["catalog_id"] for record in await harness.database.fetch(
        "SELECT catalog_id FROM noetl.event WHERE execution_id = $1", execution_id
    )}  # fmt: skip
    assert row["catalog_id"] == catalog_id
    assert metrics.container_callbacks.labels(state).value == before + 1


async def test_missing_members_are_null_and_the_job_ended_now(
    client: RawClient, harness: LedgerHarness, execution_id: int
) -> None:
    before = datetime.now(UTC)
    assert (await report(client, execution_id, "job%2Fa%20b")).status == 202
    [row] = await stored(harness, execution_id)
    assert row["node_name"] == "job/a b"
    payload = json.loads(row["context"])
    assert before <= datetime.fromisoformat(payload["completed_at"]) <= datetime.now(UTC)
    absent = ("job_uid", "exit_code", "reason", "stdout_uri", "stderr_uri")
    assert {name: payload[name] for name in absent} == dict.fromkeys(absent)


async def test_repeated_callback_is_answered_like_the_first(
    client: RawClient, harness: LedgerHarness, execution_id: int
) -> None:
    first = await report(client, execution_id, exit_code=0)
    again = await report(client, execution_id, exit_code=1, completed_at="2026-11-23T14:47:12Z")
    assert (again.status, again.json) == (202, first.json)
    assert len(await stored(harness, execution_id)) == 1
    others = [
        await report(client, execution_id, state="failed"),
        await report(client, execution_id, job_name="job-2"),
        await report(client, execution_id, "other"),
        await report(client, await harness.start("job")),
    ]
    assert len({first.json["event_id"], *(reply.json["event_id"] for reply in others)}) == 5


async def test_simultaneous_callbacks_are_stored_once(
    harness: LedgerHarness, serve: Serve, application: HttpApplication, execution_id: int
) -> None:
    clients = [await serve(application) for _ in range(8)]
    replies = await asyncio.gather(*(report(each, execution_id) for each in clients))
    [row] = await stored(harness, execution_id)
    assert {reply.text for reply in replies} == {f'{{"status":"accepted_in_flight","event_id":"{row["event_id"]}"}}'}


class HeldLedger:
    """A ledger that takes events only once it is released."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.released = asyncio.Event()
        self.looked_up = 0
        self.held = 0

    async def ingest(self, execution_id: int, events: list[IncomingEvent]) -> list[int]:
        if events:
            self.held += 1
            await self.released.wait()
        else:
            self.looked_up += 1
        return await self._ledger.ingest(execution_id, events)


async def serve_held(serve: Serve, harness: LedgerHarness, clients: int) -> tuple[HeldLedger, list[RawClient]]:
    held = HeldLedger(harness.ledger)
    application = HttpApplication()
    ContainerCallbackRoutes(held, ContainerCallbackStore(harness.database)).register(application)
    return held, [await serve(application) for _ in range(clients)]


async def test_callback_waits_while_another_server_stores_the_same(
    client: RawClient, harness: LedgerHarness, serve: Serve, execution_id: int
) -> None:
    held, [elsewhere] = await serve_held(serve, harness, 1)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(report(elsewhere, execution_id))
        while not held.held:
            await harness.database.fetchval("SELECT 1")
        second = group.create_task(report(client, execution_id))
        while not second.done() and not await harness.database.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ):
            pass
        held.released.set()
    [row] = await stored(harness, execution_id)
    assert first.result().json["event_id"] == second.result().json["event_id"] == str(row["event_id"])


async def test_waiting_callbacks_hold_one_connection_together(
    harness: LedgerHarness, serve: Serve, execution_id: int
) -> None:
    held, clients = await serve_held(serve, harness, 4)
    async with asyncio.TaskGroup() as group:
        reports = [group.create_task(report(each, execution_id, f"s{n}")) for n, each in enumerate(clients)]
        while held.looked_up < 4 or not held.held:
            await harness.database.fetchval("SELECT 1")
        for _ in range(20):  # time for more of them to get as far, if they could
            await harness.database.fetchval("SELECT 1")
        pool = harness.database.statistics()
        assert (held.held, pool.size - pool.idle) == (1, 1)
        held.released.set()
    assert {task.result().json["status"] for task in reports} == {"accepted_in_flight"}


async def test_callback_decides_nothing_and_the_engine_sees_it(
    client: RawClient, harness: LedgerHarness, migrated_database_url: str, execution_id: int
) -> None:
    start = harness.announcer.queue.get_nowait()
    while start.execution_id != execution_id:
        start = harness.announcer.queue.get_nowait()
    await harness.work(start)
    job = await harness.announcer.queue.get()
    await harness.claim(job)
    await harness.post(job, "command.started", "STARTED", {})
    before = await harness.log(execution_id)
    await report(client, execution_id, state="failed_oom", exit_code=137)
    assert await harness.log(execution_id) == [*before, ("call.done", "job", "FAILED")]
    assert harness.announcer.queue.empty()
    async with open_ledger(migrated_database_url, machine_id=2) as restarted:
        await restarted.ledger.ingest(execution_id, [])
        for ledger in (harness.ledger, restarted.ledger):
            entry = ledger.states.peek(execution_id)
            assert entry is not None
            seen = entry.state.user_data["job"]
            assert (seen["terminal_state"], seen["exit_code"]) == ("failed_oom", 137)


async def test_execution_without_events_is_stale(client: RawClient, harness: LedgerHarness, metrics: Metrics) -> None:
    before = metrics.stale_container_callbacks.labels("failed").value
    reply = await report(client, 404, state="failed")
    assert (reply.status, reply.body) == (202, b'{"status":"accepted_stale"}')
    assert await stored(harness, 404) == []
    assert metrics.stale_container_callbacks.labels("failed").value == before + 1


@pytest.mark.parametrize(
    ("step", "members", "text"),
    [
        ("a", {"state": "unknown"}, "state: unknown variant `unknown`, expected one of `succeeded`, `failed`, "),
        ("a", {"state": None}, "state: invalid type: null, expected a string"),
        ("a", {"job_name": None}, "job_name: invalid type: null, expected a string"),
        ("a", {"exit_code": 2**31}, "exit_code: "),
        ("a", {"completed_at": "2026-11-23T14:47:12"}, "completed_at: "),
        ("a", {"reason": "\0"}, "reason must not contain U+0000"),
        ("a%00", {}, "step must not contain U+0000"),
        ("a" * 1001, {}, "step must not be longer than 1000 bytes"),
        ("%20", {}, "container-callback: step path param is empty"),
    ],
)
async def test_bad_callback_is_422_and_not_stored(
    client: RawClient, harness: LedgerHarness, execution_id: int, step: str, members: dict[str, Any], text: str
) -> None:
    reply = await report(client, execution_id, step, **members)
    assert reply.status == 422
    assert text in reply.text
    assert await stored(harness, execution_id) == []


async def test_callback_needs_one_connection_only(
    serve: Serve, harness: LedgerHarness, migrated_database_url: str, execution_id: int
) -> None:
    async with narrow_harness(migrated_database_url) as narrow:
        cold = internal_application(narrow)
        clients = [await serve(cold) for _ in range(4)]
        replies = await asyncio.gather(*(report(each, execution_id, f"s{n}") for n, each in enumerate(clients)))
        assert [reply.json.get("status") for reply in replies] == ["accepted_in_flight"] * 4
    assert len(await stored(harness, execution_id)) == 4
