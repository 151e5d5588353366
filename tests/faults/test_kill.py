"""`kill -9` of servers, NATS and PostgreSQL in the middle of a mixed load, with workers that are no better."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.site import (
    empty_nats,
    kill_everything,
    kill_nats,
    kill_postgres,
    kill_server,
    open_site,
)
from tests.faults.worker import CARELESS, Crew, Habits
from tests.faults.workflows import MIXED, Workflow, loop, random_workflow, workflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.conftest import MakePostgres, MakeServer
    from tests.faults.site import Site

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("NOETL_FAULT_ROUNDS", "1"))
EXECUTIONS = int(os.environ.get("NOETL_FAULT_EXECUTIONS", "12"))
BACKLOG = int(os.environ.get("NOETL_FAULT_BACKLOG", "1500"))
KILLS = int(os.environ.get("NOETL_FAULT_KILLS", "3"))
SEED = int(os.environ.get("NOETL_FAULT_SEED", "0")) or random.randrange(2**32)
FAULTS = {
    "server": kill_server,
    "nats": kill_nats,
    "empty-nats": empty_nats,
    "postgres": kill_postgres,
    "everything": kill_everything,
}


@pytest.fixture
async def site(
    make_postgres: MakePostgres, make_server: MakeServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    async with open_site(make_postgres, make_server, tmp_path_factory.mktemp("nats")) as opened:
        yield opened


async def load(site: Site, workflows: Sequence[Workflow], round_number: int) -> None:
    """Start executions of all kinds, one after the other, each exactly once."""
    async with asyncio.TaskGroup() as group:
        for number in range(EXECUTIONS):
            workflow = workflows[number % len(workflows)]
            group.create_task(site.start(workflow, f"round-{round_number}-{number}"))
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_nothing_is_lost_or_done_twice(site: Site, fault: Any) -> None:
    chance = random.Random(SEED)
    async with Crew(site.urls, site.nats.url, slots=12, habits=CARELESS, seed=SEED) as crew:
        for round_number in range(ROUNDS):
            others = [random_workflow(chance, f"faults/random/{round_number}/{number}") for number in range(4)]
            workflows = [*MIXED, *others]
            await site.register(workflows)
            loading = asyncio.create_task(load(site, workflows, round_number))
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                await fault(site)
            await loading
            await site.finished(crew)
            await site.prove(crew)


@pytest.mark.slow
async def test_workers_that_die_or_come_late_hold_nobody_up(site: Site) -> None:
    """I2, and the late results of those that were only slow."""
    habits = Habits(repeats=0.1, forgets=0.15, comes_late=0.1, late_seconds=12)
    await site.register(MIXED)
    async with Crew(site.urls, site.nats.url, slots=24, habits=habits, seed=SEED) as crew:
        await load(site, MIXED, 0)
        await site.finished(crew)
        await site.prove(crew, nobody_is_late=False)


@pytest.mark.slow
async def test_start_after_a_crash_resumes_everything_without_help(site: Site) -> None:
    """I22, I23: commands that nobody heard of, that were claimed by workers which died too, and that are half done."""
    await site.register(MIXED)
    async with Crew(site.urls, site.nats.url, slots=6, habits=Habits(forgets=0.3), name="dead", seed=SEED) as dead:
        await load(site, MIXED, 0)
        async with asyncio.timeout(60):
            while dead.done < 2 * EXECUTIONS:  # noqa: ASYNC110 (counted by tasks of the crew)
                await asyncio.sleep(0.01)
        await asyncio.gather(*(server.kill() for server in site.servers), site.nats.kill(), site.postgres.kill())
    shutil.rmtree(site.nats.data_directory / "jetstream")
    await asyncio.gather(site.nats.start(), site.postgres.start())
    await site.servers[0].start()
    async with Crew([site.servers[0].url], site.nats.url, slots=6) as crew:
        await site.finished(crew)
        crew.acknowledged |= dead.acknowledged
        await site.prove(crew, nobody_is_late=False)


async def test_backlog_is_announced_hardly_more_than_once(site: Site) -> None:
    """I5: far more commands than two workers can take before the sweep looks at them."""
    large = workflow(
        "faults/backlog",
        [{"step": "start", "next": "many"}, {"step": "many", "loop": loop(BACKLOG), "next": "end"}, {"step": "end"}],
        {"start": 1, "many": BACKLOG, "end": 1},
    )
    await site.register([large])
    async with Crew(site.urls, site.nats.url, slots=2) as crew:
        begin = time.monotonic()
        await site.start(large, "backlog")
        await site.finished(crew, within_seconds=BACKLOG / 10)
        assert time.monotonic() - begin > 2, "no command waited for long enough to be looked at"
        await site.prove(crew)
        assert sum(crew.heard.values()) <= 1.1 * len(crew.heard)
