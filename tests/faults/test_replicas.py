"""Two replicas on one database: one of them sweeps, and either may take any event."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.faults.checker import query
from tests.faults.faults import LEASE_SECONDS
from tests.faults.site import open_site
from tests.faults.wire import AlternatingClient
from tests.faults.worker import Crew
from tests.faults.workflows import parallel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.site import Site

pytestmark = pytest.mark.faults

TICK_SECONDS = 1.0
SLACK_SECONDS = 2.0


@pytest.fixture(scope="module")
async def site() -> AsyncIterator[Site]:
    async with open_site(servers=2) as opened:
        yield opened


async def holder(site: Site) -> str | None:
    """Who does the periodic work at the moment."""
    rows = await query(site.database_url, "SELECT holder FROM noetl.server_lease WHERE expires_at > now()")
    return rows[0][0] if rows else None


async def another_holder(site: Site, than: str | None, within_seconds: float) -> str:
    """Wait until somebody else does the periodic work."""
    async with asyncio.timeout(within_seconds):
        while (found := await holder(site)) in (than, None):  # noqa: ASYNC110 (only the database knows)
            await asyncio.sleep(0.05)
    assert found is not None
    return found


async def test_periodic_work_moves_within_its_lease_when_the_holder_is_killed(site: Site) -> None:
    """I12."""
    first = await another_holder(site, None, 10)
    place = next(number for number in range(2) if first.startswith(f"server-{number}"))
    await site.servers[place].kill()
    begin = time.monotonic()
    second = await another_holder(site, first, LEASE_SECONDS + TICK_SECONDS + SLACK_SECONDS)
    assert second.startswith(f"server-{1 - place}")
    print(f"the lease moved after {time.monotonic() - begin:.1f} s")
    await site.servers[place].start()


async def test_periodic_work_moves_at_once_when_the_holder_stops_in_order(site: Site) -> None:
    first = await another_holder(site, None, 10)
    place = next(number for number in range(2) if first.startswith(f"server-{number}"))
    await site.servers[place].stop()
    await another_holder(site, first, TICK_SECONDS + SLACK_SECONDS)
    await site.servers[place].start()


async def test_completions_of_one_execution_may_come_through_either_replica(site: Site) -> None:
    """I20: workers that go to another replica with every request."""
    workflow = parallel("faults/either", 100)
    await site.register([workflow])
    async with Crew(site.urls, site.nats_url, slots=8, client=AlternatingClient) as crew:
        await site.start(workflow, "either")
        await site.finished(crew)
    await site.prove(crew.history)
