"""The dashboard's numbers: those of the log, from indexes, at most five seconds old."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noetl.errors import DatabaseUnavailableError
from noetl.http.dashboard import CACHE_SECONDS, Cached
from noetl.store.dashboard import DashboardStore
from noetl.store.tally import TallyStore
from tests.integration.http.client_application import client_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase, MakePostgres
    from tests.integration.http.client_application import ClientRoutes
    from tests.integration.http.rawhttp import Serve


@pytest.fixture
async def routes(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[ClientRoutes]:
    async with client_application(await make_database(schema_template)) as opened:
        await opened.database.execute(
            "INSERT INTO noetl.catalog (catalog_id, path, version, kind, content) VALUES (1, 'a/b', 1, 'playbook', ''),"
            " (2, 'a/b', 2, 'playbook', ''), (3, 'c', 1, 'credential', '')"
        )
        yield opened


async def add_executions(routes: ClientRoutes, *rows: tuple[int, str, datetime]) -> None:
    for execution_id, status, started in rows:
        await routes.database.execute(
            "INSERT INTO noetl.execution (execution_id, catalog_id, status, start_time) VALUES ($1, 1, $2, $3)",
            execution_id, status, started,
        )  # fmt: skip
    await TallyStore(routes.database).recount()


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def test_numbers_are_those_of_the_rows(routes: ClientRoutes, serve: Serve) -> None:
    statuses = ["RUNNING"] * 2 + ["COMPLETED"] * 3 + ["FAILED"] + ["CANCELLED"] * 4
    await add_executions(routes, *((number, status, midnight()) for number, status in enumerate(statuses)))
    for name, kind, status in (
        ("w1", "worker_pool", "ready"), ("w2", "worker_pool", "active"), ("w3", "worker_pool", "offline"),
        ("s1", "server_api", "ready"),
    ):  # fmt: skip
        await routes.database.execute(
            "INSERT INTO noetl.runtime (runtime_id, name, kind, status, heartbeat) VALUES ($1, $2, $3, $4, now())",
            int(name[1:]) + 10 * (kind == "server_api"), name, kind, status,
        )  # fmt: skip
    client = await serve(routes.application)
    assert (await client.get("/api/dashboard/stats")).json == {
        "status": "ok",
        "stats": {
            "total_executions": 10, "successful_executions": 3, "failed_executions": 1, "cancelled_executions": 4,
            "running_executions": 2, "total_playbooks": 2, "total_workers": 2,
        },
    }  # fmt: skip


async def test_executions_of_another_server_count(routes: ClientRoutes, serve: Serve) -> None:
    for event_id, event_type in ((1, "playbook_started"), (2, "playbook.completed")):
        await routes.database.execute(
            "INSERT INTO noetl.event (event_id, execution_id, catalog_id, event_type, status, created_at)"
            " VALUES ($1, 77, 1, $2, 'X', now() AT TIME ZONE 'UTC')",
            event_id, event_type,
        )  # fmt: skip
    client = await serve(routes.application)
    stats = (await client.get("/api/dashboard/stats")).json["stats"]
    assert (stats["total_executions"], stats["successful_executions"]) == (1, 1)


async def test_trend_has_the_days_of_utc_and_the_newest_are_listed(routes: ClientRoutes, serve: Serve) -> None:
    today = midnight()
    seconds = timedelta(seconds=1)
    starts = [
        today, today - seconds, today - timedelta(days=1), today - timedelta(days=3), today - timedelta(days=6),
        today - timedelta(days=6) - seconds, *[today - timedelta(days=30)] * 8,
    ]  # fmt: skip
    await add_executions(routes, *((number, "COMPLETED", started) for number, started in enumerate(starts, start=1)))
    client = await serve(routes.application)
    trend, recent = (await client.get("/api/dashboard/widgets")).json["widgets"]
    expected = [(1, 6), (1, 3), (2, 1), (1, 0)]
    assert trend["data"] == [
        {"count": count, "date": (today - timedelta(days=days)).date().isoformat()} for count, days in expected
    ]
    assert [row["execution_id"] for row in recent["data"]] == [1, 2, 3, 4, 5, 6, 14, 13, 12, 11]
    assert recent["data"][0] == {"execution_id": 1, "path": "a/b", "status": "COMPLETED"}
    reply = await client.request("GET", "/api/dashboard/widgets", None, [("x-noetl-ids", "string")])
    assert reply.json["widgets"][1]["data"][0]["execution_id"] == "1"


def nodes(plan: dict[str, Any]) -> list[tuple[str, str | None]]:
    below = itertools.chain.from_iterable(nodes(child) for child in plan.get("Plans", []))
    return [(plan["Node Type"], plan.get("Relation Name")), *below]


async def test_numbers_come_from_the_tally_alone(routes: ClientRoutes) -> None:
    await routes.database.execute(
        "INSERT INTO noetl.execution (execution_id, catalog_id, status, start_time, error)"
        " SELECT n, 1, (ARRAY['COMPLETED', 'FAILED', 'RUNNING'])[1 + n % 3], now() - n * interval '10 minutes',"
        " repeat('x', 500) FROM generate_series(1, 20000) AS n"
    )
    await TallyStore(routes.database).recount()
    store = DashboardStore(routes.database)
    for sql in (store.totals_sql, store.trend_sql):
        plan = await routes.database.fetchval(f"EXPLAIN (FORMAT JSON) {sql}")
        relations = {relation for _, relation in nodes(json.loads(plan)[0]["Plan"]) if relation is not None}
        assert relations <= {"execution_tally", "catalog", "runtime"}, plan
    totals = await store.totals()
    assert (totals.executions, totals.running) == (20_000, 6_667)


async def test_lost_database_is_told_with_the_time_to_come_again(make_postgres: MakePostgres, serve: Serve) -> None:
    from noetl.store.migrations import upgrade_url

    cluster = await make_postgres()
    await upgrade_url(cluster.dsn)
    async with client_application(cluster.dsn) as opened:
        client = await serve(opened.application)
        await cluster.stop()
        for path in ("stats", "widgets"):
            reply = await client.get(f"/api/dashboard/{path}")
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        client.close()


async def test_value_is_kept_for_five_seconds_and_fetched_once_for_all_who_wait() -> None:
    now = 0.0
    calls = 0
    failing = False

    async def fetch() -> int:
        nonlocal calls
        await asyncio.sleep(0)
        if failing:
            raise DatabaseUnavailableError("gone")
        calls += 1
        return calls

    cached = Cached(fetch, lambda: now)
    assert await asyncio.gather(*(cached.value() for _ in range(5))) == [1] * 5
    now = CACHE_SECONDS - 0.1
    assert await cached.value() == 1
    now = CACHE_SECONDS
    assert await cached.value() == 2
    failing, now = True, 3 * CACHE_SECONDS
    with pytest.raises(DatabaseUnavailableError):
        await cached.value()
    failing = False
    assert await cached.value() == 3
