"""Executions over HTTP, on logs written by hand and by a real ledger (spec 10, section 6)."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noetl.http.application import HttpApplication
from noetl.http.executions import ExecutionRoutes, human_duration
from noetl.http.ids import JsonIds
from noetl.store.executions import ExecutionStore

if TYPE_CHECKING:
    from tests.integration.http.rawhttp import RawClient, Serve
    from tests.integration.ledger_harness import LedgerHarness

START = datetime(2026, 1, 10)


@pytest.fixture(scope="module")
async def harness(harness: LedgerHarness) -> LedgerHarness:
    await harness.database.execute(
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES (1, 'folder/Hand', 7, 'Playbook')"
    )
    return harness


@pytest.fixture(scope="module")
def store(harness: LedgerHarness) -> ExecutionStore:
    return ExecutionStore(harness.database)


@pytest.fixture(scope="module")
def application(harness: LedgerHarness, store: ExecutionStore) -> HttpApplication:
    served = HttpApplication()
    ExecutionRoutes(store, harness.ledger).register(served)
    return served


@pytest.fixture
async def client(application: HttpApplication, serve: Serve) -> RawClient:
    return await serve(application)


class Log:
    """Writes the events of one execution as another server does, one second apart."""

    def __init__(self, harness: LedgerHarness, store: ExecutionStore, execution_id: int) -> None:
        self._harness = harness
        self._store = store
        self.execution_id = execution_id
        self.count = 0

    async def add(self, event_type: str, node_name: str | None = "p", status: str | None = "X", **columns: Any) -> int:
        self.count += 1
        given = {
            "execution_id": self.execution_id,
            "catalog_id": 1,
            "event_id": self.count,
            "event_type": event_type,
            "node_name": node_name,
            "status": status,
            "created_at": START + timedelta(seconds=self.count - 1),
            **columns,
        }
        places = ", ".join(f"${number}" for number in range(1, len(given) + 1))
        await self._harness.database.execute(
            f"INSERT INTO noetl.event ({', '.join(given)}) VALUES ({places})", *given.values()
        )
        self._store._settle_at = 0.0
        return self.count


@pytest.fixture
async def log(harness: LedgerHarness, store: ExecutionStore) -> Log:
    await harness.database.execute("DELETE FROM noetl.event")
    await harness.database.execute("DELETE FROM noetl.execution")
    return Log(harness, store, 1010)


async def start(log: Log, **columns: Any) -> None:
    await log.add("playbook_started", status="STARTED", context='{"workload": {"b": 1, "a": 2}}', **columns)


# -- list ----------------------------------------------------------------------------------------------------------


async def test_the_list_has_the_references_members_and_the_guis(client: RawClient, log: Log) -> None:
    await start(log, parent_execution_id=77)
    await log.add("playbook.failed", "playbook", "FAILED", error="boom")
    assert (await client.get("/api/executions")).json == [
        {
            "execution_id": 1010,
            "catalog_id": 1,
            "path": "folder/Hand",
            "status": "FAILED",
            "started_at": "2026-01-10T00:00:00Z",
            "completed_at": "2026-01-10T00:00:01Z",
            "event_count": 2,
            "version": 7,
            "parent_execution_id": 77,
            "error": "boom",
            "start_time": "2026-01-10T00:00:00Z",
            "end_time": "2026-01-10T00:00:01Z",
            "duration_seconds": 1.0,
            "duration_human": "1s",
        }
    ]


async def test_the_list_is_ordered_by_start_then_id_and_filtered(
    client: RawClient, harness: LedgerHarness, store: ExecutionStore, log: Log
) -> None:
    for execution_id in (5, 7, 6):
        await start(Log(harness, store, execution_id))
    later = Log(harness, store, 1)
    await start(later, created_at=START + timedelta(hours=1))
    await later.add("playbook_completed")

    async def listed(query: str) -> list[int]:
        reply = await client.get(f"/api/executions{query}")
        assert reply.status == 200, reply.text
        return [row["execution_id"] for row in reply.json]

    assert await listed("") == [1, 7, 6, 5]
    assert await listed("?limit=2") == [1, 7]
    assert await listed("?limit=2&offset=3") == [5]
    assert await listed("?offset=9") == []
    assert await listed("?limit=0") == []
    assert await listed("?limit=1000000") == [1, 7, 6, 5]
    assert await listed("?status=RUNNING") == [7, 6, 5]
    assert await listed("?status=COMPLETED") == [1]
    assert await listed("?status=completed") == []
    assert await listed("?status=") == []
    assert await listed("?path=HAND&status=RUNNING&limit=1") == [7]
    assert await listed("?path=") == [1, 7, 6, 5]
    assert await listed("?path=other") == []
    assert await listed("?catalog_id=1") == [1, 7, 6, 5]
    assert await listed("?catalog_id=2") == []


@pytest.mark.parametrize(
    "query", ["limit=-1", "offset=-1", "limit=2147483648", "limit=x", "catalog_id=", "limit=1&limit=1"]
)
async def test_a_list_query_out_of_bounds_is_refused(client: RawClient, log: Log, query: str) -> None:
    assert (await client.get(f"/api/executions?{query}")).status == 400


# -- detail --------------------------------------------------------------------------------------------------------


async def test_the_detail_shows_start_outcome_and_events_in_order_of_time(client: RawClient, log: Log) -> None:
    await start(log, parent_execution_id=77)
    await log.add("call.done", "s", None, result='{"status": "x", "context": {"z": 1, "a": 2}}')
    await log.add("call.error", "s", "FAILED", error="boom", created_at=START)
    reply = (await client.get("/api/executions/1010")).json
    expected = {
        "execution_id": 1010,
        "catalog_id": 1,
        "path": "folder/Hand",
        "version": 7,
        "status": "RUNNING",
        "started_at": "2026-01-10T00:00:00Z",
        "start_time": "2026-01-10T00:00:00Z",
        "completed_at": None,
        "end_time": None,
        "parent_execution_id": 77,
        "workload": {"a": 2, "b": 1},
        "completed": False,
        "failed": False,
        "error": "boom",
    }
    assert {name: reply[name] for name in expected} == expected
    assert [event["event_id"] for event in reply["events"]] == [1, 3, 2]
    assert reply["events"][2] == {
        "event_id": 2,
        "event_type": "call.done",
        "node_name": "s",
        "status": "UNKNOWN",
        "created_at": "2026-01-10T00:00:01Z",
        "result": {"status": "x", "context": {"z": 1, "a": 2}},
        "error": None,
    }
    assert "pagination" not in reply


async def test_the_detail_of_several_starts_takes_the_lowest_id(client: RawClient, log: Log) -> None:
    await log.add("playbook.started", context='{"workload": 1}', created_at=START + timedelta(days=1))
    await log.add("playbook.initialized", context='{"workload": 2}')
    assert (await client.get("/api/executions/1010")).json["workload"] == 1


async def test_a_log_without_start_has_a_status_but_no_detail(client: RawClient, log: Log) -> None:
    await log.add("step.enter", "s")
    reply = await client.get("/api/executions/1010")
    assert (reply.status, reply.json) == (404, {"error": "Execution not found: 1010", "status": 404})
    assert (await client.get("/api/executions/1010/status")).json["current_step"] == "s"


@pytest.mark.parametrize("path", ["5555", "-1", "0", "5555/status", "+5555"])
async def test_an_unknown_execution_is_not_found(client: RawClient, log: Log, path: str) -> None:
    reply = await client.get(f"/api/executions/{path}")
    assert (reply.status, reply.json["error"]) == (404, f"Execution not found: {int(path.split('/', maxsplit=1)[0])}")


async def test_a_large_execution_is_streamed_whole(client: RawClient, harness: LedgerHarness, log: Log) -> None:
    await start(log)
    await harness.database.execute(
        "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, created_at, result)"
        " SELECT 1010, n, 1, 'x', '2026-01-11'::timestamp - n * interval '1 ms',"
        " jsonb_build_object('status', repeat('r', 500)) FROM generate_series(10, 10009) AS n"
    )
    reply = await client.get("/api/executions/1010")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert [event["event_id"] for event in reply.json["events"]] == [1, *range(10_009, 9, -1)]


async def test_pages_of_events_are_newest_first(client: RawClient, log: Log) -> None:
    await start(log)
    for _ in range(4):
        await log.add("x")
    await log.add("y")

    async def page(query: str) -> tuple[list[int], dict[str, Any]]:
        reply = (await client.get(f"/api/executions/1010?{query}")).json
        return [event["event_id"] for event in reply["events"]], reply["pagination"]

    assert await page("page=1&page_size=4") == (
        [6, 5, 4, 3],
        {"page": 1, "page_size": 4, "total_events": 6, "total_pages": 2, "has_next": True, "has_prev": False},
    )
    assert await page("page=2&page_size=4") == (
        [2, 1],
        {"page": 2, "page_size": 4, "total_events": 6, "total_pages": 2, "has_next": False, "has_prev": True},
    )
    assert (await page("since_event_id=4"))[0] == [6, 5]
    assert (await page("event_type=x&page_size=2"))[0] == [5, 4]
    assert (await page("event_type=none"))[1]["total_pages"] == 0
    for query in ("page=0", "page_size=0", "page_size=501", "since_event_id=x"):
        assert (await client.get(f"/api/executions/1010?{query}")).status == 400


# -- status --------------------------------------------------------------------------------------------------------


async def test_the_status_counts_steps_as_the_reference_does(client: RawClient, log: Log) -> None:
    await start(log)
    await log.add("command.issued", "start", "PENDING")
    await log.add("command.claimed", "start", "RUNNING")
    await log.add("command.started", "start", "STARTED")
    await log.add("command.completed", "start", "success")
    await log.add("step.enter", "b", "ENTERED")
    await log.add("step.enter", "a", "ENTERED")
    await log.add("step.exit", "b", "COMPLETED")
    await log.add("command.completed", "a", "error")
    await log.add("command.failed", "c", "FAILED", result='{"status": "FAILED", "context": {"error": "why"}}')
    await log.add("command.failed", "d", "failed")
    reply = (await client.get("/api/executions/1010/status")).json
    assert reply["duration_seconds"] > 0
    del reply["duration_seconds"], reply["duration_human"]
    assert reply == {
        "execution_id": 1010,
        "status": "RUNNING",
        "current_step": "a",
        "progress": {"total_steps": 2, "completed_steps": 2, "running_steps": 1, "failed_steps": 1},
        "is_cancelled": False,
        "completed": False,
        "failed": False,
        "completed_steps": ["start", "b"],
        "error": "why",
        "start_time": "2026-01-10T00:00:00Z",
        "end_time": None,
    }


@pytest.mark.parametrize(
    ("end", "status", "failed"),
    [
        ("playbook.completed", "COMPLETED", False),
        ("playbook_failed", "FAILED", True),
        ("playbook_cancelled", "CANCELLED", False),
    ],
)
async def test_clients_that_wait_see_every_kind_of_end(
    client: RawClient, log: Log, end: str, status: str, failed: bool
) -> None:
    await start(log)
    await log.add(end, "playbook", meta='{"error": "text"}')
    reply = (await client.get("/api/executions/1010/status")).json
    assert (reply["status"], reply["completed"], reply["failed"]) == (status, True, failed)
    assert (reply["error"], reply["end_time"], reply["duration_human"]) == ("text", "2026-01-10T00:00:01Z", "1s")
    detail = (await client.get("/api/executions/1010")).json
    listed = (await client.get("/api/executions")).json[0]
    assert detail["status"] == listed["status"] == status
    assert detail["completed_at"] == listed["completed_at"] == reply["end_time"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3661, "1h 1m 1s"), (86_400, "1d"), (93_784, "1d 2h 3m 4s")],
)
def test_durations_read_well(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


# -- ids -----------------------------------------------------------------------------------------------------------


async def test_ids_are_numbers_or_strings_by_setting_and_header(
    client: RawClient, harness: LedgerHarness, store: ExecutionStore, log: Log, serve: Serve
) -> None:
    await start(log, parent_execution_id=77)
    strings = HttpApplication()
    ExecutionRoutes(store, harness.ledger, JsonIds("string")).register(strings)
    other = await serve(strings)
    for target in ("/api/executions/1010", "/api/executions/1010/status", "/api/executions/1010/cancellation-check"):
        assert (await client.get(target)).json["execution_id"] == 1010
        assert (await other.get(target)).json["execution_id"] == "1010"
        reply = await other.request("GET", target, headers=[("X-Noetl-Ids", "number")])
        assert reply.json["execution_id"] == 1010
        assert (await client.request("GET", target, headers=[("X-Noetl-Ids", "float")])).status == 400
    detail = (await other.get("/api/executions/1010")).json
    assert (detail["parent_execution_id"], detail["events"][0]["event_id"]) == ("77", "1")
    assert (await other.get("/api/executions")).json[0]["catalog_id"] == "1"


# -- cancel and finalize -------------------------------------------------------------------------------------------


async def begin(harness: LedgerHarness) -> int:
    return await harness.start("two")


async def test_cancelling_ends_the_execution_for_every_reader(client: RawClient, harness: LedgerHarness) -> None:
    execution_id = await begin(harness)
    check = f"/api/executions/{execution_id}/cancellation-check"
    assert (await client.get(check)).json == {"execution_id": execution_id, "is_cancelled": False}
    reply = await client.request("POST", f"/api/executions/{execution_id}/cancel")
    assert (reply.status, reply.json) == (
        200,
        {
            "execution_id": execution_id,
            "message": "Execution cancellation requested",
            "status": "cancelled",
            "cancelled_executions": [str(execution_id)],
        },
    )
    assert (await client.get(check)).json["is_cancelled"] is True
    assert (await client.get(f"/api/executions/{execution_id}/status")).json["status"] == "CANCELLED"
    again = await client.request("POST", f"/api/executions/{execution_id}/cancel")
    assert (again.status, again.json["error"]) == (422, "Cannot cancel execution in CANCELLED state")


@pytest.mark.parametrize("body", [b"", b"[]", b"garbage", b'{"cascade": "yes"}', b"\xff", b'{"x":' + b"[" * 100_000])
async def test_a_cancel_body_of_another_shape_is_as_none(
    client: RawClient, harness: LedgerHarness, body: bytes
) -> None:
    execution_id = await begin(harness)
    assert (await client.request("POST", f"/api/executions/{execution_id}/cancel", body)).status == 200


async def test_the_reason_of_a_cancel_is_kept(client: RawClient, harness: LedgerHarness) -> None:
    execution_id = await begin(harness)
    await client.post(f"/api/executions/{execution_id}/cancel", {"reason": "changed my mind"})
    meta = await harness.database.fetchval(
        "SELECT meta FROM noetl.event WHERE execution_id = $1 AND event_type = 'playbook_cancelled'", execution_id
    )
    assert json.loads(meta)["reason"] == "changed my mind"
    reply = await client.post(f"/api/executions/{execution_id}/cancel", '{"reason": "\\u0000"}')
    assert reply.status == 422


async def test_two_cancels_at_once_write_one_row(
    application: HttpApplication, client: RawClient, harness: LedgerHarness, serve: Serve
) -> None:
    execution_id = await begin(harness)
    other = await serve(application)
    replies = await asyncio.gather(
        *(one.request("POST", f"/api/executions/{execution_id}/cancel") for one in (client, other))
    )
    assert sorted(reply.status for reply in replies) == [200, 422]


async def test_cancelling_an_unknown_execution_is_not_found(client: RawClient, harness: LedgerHarness) -> None:
    reply = await client.request("POST", "/api/executions/5555/cancel")
    assert (reply.status, reply.json["error"]) == (404, "Execution not found: 5555")
    assert (await client.get("/api/executions/5555/cancellation-check")).json == {
        "execution_id": 5555,
        "is_cancelled": False,
    }


@pytest.mark.parametrize(("status", "error"), [("COMPLETED", None), ("FAILED", "given up")])
async def test_finalizing_ends_the_execution_once(
    client: RawClient, harness: LedgerHarness, status: str, error: str | None
) -> None:
    execution_id = await begin(harness)
    target = f"/api/executions/{execution_id}/finalize"
    for _ in range(2):
        reply = await client.post(target, {"status": status, "error": error})
        assert (reply.status, reply.json) == (
            200,
            {
                "execution_id": execution_id,
                "status": status,
                "message": f"Execution finalized with status: {status}",
            },
        )
    seen = (await client.get(f"/api/executions/{execution_id}/status")).json
    assert (seen["status"], seen["error"]) == (status, error)
    contrary = "FAILED" if status == "COMPLETED" else "COMPLETED"
    reply = await client.post(target, {"status": contrary})
    assert (reply.status, reply.json["error"]) == (422, f"Cannot finalize execution in {status} state")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"status": "completed"}, 422, "Invalid finalization status: completed"),
        ({"status": "CANCELLED"}, 422, "Invalid finalization status: CANCELLED"),
        ({"status": "COMPLETED"}, 404, "Execution not found: 5555"),
        ({}, 422, "missing field `status`"),
        ({"status": "FAILED", "error": 5}, 422, "error: invalid type"),
    ],
)
async def test_finalize_refuses_what_it_cannot_do(
    client: RawClient, harness: LedgerHarness, body: dict[str, Any], status: int, text: str
) -> None:
    reply = await client.post("/api/executions/5555/finalize", body)
    assert reply.status == status
    assert text in reply.text
