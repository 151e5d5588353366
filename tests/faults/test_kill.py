"""Workers that die or come late, a crash of everything at once, and a backlog; the rest is the campaign's."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.site import open_site
from tests.faults.worker import Crew, Habits
from tests.faults.workflows import MIXED, Workflow, parallel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.faults.site import Site

pytestmark = pytest.mark.faults

EXECUTIONS = int(os.environ.get("NOETL_FAULT_EXECUTIONS", "12"))
BACKLOG = int(os.environ.get("NOETL_FAULT_BACKLOG", "1500"))
SEED = int(os.environ.get("NOETL_FAULT_SEED", "0")) or random.randrange(2**32)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with open_site() as opened:
        yield opened


async def load(site: Site, workflows: Sequence[Workflow], round_number: int) -> None:
    """Start executions of all kinds, one after the other, each exactly once."""
    async with asyncio.TaskGroup() as group:
        for number in range(EXECUTIONS):
            workflow = workflows[number % len(workflows)]
            group.create_task(site.start(workflow, f"round-{round_number}-{number}"))
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_workers_that_die_or_come_late_hold_nobody_up(site: Site) -> None:
    """I2, and the late results of those that were only slow."""
    habits = Habits(repeats=0.1, forgets=0.15, comes_late=0.1, late_seconds=12)
    await site.register(MIXED[:4])
    async with Crew(site.urls, site.nats_url, slots=24, habits=habits, seed=SEED) as crew:
        await load(site, MIXED[:4], 0)
        await site.finished(crew)
        await site.prove(crew.history, nobody_is_late=False)


@pytest.mark.slow
async def test_start_after_a_crash_resumes_everything_without_help(site: Site) -> None:
    """I22, I23: commands that nobody heard of, that were claimed by workers which died too, and that are half done."""
    await site.register(MIXED[:4])
    habits = Habits(forgets=0.3)
    async with Crew(site.urls, site.nats_url, slots=6, habits=habits, name="dead", pool="crew", seed=SEED) as dead:
        await load(site, MIXED[:4], 0)
        async with asyncio.timeout(60):
            while dead.done < 2 * EXECUTIONS:  # noqa: ASYNC110 (counted by tasks of the crew)
                await asyncio.sleep(0.01)
        await asyncio.gather(*(server.kill() for server in site.servers), site.nats.kill(), site.postgres.kill())
    shutil.rmtree(site.nats.data_directory / "jetstream")
    await asyncio.gather(site.nats.start(), site.postgres.start())
    await site.servers[0].start()
    async with Crew(site.urls[:1], site.nats_url, slots=6) as crew:
        await site.finished(crew)
        crew.history.events |= dead.history.events
        await site.prove(crew.history, nobody_is_late=False)


async def test_backlog_is_announced_hardly_more_than_once(site: Site) -> None:
    """I5: far more commands than two workers can take before the sweep looks at them."""
    large = parallel("faults/backlog", BACKLOG)
    await site.register([large])
    async with Crew(site.urls, site.nats_url, slots=2) as crew:
        begin = time.monotonic()
        await site.start(large, "backlog")
        await site.finished(crew, within_seconds=BACKLOG / 10)
        assert time.monotonic() - begin > 2, "no command waited for long enough to be looked at"
        await site.prove(crew.history)
        print(f"{sum(crew.heard.values())} notifications of {len(crew.heard)} commands")
        assert sum(crew.heard.values()) <= 1.1 * len(crew.heard)
