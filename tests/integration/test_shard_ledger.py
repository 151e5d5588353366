"""The ledger over two shards: where ids lead, keys under concurrency, and commands of silent workers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

from noetl._fast.sharding import shard_for
from noetl._fast.snowflake import SnowflakeGenerator
from noetl.config import load_settings
from noetl.errors import DatabaseUnavailableError, NotFoundError
from noetl.ledger.items import StartExecution
from noetl.ledger.ledger import Ledger, LedgerLimits
from noetl.ledger.playbooks import Playbooks
from noetl.ledger.shard import minter_of
from noetl.runtime.recovery import CommandRecovery
from noetl.store.catalog import CatalogStore
from noetl.store.commands import CommandStore
from noetl.store.sharded_executions import ShardedExecutions
from noetl.store.shards import Shards
from tests.faults.checker import query
from tests.integration.ledger_harness import CollectingAnnouncer, LedgerHarness, SilentMetrics
from tests.integration.shard_site import dsn, misplaced

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from noetl.store.database import Database
    from tests.conftest import MakeDatabase

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: one, path: ledger/one}
workflow:
  - step: start
    tool: {kind: noop}
"""


class Site:
    """A harness over shards: the cluster database, then two others."""

    def __init__(self, harness: LedgerHarness, shards: Shards, unreachable: set[Database]) -> None:
        self.harness = harness
        self.ledger = harness.ledger
        self.shards = shards
        self.unreachable = unreachable

    async def start(self, key: str | None = None) -> int:
        """Start an execution."""
        return (await self.ledger.start(StartExecution(path="ledger/one", idempotency_key=key))).execution_id


@pytest.fixture(scope="module")
async def urls(make_database: MakeDatabase, schema_template: str) -> list[str]:
    return [await make_database(schema_template) for _ in range(3)]


@asynccontextmanager
async def open_site(urls: list[str], machine_id: int) -> AsyncGenerator[Site]:
    """The ledger of one server process."""
    environment = {"NOETL_CLUSTER_DSN": dsn(urls[0]), "NOETL_SHARDS": ",".join(map(dsn, urls[1:]))}
    sharding = load_settings(environment).sharding
    shards = await Shards.connect(sharding.cluster, sharding.shards)
    unreachable: set[Database] = set()
    catalog, announcer = CatalogStore(shards.cluster), CollectingAnnouncer()
    ledger = Ledger(
        shards,
        catalog,
        ShardedExecutions(shards),
        CommandStore(shards.cluster),
        Playbooks(catalog, 2**20),
        SnowflakeGenerator(machine_id),
        announcer,
        SilentMetrics(),
        LedgerLimits(lanes=2),
        is_reachable=lambda database: database not in unreachable,
    )
    running = asyncio.create_task(ledger.run())
    try:
        yield Site(LedgerHarness(shards.cluster, ledger, catalog, announcer), shards, unreachable)
    finally:
        await ledger.close()
        await running
        await shards.close()


@pytest.fixture
async def site(urls: list[str]) -> AsyncIterator[Site]:
    async with open_site(urls, 1) as opened:
        await opened.harness.register(PLAYBOOK)
        yield opened


def test_ids_minted_for_a_shard_belong_to_it_and_ascend() -> None:
    minter = SnowflakeGenerator(1)
    for shards in (1, 2, 3, 16):
        for shard in range(shards):
            mint = minter_of(shard, shards, minter.mint)
            ids = [mint() for _ in range(200)]
            assert {shard_for(one, shards) for one in ids} == {shard}
            assert ids == sorted(set(ids))


async def test_a_command_is_looked_for_on_the_shard_that_its_event_tells(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other shard is away: that says nothing about commands which are here, and leaves open where others are."""
    for _ in range(10):
        await site.start()
    notices = [site.harness.announcer.queue.get_nowait() for _ in range(10)]
    here = [notice for notice in notices if shard_for(notice.execution_id, 2) == 0]
    assert 0 < len(here) < 10
    shards = site.ledger._shards  # pyright: ignore[reportPrivateUsage]

    async def away(_event_id: int) -> NoReturn:
        raise DatabaseUnavailableError("away")

    with pytest.raises(NotFoundError):
        await site.ledger.command(4711)
    monkeypatch.setattr(shards[1], "find_issued", away)
    for notice in here:
        site.ledger.issued.discard(notice.event_id)  # as in another replica
        assert (await site.ledger.command(notice.event_id)).execution_id == notice.execution_id
        await site.harness.work(notice)
    for event_id in (4711, next(number for number in range(100) if shard_for(number, 2) == 1)):
        with pytest.raises(DatabaseUnavailableError):
            await site.ledger.command(event_id)


async def test_a_key_used_at_once_in_two_processes_starts_one_execution(site: Site, urls: list[str]) -> None:
    async with open_site(urls, 2) as other:
        for number in range(8):
            starts = (place.start(f"key-{number}") for place in (site, other, site, other))
            assert len(set(await asyncio.gather(*starts))) == 1
    assert await misplaced(urls[1:]) == []
    keys = [row for url in urls[1:] for row in await query(url, "SELECT execution_id FROM noetl.execute_idempotency")]
    assert len(keys) == len(set(keys)) == 8


async def test_new_executions_begin_where_a_database_is(site: Site) -> None:
    site.unreachable.add(site.shards.shards[1])
    assert {shard_for(await site.start(), 2) for _ in range(20)} == {0}
    site.unreachable.update(site.shards.shards)
    assert await site.start()  # nothing is known to be there: try all the same


async def test_commands_of_silent_workers_return_on_every_shard(site: Site, urls: list[str]) -> None:
    for _ in range(10):
        await site.start()
    notices = [site.harness.announcer.queue.get_nowait() for _ in range(10)]
    assert {shard_for(notice.execution_id, 2) for notice in notices} == {0, 1}
    for number, name in enumerate(("silent", "w1")):
        await query(
            urls[0],
            "INSERT INTO noetl.runtime (runtime_id, name, kind, status, heartbeat)"
            " VALUES ($1, $2, 'worker_pool', 'ready', now() - make_interval(secs => $3::float8))",
            number, name, 600 if name == "silent" else 0,
        )  # fmt: skip
    owner = {notice.event_id: ("silent", "w1")[index % 2] for index, notice in enumerate(notices)}
    for notice in notices:
        await site.harness.claim(notice, owner[notice.event_id])
        await site.harness.post(notice, "command.started", "STARTED", {})
    for url in urls[1:]:
        await query(
            url,
            "UPDATE noetl.command SET claimed_at = now() - interval '10 minutes'"
            " WHERE execution_id = ANY ($1::bigint[])",
            [notice.execution_id for notice in notices],
        )
    outcomes: dict[str, int] = {}
    for shard in site.shards.shards:
        recovery = CommandRecovery(
            CommandStore(shard, site.shards.cluster), site.ledger, silent_seconds=60, unknown_worker_seconds=1800,
            claim_lease_seconds=10**6, max_attempts=3, limit=100, can_judge=lambda _seconds: True,
        )  # fmt: skip
        for outcome, count in (await recovery.sweep()).items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    assert outcomes == {"requeued": 5}
    again = [site.harness.announcer.queue.get_nowait() for _ in range(5)]
    assert {notice.event_id for notice in again} == {one for one, name in owner.items() if name == "silent"}
    for notice in (*again, *(notice for notice in notices if owner[notice.event_id] == "w1")):
        await site.harness.work(notice, worker=owner[notice.event_id])
    open_ones = "SELECT FROM noetl.execution WHERE execution_id = ANY ($1::bigint[]) AND end_time IS NULL"
    assert [row for url in urls[1:] for row in await query(url, open_ones, [one.execution_id for one in notices])] == []
