"""Taking over events of other processes (spec 20, section 10.3). Plain sequences are in the golden ones."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.http.internal_routes import call, internal_application

if TYPE_CHECKING:
    from noetl.http.application import HttpApplication
    from tests.integration.http.rawhttp import RawClient, Reply, Serve
    from tests.integration.ledger_harness import LedgerHarness

PROJECT = "/api/internal/events/project"


@pytest.fixture(scope="module")
async def harness(harness: LedgerHarness) -> LedgerHarness:
    await harness.database.execute(
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind)"
        " VALUES (1, 'p', 1, 'Playbook'), (2, 'p', 2, 'Playbook')"
    )
    return harness


@pytest.fixture(scope="module")
def application(harness: LedgerHarness) -> HttpApplication:
    return internal_application(harness)


@pytest.fixture
async def client(application: HttpApplication, serve: Serve, harness: LedgerHarness) -> RawClient:
    await harness.database.execute("DELETE FROM noetl.event WHERE execution_id < 100")
    return await serve(application)


async def project(client: RawClient, *events: dict[str, Any]) -> Reply:
    return await call(client, PROJECT, {"events": list(events)})


async def stored(harness: LedgerHarness, execution_id: int = 5) -> list[dict[str, Any]]:
    records = await harness.database.fetch(
        "SELECT * FROM noetl.event WHERE execution_id = $1 ORDER BY log_position", execution_id
    )
    return [dict(record) for record in records]


def event(event_id: int, **members: Any) -> dict[str, Any]:
    return {"event_id": event_id, "execution_id": 5, "event_type": "x", **members}


async def test_catalog_id_is_taken_from_a_stored_event_of_the_execution(
    client: RawClient, harness: LedgerHarness
) -> None:
    assert (await project(client, event(1, catalog_id=2))).json == {"projected": 1, "duplicates": 0}
    reply = await project(client, event(2), event(3, catalog_id=""), event(4, catalog_id=0), event(5, catalog_id=None))
    assert reply.json == {"projected": 4, "duplicates": 0}
    assert [row["catalog_id"] for row in await stored(harness)] == [2] * 5


async def test_catalog_id_is_taken_from_another_event_of_the_batch(client: RawClient, harness: LedgerHarness) -> None:
    other = event(1, execution_id=6, catalog_id=1)
    assert (await project(client, event(1), other, event(2, catalog_id="2"))).json["projected"] == 3
    assert [row["catalog_id"] for row in await stored(harness)] == [2, 2]


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({}, "catalog_id is missing, and execution 5 has no event to take it from"),
        ({"execution_id": None}, "catalog_id is missing, and execution 0 has no event to take it from"),
        ({"catalog_id": 3}, "catalog_id 3 is not in the catalog"),
        ({"catalog_id": "-3"}, "catalog_id -3 is not in the catalog"),
        ({"catalog_id": 1, "result": {"context": {}}}, "result lacks `status`"),
        ({"catalog_id": 1, "result": [1]}, "result is not an object"),
        ({"catalog_id": 1, "result": {"status": None}}, "result.status is not a string"),
        ({"catalog_id": 1, "result": {"status": "a", "context": 1}}, "result.context is not an object"),
        ({"catalog_id": 1, "result": {"status": "a", "data": {}}}, "result has a member `data` beside status, "),
    ],
)
async def test_event_that_cannot_be_stored_is_named_and_nothing_is_stored(
    client: RawClient, harness: LedgerHarness, members: dict[str, Any], text: str
) -> None:
    reply = await project(client, event(1, execution_id=6, catalog_id=1), event(77, **members))
    assert reply.status == 422
    assert reply.json["error"].startswith(f"events[1] (event_id 77): {text}")
    assert await stored(harness, 6) == []


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ('"node_name":"a\\u0000"', "events[0].node_name must not contain U+0000"),
        ('"context":{"a":"\\u0000"}', "events[0].context must not contain U+0000"),
        ('"meta":["\\u0000"]', "events[0].meta must not contain U+0000"),
        ('"worker_id":5', "events[0].worker_id: invalid type: integer"),
        ('"parent_execution_id":"a"', "events[0].parent_execution_id: invalid digit"),
        ('"catalog_id":"1.5"', "events[0].catalog_id: invalid digit"),
        ('"catalog_id":9223372036854775808', "events[0].catalog_id"),
        ('"created_at":"yesterday"', "events[0].created_at: "),
        ('"created_at":"0001-01-01T00:00:00+23:00"', "events[0].created_at: "),
        ('"timestamp":"2026-11-23 14:47:12"', "events[0].timestamp: "),
    ],
)
async def test_wrong_member_is_named(client: RawClient, members: str, text: str) -> None:
    reply = await call(client, PROJECT, f'{{"events":[{{"event_id":1,{members}}}]}}')
    assert reply.status == 422
    assert text in reply.text


@pytest.mark.parametrize("members", ['"event_type":"%s"', '"meta":{"idempotency_key":"%s"}', '"context":[%s]'])
async def test_value_that_the_log_cannot_hold_is_422(client: RawClient, members: str) -> None:
    value = "1e-20000" if "%s]" in members else "".join(chr(0x4E00 + number) for number in range(4000))
    reply = await call(client, PROJECT, f'{{"events":[{{"event_id":1,"catalog_id":1,{members % value}}}]}}')
    assert (reply.status, reply.json["error"]) == (422, "events hold a number or text too large for the log")


async def test_every_column_is_stored_as_it_came(client: RawClient, harness: LedgerHarness) -> None:
    texts = ("event_type", "node_id", "node_name", "node_type", "status", "error", "stack_trace", "worker_id")
    given = event(
        1, catalog_id=1, parent_event_id=9, parent_execution_id=8, duration=0.5, context={"password": "p"},
        result={"status": "s", "reference": {"a": 1}}, meta={"secret": 1}, tenant_id="t", organization_id="o",
        **{name: f"the {name}" for name in texts},
    )  # fmt: skip
    assert (await project(client, given, event(2, parent_execution_id="8"))).json["projected"] == 2
    [row, minimal] = await stored(harness)
    assert [row[name] for name in texts] == [f"the {name}" for name in texts]
    assert (row["parent_event_id"], row["parent_execution_id"], row["duration"]) == (9, 8, 0.5)
    assert (row["context"], row["meta"]) == ('{"password": "p"}', '{"secret": 1}')
    assert (row["tenant_id"], row["organization_id"]) == ("t", "o")
    assert minimal["parent_execution_id"] == 8
    assert (minimal["tenant_id"], minimal["organization_id"]) == ("default", "default")


@pytest.mark.parametrize(
    ("members", "moment"),
    [
        ({"timestamp": "2026-11-23T14:47:12.5+02:00"}, datetime(2026, 11, 23, 12, 47, 12, 500_000)),
        ({"timestamp": "2026-11-23T14:47:12Z", "created_at": "nonsense"}, datetime(2026, 11, 23, 14, 47, 12)),
        ({"created_at": "2026-11-23T14:47:12.25+02:00"}, datetime(2026, 11, 23, 12, 47, 12, 250_000)),
        ({"created_at": "2026-11-23T14:47:12"}, datetime(2026, 11, 23, 14, 47, 12)),
        ({"created_at": "2026-11-23 14:47:12.123456789"}, datetime(2026, 11, 23, 14, 47, 12, 123_456)),
        ({"created_at": "2026-11-23"}, datetime(2026, 11, 23)),
    ],
)
async def test_moment_is_stored_in_utc(
    client: RawClient, harness: LedgerHarness, members: dict[str, Any], moment: datetime
) -> None:
    await project(client, event(1, catalog_id=1, **members))
    assert (await stored(harness))[0]["created_at"] == moment


async def test_without_a_moment_it_is_now(client: RawClient, harness: LedgerHarness) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    await project(client, event(1, catalog_id=1, created_at="", timestamp=None))
    assert before <= (await stored(harness))[0]["created_at"] <= datetime.now(UTC).replace(tzinfo=None)


async def test_duplicates_in_the_batch_and_in_the_log_are_counted_and_change_nothing(
    client: RawClient, harness: LedgerHarness
) -> None:
    first = event(1, catalog_id=1, status="first")
    assert (await project(client, first, {**first, "status": "b"}, event(2))).json == {"projected": 2, "duplicates": 1}
    reply = await project(client, {**first, "status": "c"}, event(3), event(1, execution_id=6, catalog_id=1))
    assert reply.json == {"projected": 2, "duplicates": 1}
    rows = await stored(harness)
    assert [(row["event_id"], row["status"]) for row in rows] == [(1, "first"), (2, None), (3, None)]


async def test_positions_follow_the_order_of_the_batch(client: RawClient, harness: LedgerHarness) -> None:
    await project(client, *(event(event_id, catalog_id=1) for event_id in (9, 3, 7, 1, 8)))
    assert [row["event_id"] for row in await stored(harness)] == [9, 3, 7, 1, 8]


async def test_projection_waits_for_whoever_appends_to_the_execution(client: RawClient, harness: LedgerHarness) -> None:
    async with harness.database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(5)")
        projecting = asyncio.create_task(project(client, event(1, catalog_id=1)))
        while not projecting.done() and not await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ):
            pass
        assert not projecting.done()
        assert await connection.fetchval("SELECT count(*) FROM noetl.event WHERE execution_id = 5") == 0
    assert (await projecting).json["projected"] == 1


async def test_projected_completion_decides_nothing_and_the_ledger_goes_on(
    client: RawClient, harness: LedgerHarness
) -> None:
    execution_id = await harness.start("two")
    item = await harness.announcer.queue.get()
    before = await harness.log(execution_id)
    given = event(1, execution_id=execution_id, event_type="note", node_name="start", status="COMPLETED")
    assert (await project(client, given)).json["projected"] == 1
    assert await harness.log(execution_id) == [*before, ("note", "start", "COMPLETED")]
    await harness.work(item, {"a": 1})
    await harness.run_workers(lambda _: None)
    log = await harness.log(execution_id)
    assert ("playbook.completed", "playbook", "COMPLETED") in log
    assert log[: len(before) + 1] == [*before, ("note", "start", "COMPLETED")]
    done = event(2, execution_id=execution_id, event_type="command.completed", node_name="start", status="COMPLETED")
    await project(client, done)
    assert (await harness.log(execution_id))[len(log) :] == [("command.completed", "start", "COMPLETED")]
    assert harness.announcer.queue.empty()
