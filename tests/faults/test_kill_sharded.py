"""`kill -9` of servers under load on three shards: what must hold of one log holds of each."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import open_check, unfinished
from tests.faults.history import History
from tests.faults.site import QUICK
from tests.faults.test_kill import EXECUTIONS, SEED
from tests.faults.wire import Client
from tests.faults.worker import Crew, Habits
from tests.faults.workflows import MIXED
from tests.integration.shard_site import broken_rules, dsn, executions_of, misplaced

if TYPE_CHECKING:
    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeDatabase, MakeServer
    from tests.faults.workflows import Workflow

pytestmark = pytest.mark.faults

KILLS = 4
PLAIN = MIXED[:4]
"""Without children: those may be on another shard, and the rules look at one."""


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
    for workflow in PLAIN:
        assert (await client.insist("POST", "/api/catalog/register", {"content": workflow.text}))[0] == 200
    plans: dict[int, Workflow] = {}

    async def load() -> None:
        for number in range(EXECUTIONS):
            workflow = PLAIN[number % len(PLAIN)]
            body = {"path": workflow.path, "payload": {}, "idempotency_key": f"sharded-{number}"}
            status, answer = await client.insist("POST", "/api/execute", body)
            assert status == 200, answer
            plans[int(answer["execution_id"])] = workflow

    async with Crew(
        addresses, nats.url, slots=8, habits=Habits(repeats=0.1, hangs_up=0.1), seed=SEED, name="sharded"
    ) as crew:
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
    assert await misplaced(urls) == []
    assert await broken_rules(urls) == {}
    per_shard = await executions_of(urls)
    assert set[int]().union(*per_shard) == set(plans), "each key started one execution"
    for url, executions in zip(urls, per_shard, strict=True):
        told = History(
            events={pair for pair in crew.history.events if pair[0] in executions},
            claims={claim for claim in crew.history.claims if claim[0] in executions},
            refusals=crew.history.refusals,
        )
        async with open_check(url) as check:
            await check.history(told)
            await check.models({one: plans[one] for one in executions})
        assert check.broken == {}
