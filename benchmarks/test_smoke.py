"""The published claim in a short form, with the whole gate: see `benchmarks.smoke`."""

from __future__ import annotations

import os

import pytest

from benchmarks.load.servers import open_servers
from benchmarks.smoke import failures, smoke

pytestmark = pytest.mark.benchmark(group="smoke")

REQUESTS = 10_000


async def test_a_thousand_events_a_second_at_a_p95_below_100_ms() -> None:
    async with open_servers(None, cpus=(min(os.sched_getaffinity(0)),)) as (target,):
        row = (await smoke(target, REQUESTS)).row("smoke", target.name)
    assert not failures(row, REQUESTS)
