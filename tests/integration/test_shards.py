"""The server on three shards: playbooks, lists, notifications, and one shard that goes away and comes back."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import nats as nats_client
import pytest

from noetl._fast.sharding import shard_for
from noetl.dev.worker import LocalWorker
from tests.faults.checker import query
from tests.integration.relay import Relay
from tests.integration.shard_site import Api, broken_rules, dsn, executions_of, misplaced, open_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.server_process import ServerProcess
    from noetl.dev.services import EmbeddedNats, EmbeddedPostgres
    from tests.conftest import MakeDatabase, MakeServer

SHARDS = 3
AWAY = 2
"""The shard behind the relay."""
PARENT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: parent, path: shards/parent}
workflow:
  - step: start
    tool: {kind: noop}
    next: [{step: each}]
  - step: each
    loop: {in: "{{ [1, 2, 3] }}", iterator: n, mode: parallel}
    tool: {kind: playbook, path: shards/child, args: {n: "{{ n }}"}}
    next: [{step: end}]
  - step: end
    tool: {kind: noop}
"""
CHILD = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: child, path: shards/child}
workflow:
  - step: start
    tool: {kind: noop}
    next: [{step: end}]
  - step: end
    tool: {kind: noop}
"""


def shard_of_key(key: str) -> int:
    """Where an idempotency key lies (docs/sharding.md)."""
    return shard_for(
        int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little", signed=True), SHARDS
    )


class Site:
    """A server, its three databases (the first is the cluster database), and a relay in front of the third."""

    def __init__(self, urls: list[str], relay: Relay, server: ServerProcess, nats_url: str, api: Api) -> None:
        self.urls = urls
        self.relay = relay
        self.server = server
        self.nats_url = nats_url
        self.api = api

    async def start(self, path: str, **more: Any) -> int:
        """Start an execution."""
        answer = await self.api.ok("POST", "/api/execute", {"path": path, "payload": {}, **more})
        return int(answer["execution_id"])

    async def start_on(self, shard: int, path: str) -> int:
        """Start executions until one is on this shard."""
        while True:
            execution_id = await self.start(path)
            if shard_for(execution_id, SHARDS) == shard:
                return execution_id

    async def finished(self, urls: list[str] | None = None) -> None:
        """Wait until everything on these shards (or all) has ended."""
        open_executions = "SELECT count(*) FROM noetl.execution WHERE end_time IS NULL"
        async with asyncio.timeout(60):
            while sum([(await query(url, open_executions))[0][0] for url in urls or self.urls]):  # noqa: ASYNC110 (another process ends them)
                await asyncio.sleep(0.1)

    async def work(self, stop: asyncio.Event) -> None:
        """A worker until ``stop``."""
        await LocalWorker(self.server.url, self.nats_url, worker_id="worker", concurrency=8).run(stop)


@pytest.fixture(scope="module")
async def site(
    postgres: EmbeddedPostgres,
    nats: EmbeddedNats,
    make_database: MakeDatabase,
    schema_template: str,
    make_server: MakeServer,
) -> AsyncIterator[Site]:
    # the second is empty: the server has to bring each database up to date, not only the first
    urls = [await make_database(schema_template), await make_database(), await make_database(schema_template)]
    async with Relay(postgres.port) as relay:
        dsns = [dsn(url, relay.port if index == AWAY else None) for index, url in enumerate(urls)]
        environment = {
            "NOETL_SHARDS": ",".join(dsns),
            "NOETL_ANNOUNCE_AFTER_SECONDS": "1",
            "POSTGRES_MAX_CONNECTIONS": "5",
        }
        server = await make_server(environment)
        async with open_api(server.url) as api:
            for text in (PARENT, CHILD):
                await api.ok("POST", "/api/catalog/register", {"content": text})
            yield Site(urls, relay, server, nats.url, api)
        await server.stop()


@pytest.fixture
async def worker(site: Site) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(site.work(stop))
    yield
    stop.set()
    await running


async def test_playbooks_and_their_children_run_to_the_end_with_every_row_on_its_shard(
    site: Site, worker: None
) -> None:
    parents = {await site.start("shards/parent") for _ in range(6)}
    await site.finished()
    per_shard = await executions_of(site.urls)
    assert sum(len(executions) for executions in per_shard) == len(set[int]().union(*per_shard)) >= 4 * len(parents)
    assert all(per_shard), "a shard without executions proves nothing"
    assert await misplaced(site.urls) == []
    assert await broken_rules(site.urls) == {}
    family = "SELECT execution_id, parent_execution_id FROM noetl.execution WHERE parent_execution_id IS NOT NULL"
    children = [row for url in site.urls for row in await query(url, family)]
    assert {parent for _, parent in children} >= parents
    assert any(shard_for(child, SHARDS) != shard_for(parent, SHARDS) for child, parent in children)


async def test_each_shard_has_only_the_catalog_entries_of_its_executions(site: Site) -> None:
    used = "SELECT DISTINCT catalog_id FROM noetl.event"
    for url in site.urls[1:]:
        assert set(await query(url, "SELECT catalog_id FROM noetl.catalog")) == set(await query(url, used))


async def test_list_and_dashboard_are_those_of_all_shards(site: Site) -> None:
    newest = (
        "SELECT execution_id, coalesce(start_time, created_at) FROM noetl.execution"
        " WHERE catalog_id = (SELECT catalog_id FROM noetl.catalog WHERE path = 'shards/child')"
    )
    rows = [row for url in site.urls for row in await query(url, newest)]
    expected = [row[0] for row in sorted(rows, key=lambda row: (row[1], row[0]), reverse=True)]
    listed: list[int] = []
    while len(listed) < len(expected):
        page = await site.api.ok("GET", f"/api/executions?path=shards/child&limit=5&offset={len(listed)}")
        listed += [row["execution_id"] for row in page]
    assert listed == expected
    stats = (await site.api.ok("GET", "/api/dashboard/stats"))["stats"]
    assert (stats["total_executions"], stats["total_playbooks"]) == (
        sum(len(executions) for executions in await executions_of(site.urls)),
        2,
    )


async def test_a_key_starts_one_execution_and_lies_beside_it(site: Site) -> None:
    for number in range(6):
        key = f"key-{number}"
        started = {await site.start("shards/child", idempotency_key=key) for _ in range(3)}
        assert len(started) == 1
        await site.api.ok("POST", f"/api/executions/{started.pop()}/cancel", {})
    assert await misplaced(site.urls) == []


async def test_a_command_is_found_by_its_event_wherever_it_is(site: Site) -> None:
    """An event id of our own tells its shard; that of a command which another server issued does not."""
    ours = await site.start_on(1, "shards/child")
    issued = "SELECT event_id FROM noetl.event WHERE execution_id = $1 AND event_type = 'command.issued'"
    [(event_id,)] = await query(site.urls[1], issued, ours)
    assert shard_for(event_id, SHARDS) == 1
    foreign = next(number for number in range(1, 100) if shard_for(number, SHARDS) == 0)
    await query(
        site.urls[1],
        "INSERT INTO noetl.event (execution_id, catalog_id, event_id, event_type, node_name, node_type, status,"
        " context, meta, created_at) SELECT execution_id, catalog_id, $2, event_type, node_name, node_type, status,"
        " context, meta, created_at FROM noetl.event WHERE execution_id = $1 AND event_id = $3",
        ours, foreign, event_id,
    )  # fmt: skip
    for known in (event_id, foreign):
        assert (await site.api.ok("GET", f"/api/commands/{known}"))["execution_id"] == ours
    assert (await site.api.call("GET", "/api/commands/4711"))[0] == 404
    await site.api.ok("POST", f"/api/executions/{ours}/cancel", {})


async def test_cancelling_reaches_descendants_on_all_shards(site: Site) -> None:
    root = await site.start("shards/parent")
    family = [root]
    for _ in range(6):
        family.append(await site.start("shards/child", parent_execution_id=family[-1]))
    assert len({shard_for(one, SHARDS) for one in family}) > 1
    answer = await site.api.ok("POST", f"/api/executions/{root}/cancel", {"cascade": True})
    assert sorted(map(int, answer["cancelled_executions"])) == sorted(family)
    for one in family:
        assert (await site.api.ok("GET", f"/api/executions/{one}/status"))["status"] == "CANCELLED"


async def test_variables_and_replay_come_from_the_shard_of_the_execution(site: Site) -> None:
    for shard in range(SHARDS):
        one = await site.start_on(shard, "shards/child")
        await site.api.ok("POST", f"/api/vars/{one}", {"variables": {"shard": shard}})
        assert (await site.api.ok("GET", f"/api/vars/{one}/shard"))["var_value"] == shard
        stored = "SELECT var_value::text FROM noetl.transient WHERE execution_id = $1"
        assert await query(site.urls[shard], stored, one) == [(str(shard),)]
        await site.api.ok("POST", f"/api/executions/{one}/cancel", {})
    assert await misplaced(site.urls) == []


async def test_notifications_that_were_lost_are_announced_again_on_every_shard(site: Site) -> None:
    waiting = {shard: await site.start_on(shard, "shards/child") for shard in range(SHARDS)}
    connection: Any = await nats_client.connect(site.nats_url)  # pyright: ignore[reportUnknownMemberType]
    await connection.jetstream().purge_stream("noetl_commands")
    await connection.close()
    stop = asyncio.Event()
    running = asyncio.create_task(site.work(stop))
    await site.finished()
    stop.set()
    await running
    for execution_id in waiting.values():
        assert (await site.api.ok("GET", f"/api/executions/{execution_id}/status"))["status"] == "COMPLETED"


async def test_shard_info_and_pools_tell_of_all_shards(site: Site) -> None:
    info = await site.api.ok("GET", "/api/runtime/shard-info?execution_id=42&shard_count=3")
    assert info["server_config"] == {"shard_index": 0, "shard_count": SHARDS}
    status, metrics = await site.api.call("GET", "/metrics")
    assert status == 200
    for pool in ("cluster", "shard-1", "shard-2"):
        assert f'noetl_db_pool_connections{{pool="{pool}",state="maximum"}} 5'.encode() in metrics


async def test_one_shard_that_is_away_stops_only_its_own_executions(site: Site) -> None:
    """Last in the module: it takes the third database away, and brings it back."""
    here = await site.start_on(0, "shards/child")
    there = await site.start_on(AWAY, "shards/child")
    await site.relay.cut()
    stop = asyncio.Event()
    running = asyncio.create_task(site.work(stop))
    await site.finished(site.urls[:AWAY])
    api = site.api
    assert (await api.ok("GET", f"/api/executions/{here}/status"))["status"] == "COMPLETED"
    key = next(str(number) for number in range(100) if shard_of_key(str(number)) == AWAY)
    for method, path, body in (
        ("GET", f"/api/executions/{there}/status", None),
        ("GET", "/api/executions", None),  # a list without a third of the executions would be wrong
        ("POST", "/api/execute", {"path": "shards/child", "idempotency_key": key}),
    ):
        assert (await api.call(method, path, body))[0] == 503, path
    for path in ("/readyz", "/api/health", "/api/worker/pools"):
        await api.ok("GET", path)
    async with asyncio.timeout(10):
        while '"database":"shard-2","state":"unreachable"' not in site.server.log_text():  # noqa: ASYNC110 (its log)
            await asyncio.sleep(0.1)
    begun = {await site.start("shards/child") for _ in range(20)}  # on the shards that are there
    assert {shard_for(one, SHARDS) for one in begun} == {0, 1}
    await site.finished(site.urls[:AWAY])
    await site.relay.mend()
    await site.finished()
    stop.set()
    await running
    assert (await api.ok("GET", f"/api/executions/{there}/status"))["status"] == "COMPLETED"
    assert await misplaced(site.urls) == []
