"""Lists of executions at size, rows for executions of other servers, and the plans behind them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from noetl.config import load_settings
from noetl.store.database import Database
from noetl.store.executions import ExecutionStore, PageChoice
from noetl.store.settlement import SWEEP_LAG
from noetl.store.tally import TallyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase

EXECUTIONS = 20_000
CATALOG = 200
FIRST_ID = 383_000_000_000_000_000


def execution_id(number: int) -> int:
    return FIRST_ID + number * 1000


def expected_status(number: int) -> str:
    if number % 2_500 == 5:
        return "RUNNING"
    return "FAILED" if number % 100 == 0 else "COMPLETED"


def expected_catalog_id(number: int) -> int:
    return 1 + number * 7919 % CATALOG


async def open_database(url: str) -> Database:
    return await Database.connect(load_settings({"DATABASE_URL": url}).database)


@pytest.fixture(scope="module")
async def large(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[Database]:
    """Many ended executions, few running ones; the newest thousand have events."""
    database = await open_database(await make_database(schema_template))
    await database.execute("INSERT INTO noetl.resource VALUES ('Playbook')")
    await database.execute(
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind)"
        " SELECT id, 'folder/Play' || id % 20, 1 + id / 20, 'Playbook' FROM generate_series(1, $1::integer) AS id",
        CATALOG,
    )
    await database.execute(
        """INSERT INTO noetl.execution
            (execution_id, catalog_id, status, start_time, end_time, last_event_id, last_event_type)
        SELECT $1 + n * 1000, 1 + n * 7919 % $2::bigint,
            CASE WHEN n % 2500 = 5 THEN 'RUNNING' WHEN n % 100 = 0 THEN 'FAILED' ELSE 'COMPLETED' END,
            '2026-01-01Z'::timestamptz + n * interval '1 second',
            CASE WHEN n % 2500 <> 5 THEN '2026-01-01Z'::timestamptz + n * interval '1 second' END,
            n * 10 + 4, 'playbook.completed'
        FROM generate_series(1, $3::bigint) AS n""",
        FIRST_ID,
        CATALOG,
        EXECUTIONS,
    )
    await database.execute(
        """INSERT INTO noetl.event
            (execution_id, event_id, catalog_id, event_type, node_name, status, created_at, context, meta)
        SELECT $1 + n * 1000, n * 10 + k, 1, types[k + 1], 's', 'X', '2026-01-01'::timestamp + n * interval '1 s',
            '{}', '{"command_id": "c"}'
        FROM generate_series($2::bigint - 1000, $2::bigint) AS n, generate_series(0, 4) AS k,
            (VALUES (ARRAY['playbook_started', 'command.issued', 'command.claimed', 'command.completed',
                'playbook.completed'])) AS known (types)""",
        FIRST_ID,
        EXECUTIONS,
    )
    await TallyStore(database).recount()
    await database.execute("VACUUM ANALYZE noetl.execution")
    await database.execute("VACUUM ANALYZE noetl.event")
    yield database
    await database.close()


def matching(
    *, limit: int, offset: int = 0, catalog_id: int | None = None, path: str | None = None, status: str | None = None
) -> list[int]:
    """What the list must hold, computed without SQL."""
    found = [
        execution_id(number)
        for number in range(EXECUTIONS, 0, -1)
        if (catalog_id is None or expected_catalog_id(number) == catalog_id)
        and (path is None or path.lower() in f"folder/play{expected_catalog_id(number) % 20}")
        and (status is None or expected_status(number) == status)
    ]
    return found[offset : offset + limit]


FILTERS: list[dict[str, Any]] = [
    {"limit": 50},
    {"limit": 100, "offset": 15_000},
    {"limit": 50, "offset": EXECUTIONS},
    {"limit": 50, "offset": EXECUTIONS - 20},
    {"limit": 30, "offset": 3_599},
    {"limit": 30, "offset": 3_600, "status": "COMPLETED"},
    {"limit": 7, "offset": 12_345, "path": "play"},
    {"limit": 100, "offset": 2_000, "path": "play1"},
    {"limit": 100, "offset": 1_000, "path": "play1", "status": "COMPLETED"},
    {"limit": 100, "offset": 9_999, "path": "play7"},
    {"limit": 50, "status": "RUNNING"},
    {"limit": 5, "status": "RUNNING", "offset": 3},
    {"limit": 50, "status": "FAILED"},
    {"limit": 50, "status": "running"},
    {"limit": 50, "status": ""},
    {"limit": 0},
    {"limit": 50, "path": "PLAY7"},
    {"limit": 50, "path": "play1"},
    {"limit": 50, "path": ""},
    {"limit": 50, "path": "play", "status": "RUNNING"},
    {"limit": 50, "path": "%"},
    {"limit": 50, "path": "nowhere"},
    {"limit": 50, "catalog_id": 77},
    {"limit": 50, "catalog_id": 120, "status": "FAILED"},
    {"limit": 50, "catalog_id": 77, "path": "play17"},
    {"limit": 50, "catalog_id": 77, "path": "play3"},
]


@pytest.mark.parametrize("filters", FILTERS)
async def test_filters_hold_for_all_executions_and_pages_are_full(large: Database, filters: dict[str, Any]) -> None:
    rows = await ExecutionStore(large).page(**filters)
    assert [row.execution_id for row in rows] == matching(**filters)


def scanned(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """(node type, relation) of all scans of a plan."""
    own = [(plan["Node Type"], plan["Relation Name"])] if "Relation Name" in plan else []
    return own + [scan for child in plan.get("Plans", []) for scan in scanned(child)]


async def analyzed(database: Database, sql: str, *arguments: object, mode: str = "force_custom_plan") -> dict[str, Any]:
    """The plan of a statement that was run as a prepared one."""
    async with database.transaction() as connection:
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *arguments)
    return json.loads(text)[0]["Plan"]


def rows_read(plan: dict[str, Any], relation: str) -> int:
    """Rows that the scans of a relation (and of its partitions) looked at, kept or not."""
    own = 0
    if plan.get("Relation Name", "").startswith(relation):
        looked_at = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        own = looked_at * plan["Actual Loops"]
    return own + sum(rows_read(child, relation) for child in plan.get("Plans", []))


async def explain(database: Database, sql: str, *arguments: object) -> list[tuple[str, str]]:
    text = await database.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *arguments)
    return scanned(json.loads(text)[0]["Plan"])


def sequential(scans: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Full scans of what has rows; an empty partition is rightly read without its index."""
    return [scan for scan in scans if scan[0] == "Seq Scan" and scan[1] in ("execution", "event_2026_q4")]


@pytest.mark.parametrize("is_deep", [False, True])
@pytest.mark.parametrize("by_status", [False, True])
@pytest.mark.parametrize(("by_catalog", "among_recent"), [(False, False), (True, False), (True, True)])
async def test_lists_are_read_from_indexes(
    large: Database, by_status: bool, by_catalog: bool, among_recent: bool, is_deep: bool
) -> None:
    choice = PageChoice(by_catalog=by_catalog, by_status=by_status, among_recent=among_recent, is_deep=is_deep)
    arguments: list[object] = [50, 15_000 if is_deep else 0]
    if by_catalog:
        arguments.append(list(range(1, CATALOG)))
    if by_status:
        arguments.append("COMPLETED")
    plan = await analyzed(large, ExecutionStore(large).page_sql(choice), *arguments)
    scans = scanned(plan)
    assert sequential(scans) == []
    assert any(relation == "execution" for _, relation in scans)
    # An hour has 3,600 executions; catalog entries are tallied by day, and here all 20,000 are of one.
    assert rows_read(plan, "execution") < (21_000 if by_catalog else 12_000)


@pytest.mark.parametrize("statement", ["_progress", "_head", "_is_cancelled", "_event_order"])
async def test_one_execution_is_read_from_indexes(large: Database, statement: str) -> None:
    scans = await explain(large, getattr(ExecutionStore(large), statement), execution_id(EXECUTIONS))
    assert sequential(scans) == []


async def test_a_command_is_found_by_the_id_of_its_event_through_an_index(large: Database) -> None:
    sql = "SELECT execution_id FROM noetl.event WHERE event_id = $1 AND event_type = 'command.issued'"
    plan = json.loads(await large.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", EXECUTIONS * 10 + 1))
    assert sequential(scanned(plan[0]["Plan"])) == []
    assert "event_id" in json.dumps(plan)
    assert await large.fetchval(sql, EXECUTIONS * 10 + 1) == execution_id(EXECUTIONS)


async def test_waiting_commands_are_found_through_an_index(large: Database) -> None:
    sql = (
        "SELECT event_id FROM noetl.command WHERE status = 'PENDING' AND updated_at < now() ORDER BY updated_at LIMIT 9"
    )
    async with large.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {sql}"))
    assert sequential(scanned(plan[0]["Plan"])) == []


# -- executions of other servers -----------------------------------------------------------------------------------


@pytest.fixture
async def store(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[ExecutionStore]:
    database = await open_database(await make_database(schema_template))
    await database.execute("INSERT INTO noetl.resource VALUES ('Playbook')")
    await database.execute("INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES (1, 'p', 3, 'Playbook')")
    yield ExecutionStore(database)
    await database.close()


async def write(store: ExecutionStore, execution: int, event_id: int, event_type: str, **columns: Any) -> None:
    """An event as the reference writes it: nothing beside the row of the log."""
    given = {"catalog_id": 1, "execution_id": execution, "event_id": event_id, "event_type": event_type, **columns}
    names = ", ".join(given)
    places = ", ".join(f"${number}" for number in range(1, len(given) + 1))
    await store._database.execute(f"INSERT INTO noetl.event ({names}) VALUES ({places})", *given.values())


async def listed(store: ExecutionStore) -> list[tuple[int, str]]:
    return [(row.execution_id, row.status) for row in await store.page(limit=50)]


async def test_what_another_server_starts_and_ends_is_listed(store: ExecutionStore) -> None:
    await write(store, 10, 1, "playbook_started", parent_execution_id=9)
    assert await listed(store) == [(10, "RUNNING")]
    await write(store, 10, 2, "playbook.failed", meta='{"error": "Failed steps: a"}')
    store._settle_at = 0
    (row,) = await store.page(limit=5)
    assert (row.status, row.error, row.parent_execution_id, row.version) == ("FAILED", "Failed steps: a", 9, 3)
    assert row.event_count == 2
    assert row.ended_at is not None


async def test_lists_look_for_foreign_executions_at_most_once_a_second(store: ExecutionStore) -> None:
    assert await listed(store) == []
    await write(store, 10, 1, "playbook_started")
    assert await listed(store) == []


async def test_an_end_without_a_start_is_no_execution(store: ExecutionStore) -> None:
    await write(store, 10, 1, "playbook.completed")
    assert await store.settlement.settle_recent() == 0
    assert await store.settlement.sweep() == 0


async def test_settling_again_writes_nothing(store: ExecutionStore) -> None:
    await write(store, 10, 1, "playbook_started")
    await write(store, 10, 2, "playbook.completed")
    assert await store.settlement.settle_recent() == 1
    assert await store.settlement.settle_recent() == 0
    assert await store.settlement.sweep() == 0


async def test_the_sweep_finds_what_lists_did_not_and_remembers_its_place(store: ExecutionStore) -> None:
    database = store._database
    await write(store, 10, 1, "playbook_started")
    await write(store, 10, 2, "playbook_cancelled")
    assert await store.settlement.sweep() == 1
    assert await listed(store) == [(10, "CANCELLED")]
    assert await database.fetchval("SELECT count(*) FROM noetl.projection") == 0, "too young to be settled for good"
    await database.execute("UPDATE noetl.event SET ingest_time = now() - 2 * $1::interval", SWEEP_LAG)
    assert await store.settlement.sweep() == 0
    place = await database.fetchval("SELECT version FROM noetl.projection WHERE projection_id = 'execution'")
    assert place == await database.fetchval("SELECT max(log_position) FROM noetl.event")
    await database.execute("DELETE FROM noetl.execution")
    assert await store.settlement.sweep() == 0, "what lies behind its place is not looked at again"


@pytest.mark.parametrize(
    ("types", "status"),
    [
        ([], "RUNNING"),
        (["command.failed"], "RUNNING"),
        (["playbook.completed"], "COMPLETED"),
        (["playbook_failed"], "FAILED"),
        (["playbook_cancelled"], "CANCELLED"),
        (["execution.cancelled"], "CANCELLED"),
        (["playbook_cancelled", "playbook.completed"], "COMPLETED"),
        (["playbook.completed", "playbook_cancelled"], "COMPLETED"),
        (["playbook.failed", "playbook_cancelled"], "FAILED"),
        (["playbook.completed", "playbook.failed"], "FAILED"),
        (["playbook.failed", "playbook.completed"], "COMPLETED"),
    ],
)
async def test_one_derivation_of_the_status_for_list_and_status(
    store: ExecutionStore, types: list[str], status: str
) -> None:
    """I7."""
    await write(store, 10, 1, "playbook_started")
    for number, event_type in enumerate(types, 2):
        await write(store, 10, number, event_type, status="FAILED" if "failed" in event_type else "X")
    assert await listed(store) == [(10, status)]
    progress = await store.progress(10)
    assert progress is not None
    assert progress.status == status
    assert progress.is_cancelled == any("cancelled" in event_type for event_type in types)
    assert await store.is_cancelled(10) == progress.is_cancelled


async def test_descendants_that_have_not_ended_are_found_at_every_depth(store: ExecutionStore) -> None:
    for execution, parent in ((10, None), (11, 10), (12, 11), (13, 12), (14, 10), (20, None)):
        await write(store, execution, 1, "playbook_started", parent_execution_id=parent)
    await write(store, 12, 2, "playbook.completed")
    await store.settlement.settle_recent()
    assert await store.unfinished_descendants(10) == [11, 13, 14]
    assert await store.unfinished_descendants(20) == []


async def test_a_circle_of_parents_ends(store: ExecutionStore) -> None:
    await write(store, 10, 1, "playbook_started", parent_execution_id=11)
    await write(store, 11, 1, "playbook_started", parent_execution_id=10)
    await store.settlement.settle_recent()
    assert await store.unfinished_descendants(10) == [11]
