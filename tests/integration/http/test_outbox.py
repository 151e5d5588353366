"""Claiming and acknowledging messages of the outbox (spec 20, section 10.2). Plain sequences are in the golden ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.http.outbox import retry_delay_seconds
from noetl.store.outbox import OutboxStore
from tests.integration.http.internal_routes import LOCK_TIMEOUT_SECONDS, call, internal_application
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.http.application import HttpApplication
    from noetl.store.database import Database
    from tests.integration.http.rawhttp import RawClient, Serve

OUTBOX = "/api/internal/outbox"


@pytest.fixture(scope="module")
async def application(migrated_database_url: str) -> AsyncIterator[tuple[HttpApplication, Database]]:
    async with open_ledger(migrated_database_url) as harness:
        yield internal_application(harness), harness.database


@pytest.fixture
async def database(application: tuple[HttpApplication, Database]) -> Database:
    await application[1].execute("TRUNCATE noetl.outbox RESTART IDENTITY")
    return application[1]


@pytest.fixture
async def client(serve: Serve, application: tuple[HttpApplication, Database]) -> RawClient:
    return await serve(application[0])


async def fill(database: Database, count: int) -> None:
    """Rows 1 to ``count``, all due."""
    await database.execute(
        "INSERT INTO noetl.outbox (execution_id, event_id, subject, payload)"
        " SELECT 5, number, 'noetl.events', '{}' FROM generate_series(1, $1::integer) AS number",
        count,
    )


async def claimed(client: RawClient, limit: int = 1000) -> list[int]:
    reply = (await call(client, f"{OUTBOX}/claim", {"limit": limit})).json
    assert reply["claimed"] == len(reply["rows"])
    return [row["outbox_id"] for row in reply["rows"]]


async def age_locks(database: Database, seconds: float, *outbox_ids: int) -> None:
    await database.execute(
        "UPDATE noetl.outbox SET locked_at = now() - make_interval(secs => $1) WHERE outbox_id = ANY($2::bigint[])",
        seconds,
        outbox_ids,
    )


async def state(database: Database, outbox_id: int) -> dict[str, Any]:
    row = await database.fetchrow("SELECT * FROM noetl.outbox WHERE outbox_id = $1", outbox_id)
    assert row is not None
    return dict(row)


async def pending(client: RawClient) -> int:
    return (await call(client, f"{OUTBOX}/pending-count")).json["pending"]


async def test_claims_are_in_order_and_bounded(client: RawClient, database: Database) -> None:
    await fill(database, 1100)
    assert await pending(client) == 1100
    assert await claimed(client, 0) == [1]
    assert await claimed(client, 2) == [2, 3]
    assert await claimed(client, 100_000) == [*range(4, 1004)]
    assert len((await call(client, f"{OUTBOX}/claim", {})).json["rows"]) == 97
    assert await pending(client) == 0


async def test_concurrent_claims_are_disjoint(
    serve: Serve, application: tuple[HttpApplication, Database], client: RawClient, database: Database
) -> None:
    await fill(database, 400)
    clients = [await serve(application[0]) for _ in range(8)]
    batches = await asyncio.gather(*(claimed(each, 50) for each in clients))
    taken = [outbox_id for batch in batches for outbox_id in batch]
    taken += await claimed(client)
    assert sorted(taken) == [*range(1, 401)]


async def test_row_of_a_crashed_publisher_is_claimed_again_after_the_lock_timeout(
    client: RawClient, database: Database
) -> None:
    await fill(database, 3)
    assert await claimed(client) == [1, 2, 3]
    await age_locks(database, LOCK_TIMEOUT_SECONDS - 20, 1)
    assert (await pending(client), await claimed(client)) == (0, [])
    await age_locks(database, LOCK_TIMEOUT_SECONDS + 1, 1, 2)
    assert await pending(client) == 2
    [first, second] = (await call(client, f"{OUTBOX}/claim", {})).json["rows"]
    assert [(row["outbox_id"], row["attempts"]) for row in (first, second)] == [(1, 2), (2, 2)]
    assert (await pending(client), await claimed(client)) == (0, [])


async def test_left_over_rows_are_not_starved_by_new_ones(client: RawClient, database: Database) -> None:
    await fill(database, 10)
    assert await claimed(client, 4) == [1, 2, 3, 4]
    await age_locks(database, LOCK_TIMEOUT_SECONDS + 1, 3)
    assert await claimed(client, 2) == [3, 5]


async def test_lock_timeout_zero_never_takes_rows_back(client: RawClient, database: Database) -> None:
    await fill(database, 1)
    assert await claimed(client) == [1]
    await age_locks(database, 1e9, 1)
    store = OutboxStore(database, 0)
    assert (await store.pending_count(), await store.claim(10)) == (0, [])


async def test_failed_row_waits_for_its_time(client: RawClient, database: Database) -> None:
    await fill(database, 1)
    assert await claimed(client) == [1]
    report = {"outbox_id": 1, "error": "no route", "attempts": 3}
    assert (await call(client, f"{OUTBOX}/mark-failed", report)).json == {"marked": True, "available_at_in": 4}
    row = await state(database, 1)
    assert (row["status"], row["last_error"], row["attempts"]) == ("FAILED", "no route", 1)
    assert row["locked_at"] is not None
    assert (await pending(client), await claimed(client)) == (0, [])
    await call(client, f"{OUTBOX}/mark-failed", {**report, "max_delay_seconds": -7})
    assert (await pending(client), await claimed(client)) == (1, [1])


async def test_published_row_stays_published(client: RawClient, database: Database) -> None:
    await fill(database, 1)
    assert (await call(client, f"{OUTBOX}/mark-published", {"outbox_ids": [1]})).json == {"marked": 1}
    before = await state(database, 1)
    reply = await call(client, f"{OUTBOX}/mark-failed", {"outbox_id": 1, "error": "late"})
    assert reply.json == {"marked": False, "available_at_in": 1}
    assert await state(database, 1) == before


async def test_error_with_nul_is_refused(client: RawClient, database: Database) -> None:
    await fill(database, 1)
    reply = await call(client, f"{OUTBOX}/mark-failed", '{"outbox_id":1,"error":"a\\u0000"}')
    assert (reply.status, reply.json["error"]) == (422, "error must not contain U+0000")


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_delay_doubles_up_to_256_seconds_and_the_maximum(attempts: int, maximum: int) -> None:
    delay = retry_delay_seconds(attempts, maximum)
    assert delay <= maximum
    assert delay == maximum or delay in {1, 2, 4, 8, 16, 32, 64, 128, 256}
    if 1 <= attempts <= 8 and maximum >= 256:
        assert retry_delay_seconds(attempts + 1, maximum) == 2 * delay
