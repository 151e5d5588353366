"""`kill -9` of servers under load on three shards: what must hold of one log holds of each."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import differing_plans, not_stored_once, unfinished
from tests.faults.site import QUICK
from tests.faults.test_kill import EXECUTIONS, KILLS, SEED
from tests.faults.wire import Client
from tests.faults.worker import CARELESS, Crew
from tests.faults.workflows import MIXED
from tests.integration.shard_site import broken_rules, dsn, executions_of, misplaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeDatabase, MakeServer

pytestmark = pytest.mark.faults


async def test_servers_that_are_killed_lose_nothing_on_any_shard(
    make_database: MakeDatabase, schema_template: str, make_server: MakeServer, nats: EmbeddedNats
) -> None:
    chance = random.Random(SEED)
    urls = [await make_database(schema_template) for _ in range(3)]
    shards = {"NOETL_SHARDS": ",".join(map(dsn, urls)), "POSTGRES_MAX_CONNECTIONS": "5", **QUICK}
    servers = [
        await make_server({**shards, "NOETL_SERVER_MACHINE_ID": str(number), "NOETL_SERVER_NAME": f"server-{number}"})
        for number in range(2)
    ]
    addresses = [server.url for server in servers]
    client = Client(addresses)
    for workflow in MIXED:
        assert (await client.insist("POST", "/api/catalog/register", {"content": workflow.text}))[0] == 200
    plans: dict[int, Mapping[str, int]] = {}

    async def load() -> None:
        for number in range(EXECUTIONS):
            workflow = MIXED[number % len(MIXED)]
            body = {"path": workflow.path, "payload": {}, "idempotency_key": f"sharded-{number}"}
            status, answer = await client.insist("POST", "/api/execute", body)
            assert status == 200, answer
            plans[int(answer["execution_id"])] = workflow.expected

    async with Crew(addresses, nats.url, slots=8, habits=CARELESS, seed=SEED, name="sharded") as crew:
        loading = asyncio.create_task(load())
        for turn in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            await servers[turn % 2].kill()
            await servers[turn % 2].start()
        await loading
        async with asyncio.timeout(120):
            while sum([await unfinished(url) for url in urls]):
                assert crew.failure() is None
                await asyncio.sleep(0.2)
    client.close()
    assert crew.refused == []
    assert await misplaced(urls) == []
    assert await broken_rules(urls) == {}
    per_shard = await executions_of(urls)
    assert set[int]().union(*per_shard) == set(plans), "each key started one execution"
    for url, executions in zip(urls, per_shard, strict=True):
        assert await differing_plans(url, {one: plans[one] for one in executions}) == {}
        acknowledged = {pair for pair in crew.acknowledged if int(pair[0]) in executions}
        assert await not_stored_once(url, acknowledged) == []
