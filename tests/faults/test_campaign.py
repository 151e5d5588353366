"""The fault campaign in a short form; `python -m tests.faults` runs the long one."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.campaign import Campaign

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("NOETL_FAULT_ROUNDS", "4"))
SEED = int(os.environ.get("NOETL_FAULT_SEED", "0")) or random.randrange(2**32)
QUICK_FAULTS = (
    "server-kill",
    "nats-kill",
    "nats-empty",
    "postgres-kill",
    "postgres-backends",
    "everything-kill",
    "link-cut",
    "link-half-close",
    "link-hole",
)
"""Those that heal within a second or two."""


async def test_nothing_is_lost_or_done_twice() -> None:
    campaign = Campaign(seed=SEED, faults=QUICK_FAULTS, executions=8, strikes=2)
    assert await campaign.run(range(1, 1 + ROUNDS)), f"seed {SEED}"
