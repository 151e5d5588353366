"""The replay route on real rows: the reference's answers, cutoffs, limits, and large logs beside other requests."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from noetl.config import load_settings
from noetl.engine.replay import ReplayIdentity
from noetl.http.application import HttpApplication
from noetl.http.replay import HIGHEST_LIMIT, SLICE_SECONDS, ReplayRequest, ReplayRoutes, in_slices
from noetl.http.responses import json_bytes_response
from noetl.store.database import Database
from noetl.store.pages import PAGE_BYTES
from noetl.store.replay import FIRST_PAGE_ROWS, ReplayCutoff, ReplayStore
from tests.golden.replay_cases import Case, cases
from tests.integration.http.conftest import serve  # noqa: F401 (the fixture)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from blacksheep import Request, Response

    from tests.integration.http.rawhttp import RawClient, Reply, Serve

CATALOG = 1
LARGE = 5_000_000
WIDE = 5_000_001
GROWING = 5_000_002
LARGE_EVENTS = HIGHEST_LIMIT + 1

INSERT = "INSERT INTO noetl.event (execution_id, catalog_id, event_id, event_type"


@pytest.fixture(scope="module")
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    """Every recorded log under its execution id."""
    database = await Database.connect(load_settings({"DATABASE_URL": migrated_database_url}).database)
    await database.execute(
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES ($1, 'p', 1, 'playbook')", CATALOG
    )
    for case in cases("rules", "random", "cutoffs", "executed"):
        for row in case.events:
            columns = {"execution_id": case.execution_id, "catalog_id": CATALOG, **row.columns()}
            places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
            await database.execute(
                f"INSERT INTO noetl.event ({', '.join(columns)}) VALUES ({places})", *columns.values()
            )
    yield database
    await database.close()


@pytest.fixture(scope="module")
def application(database: Database) -> HttpApplication:
    async def ping(_request: Request) -> Response:
        return json_bytes_response(b"{}")

    application = HttpApplication()
    ReplayRoutes(ReplayStore(database)).register(application)
    application.add_route("GET", "/ping", ping)
    return application


@pytest.fixture(scope="module")
async def client(serve: Serve, application: HttpApplication) -> RawClient:  # noqa: F811
    return await serve(application)


async def ask(client: RawClient, **query: Any) -> Reply:
    return await client.request("GET", f"/api/replay/state?{urlencode(query)}")


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in cases("rules", "random", "cutoffs", "executed", "empty")]
)
async def test_answer_is_that_of_the_reference_byte_for_byte(client: RawClient, case: Case) -> None:
    for answer in case.answers:
        reply = await client.request("GET", f"/api/replay/state?{answer.query}")
        assert (reply.status, reply.headers["content-type"]) == (200, "application/json"), answer.query
        assert reply.body == answer.content, answer.query


@pytest.mark.parametrize("answer", [pytest.param(answer, id=answer.query) for answer in cases("refused")[0].answers])
async def test_refusal_is_that_of_the_reference(client: RawClient, answer: Any) -> None:
    reply = await client.request("GET", f"/api/replay/state?{answer.query}")
    assert reply.status == answer.status == 400
    # Why a time is malformed may be told in other words.
    is_time = answer.text.startswith("Failed to deserialize query string: as_of_time: ")
    expected = "Failed to deserialize query string: as_of_time: " if is_time else answer.content.decode()
    assert reply.text.startswith(expected) if is_time else reply.text == expected


async def test_truncation_is_told_in_a_header(client: RawClient) -> None:
    case = cases("cutoffs")[0]
    total = len(case.events)
    for limit, truncated in ((total - 1, "true"), (total, None), (total + 1, None), (0, "true")):
        reply = await ask(client, execution_id=case.execution_id, limit=limit)
        assert reply.headers.get("x-replay-truncated") == truncated
    reply = await ask(client, execution_id=case.execution_id, limit=3, as_of_event_id=case.events[2].event_id)
    assert "x-replay-truncated" not in reply.headers


async def test_head_has_no_body(client: RawClient) -> None:
    await client.send(b"HEAD /api/replay/state?execution_id=1 HTTP/1.1\r\nhost: x\r\n\r\n")
    reply = await client.receive(head=True)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")


async def test_rows_without_type_or_status_are_events(client: RawClient, database: Database) -> None:
    await database.execute(
        f"{INSERT}, status) VALUES (77, $1, 5, NULL, NULL), (77, $1, 6, 'step.enter', NULL)", CATALOG
    )
    state = (await ask(client, execution_id=77)).json
    assert (state["event_count"], state["execution"]["status"]) == (2, "RUNNING")
    assert (await ask(client, execution_id=77, as_of_event_id=5)).json["last_event_type"] == ""


async def test_event_ids_at_both_ends_of_their_range_are_read(client: RawClient, database: Database) -> None:
    await database.execute(f"{INSERT}) VALUES (78, $1, $2, 'a'), (78, $1, $3, 'b')", CATALOG, -(2**63), 2**63 - 1)
    state = (await ask(client, execution_id=78)).json
    assert (state["event_count"], state["last_event_id"]) == (2, 2**63 - 1)


async def test_number_beyond_doubles_is_an_error_of_this_request_only(client: RawClient, database: Database) -> None:
    await database.execute(f"{INSERT}, meta) VALUES (79, $1, 5, 'a', '{{\"n\": 1e400}}')", CATALOG)
    reply = await ask(client, execution_id=79)
    assert (reply.status, reply.json) == (500, {"error": "Event 5 cannot be replayed", "status": 500})
    assert (await ask(client, execution_id=1)).status == 200


async def test_pages_are_one_snapshot_of_the_log(database: Database) -> None:
    rows = f"{INSERT}) SELECT {GROWING}, $1, n, 'step.enter' FROM generate_series($2::bigint, $3::bigint) AS n"
    await database.execute(rows, CATALOG, 1, 2 * FIRST_PAGE_ROWS)
    seen: list[int] = []
    async for page in ReplayStore(database).pages(GROWING, ReplayCutoff(), 10_000):
        if not seen:
            await database.execute(rows, CATALOG, 2 * FIRST_PAGE_ROWS + 1, 3 * FIRST_PAGE_ROWS)
        seen += [event.event_id for event in page]
    assert seen == list(range(1, 2 * FIRST_PAGE_ROWS + 1))


async def test_pages_of_large_rows_are_short(database: Database) -> None:
    await database.execute(
        f"""{INSERT}, meta) SELECT {WIDE}, $1, n, 'x', jsonb_build_object('text', repeat('x', $2))
        FROM generate_series(1, 300) AS n""",
        CATALOG,
        PAGE_BYTES // 10,
    )
    sizes = [len(page) async for page in ReplayStore(database).pages(WIDE, ReplayCutoff(), 1_000_000)]
    assert sum(sizes) == 300
    assert sizes[0] == FIRST_PAGE_ROWS
    assert max(sizes[1:]) <= 10


def work(steps: int) -> Iterator[int]:
    """Half a slice of work with each step."""
    for step in range(steps):
        time.sleep(SLICE_SECONDS / 2)
        yield step


async def test_work_in_slices_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert [step async for step in in_slices(work(40))] == list(range(40))
    task.cancel()
    assert turns >= 13


@pytest.fixture(scope="module")
async def large_log(database: Database) -> None:
    """More events than may be replayed at once, with results of 2 kB, 200 MB in all, that nobody has to look at."""
    await database.execute(
        f"""{INSERT}, node_name, status, command_id, meta, result)
        SELECT {LARGE}, $1, n, 'command.' || (ARRAY['issued', 'claimed', 'started', 'completed'])[1 + n % 4],
            's' || n % 7, '', n / 4, jsonb_build_object('attempt', 1, 'loop_id', 'l' || n % 100),
            jsonb_build_object('status', 'ok', 'context', jsonb_build_object('text', repeat('x', 2000)))
        FROM generate_series(1, $2::bigint) AS n""",
        CATALOG,
        LARGE_EVENTS,
    )
    await database.execute("VACUUM ANALYZE noetl.event")


@pytest.mark.slow
@pytest.mark.usefixtures("large_log")
async def test_other_requests_are_served_during_a_large_replay(
    serve: Serve,  # noqa: F811
    application: HttpApplication,
) -> None:
    replaying, other = await serve(application), await serve(application)
    replay = asyncio.create_task(ask(replaying, execution_id=LARGE, limit=HIGHEST_LIMIT))
    waits: list[float] = []
    while not replay.done():
        asked = time.perf_counter()
        assert (await other.request("GET", "/ping")).status == 200
        waits.append(time.perf_counter() - asked)
        await asyncio.sleep(0.001)
    reply = await replay
    assert reply.headers["x-replay-truncated"] == "true"
    state = reply.json
    assert (state["event_count"], state["last_event_id"]) == (HIGHEST_LIMIT, HIGHEST_LIMIT)
    assert (len(state["commands"]), len(state["loops"])) == (HIGHEST_LIMIT // 4 + 1, 100)
    waits.sort()
    assert len(waits) > 20
    # A few milliseconds, but for what a busy machine adds.
    assert waits[len(waits) // 2] < 0.02
    assert waits[-1] < 0.25


@pytest.mark.slow
@pytest.mark.usefixtures("large_log")
async def test_memory_of_a_large_replay_is_that_of_its_state(database: Database) -> None:
    routes = ReplayRoutes(ReplayStore(database))
    gc.collect()
    tracemalloc.start()
    try:
        state, truncated = await routes._replay(ReplayRequest(ReplayIdentity(LARGE), ReplayCutoff(), HIGHEST_LIMIT))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (truncated, state.event_count) == (True, HIGHEST_LIMIT)
    assert held < 40 << 20
    assert peak - held < 10 << 20
