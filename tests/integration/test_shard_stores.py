"""Statements that concern two databases: workers of the cluster and commands of a shard, catalog copies, projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl._fast.sharding import shard_for
from noetl.config import load_settings
from noetl.errors import DatabaseError, InternalError, NoetlError
from noetl.http.catalog import read_resource
from noetl.http.health import DatabaseState
from noetl.process_health import ProcessHealth
from noetl.store.catalog import CatalogStore
from noetl.store.catalog_copies import CatalogCopies
from noetl.store.commands import CommandStore
from noetl.store.projection import ProjectedEvent, ProjectionStore
from noetl.store.schema import SchemaStore
from noetl.store.shards import Shards, first_of, on_each
from tests.faults.checker import query
from tests.integration.shard_site import dsn, misplaced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: one, path: stores/one}
workflow:
  - step: start
    tool: {kind: noop}
"""


@pytest.fixture(scope="module")
async def urls(make_database: MakeDatabase, schema_template: str) -> list[str]:
    """The databases of the cluster and of two shards."""
    return [await make_database(schema_template) for _ in range(3)]


async def connect(cluster: str | None, *shards: str) -> Shards:
    """As the server connects."""
    environment = {"NOETL_SHARDS": ",".join(map(dsn, shards))}
    if cluster is not None:
        environment["NOETL_CLUSTER_DSN"] = dsn(cluster)
    sharding = load_settings(environment).sharding
    return await Shards.connect(sharding.cluster, sharding.shards)


@pytest.fixture
async def shards(urls: list[str]) -> AsyncIterator[Shards]:
    connected = await connect(*urls)
    yield connected
    await connected.close()


async def register(shards: Shards) -> int:
    """A playbook in the catalog of the cluster; returns its id."""
    return (await CatalogStore(shards.cluster).register(read_resource(PLAYBOOK, "Playbook")))[0]


def event(execution_id: int, event_id: int, catalog_id: int) -> ProjectedEvent:
    """An event with nothing in it."""
    return ProjectedEvent(
        execution_id=execution_id, event_id=event_id, catalog_id=catalog_id, parent_event_id=None,
        parent_execution_id=None, created_at=None, event_type="step.enter", node_id="a", node_name="a", node_type=None,
        status="ENTERED", duration=None, context=None, result=None, meta=None, error=None, stack_trace=None,
        worker_id=None, tenant_id="default", organization_id="default",
    )  # fmt: skip


async def test_pools_of_equal_settings_are_shared_and_named(urls: list[str]) -> None:
    for cluster, names in (
        (None, ["cluster", "shard-1"]),
        (urls[2], ["cluster", "shard-0"]),
        (urls[0], ["cluster", "shard-0", "shard-1"]),
    ):
        connected = await connect(cluster, urls[1], urls[2])
        assert list(connected.named) == names
        await connected.close()


async def test_a_database_that_does_not_exist_stops_the_start_and_closes_the_others(urls: list[str]) -> None:
    with pytest.raises(DatabaseError, match="Database error"):
        await connect(None, urls[1], urls[1].replace("test_", "missing_"))
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'noetl-control-plane'"
    assert await query(urls[1], left, urls[1].rpartition("/")[2]) == [(0,)]


async def test_results_of_all_parts_or_the_first_failure_after_all_are_done() -> None:
    done: list[int] = []

    async def operation(part: int) -> int | None:
        if part < 0:
            raise NoetlError(f"part {part}")
        done.append(part)
        return part or None

    assert await on_each([3, 1, 2], operation) == [3, 1, 2]
    done.clear()
    with pytest.raises(NoetlError, match="part -1"):
        await on_each([-1, 1, -2, 2], operation)
    assert sorted(done) == [1, 2]
    assert await first_of([0, 2, 1], operation) == 2
    assert await first_of([-1, 2], operation) == 2
    assert await first_of([0, 0], operation) is None
    with pytest.raises(NoetlError, match="part -1"):
        await first_of([-1, 0], operation)


async def test_silent_workers_of_the_cluster_lose_their_commands_on_a_shard(shards: Shards, urls: list[str]) -> None:
    for name, age in (("alive", 1), ("silent", 600)):
        await query(
            urls[0],
            "INSERT INTO noetl.runtime (runtime_id, name, kind, status, heartbeat)"
            " VALUES ($1::bigint, $2, 'worker_pool', 'ready', now() - make_interval(secs => $1::bigint))",
            age, name,
        )  # fmt: skip
    held_by = [("alive", 900), ("silent", 900), ("silent", 5), ("unknown", 900), ("unknown", 9000), (None, 9000)]
    here = [number for number in range(1000, 1100) if shard_for(number, 2) == 0]
    for number, (worker, age) in zip(here, held_by, strict=False):
        await query(
            urls[1],
            "INSERT INTO noetl.command (command_id, event_id, execution_id, catalog_id, step_name, status, worker_id,"
            " claimed_at) VALUES ($1, $1, $1, 1, 'a', 'RUNNING', $2, now() - make_interval(secs => $3::float8))",
            number, worker, age,
        )  # fmt: skip
    commands = CommandStore(shards.shards[0], shards.cluster)
    held = await commands.held_by_silent_workers(60, 1800, 100)
    assert sorted((command.execution_id, command.worker_id) for command in held) == [
        (here[1], "silent"),
        (here[4], "unknown"),
        (here[5], None),
    ]
    assert await CommandStore(shards.shards[1], shards.cluster).held_by_silent_workers(60, 1800, 100) == []
    assert [await commands.is_silent(name, 60) for name in ("alive", "silent", "unknown")] == [False, True, None]


async def test_catalog_entries_are_copied_once_with_all_columns(shards: Shards, urls: list[str]) -> None:
    catalog_id = await register(shards)
    copies = CatalogCopies(shards.cluster, shards.shards[0])
    assert copies.lacks(catalog_id)
    await copies.copy([catalog_id, 4711])
    assert not copies.lacks(catalog_id)
    assert copies.lacks(4711)
    rows = "SELECT * FROM noetl.catalog WHERE catalog_id = $1"
    assert await query(urls[1], rows, catalog_id) == await query(urls[0], rows, catalog_id)
    await CatalogCopies(shards.cluster, shards.shards[0]).copy([catalog_id])  # as another process does
    assert not CatalogCopies(shards.cluster, shards.cluster).lacks(catalog_id)


async def test_another_catalog_entry_in_the_place_of_a_copy_is_refused(shards: Shards, urls: list[str]) -> None:
    """A shard that was a server's own database before has a catalog of its own."""
    catalog_id = await register(shards)
    await query(
        urls[1],
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES ($1, 'other', 1, 'playbook')",
        catalog_id,
    )
    with pytest.raises(InternalError) as refused:
        await CatalogCopies(shards.cluster, shards.shards[0]).copy([catalog_id])
    assert "another catalog entry" in (refused.value.detail or "")


async def test_projected_events_go_to_their_shards_and_come_once(shards: Shards, urls: list[str]) -> None:
    catalog_id = await register(shards)
    store = ProjectionStore(shards)
    events = [event(execution_id, 7, catalog_id) for execution_id in range(1, 21)]
    assert len({shard_for(one.execution_id, 2) for one in events}) == 2
    assert await store.insert(events) == 20
    assert await store.insert([*events, event(99, 7, catalog_id)]) == 1
    assert await misplaced(urls[1:]) == []
    assert await query(urls[0], "SELECT count(*) FROM noetl.event") == [(0,)]
    assert await store.catalog_ids(range(1, 100)) == dict.fromkeys([*range(1, 21), 99], catalog_id)
    assert await store.known_catalog_ids([catalog_id, 4711]) == {catalog_id}


async def test_the_schema_is_created_in_every_database(make_database: MakeDatabase, schema_template: str) -> None:
    empty = await make_database()
    connected = await connect(await make_database(schema_template), await make_database(schema_template), empty)
    created = await SchemaStore(connected).initialise()
    again = await SchemaStore(connected).initialise()
    await connected.close()
    assert (created.exists, created.applied[0], again.applied) == (True, "001_schema", [])
    assert await query(empty, "SELECT count(*) FROM noetl.event") == [(0,)]


async def test_a_shard_that_is_away_is_known_and_does_not_make_the_process_unready(shards: Shards) -> None:
    health = ProcessHealth(shards.named, None, version="1", server_name="test")
    lost = shards.shards[1]
    states: dict[Any, DatabaseState] = health._states  # pyright: ignore[reportPrivateUsage]
    states[lost] = DatabaseState.UNREACHABLE
    assert health.database is DatabaseState.OK
    assert not health.is_reachable(lost)
    assert (health.could_hear_for(0, lost), health.could_hear_for(0, shards.shards[0])) == (False, True)
    states[shards.cluster] = DatabaseState.TIMEOUT
    assert health.database is DatabaseState.TIMEOUT
    assert not health.could_hear_for(0, shards.shards[0])
