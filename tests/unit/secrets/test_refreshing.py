"""Renewals in the background: once per key, bounded, and whatever goes wrong in one harms no other."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from noetl.errors import InternalError
from noetl.observability.metrics import Metrics
from noetl.secrets.refreshing import AT_ONCE, WAITING, Refresher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


@asynccontextmanager
async def running(refresher: Refresher) -> AsyncIterator[None]:
    task = asyncio.create_task(refresher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def outcomes(metrics: Metrics) -> dict[str, float]:
    names = ("triggered", "stampede_collapsed", "succeeded", "failed")
    return {name: metrics.secret_refreshes.labels(name).current() for name in names}


async def test_a_key_is_renewed_once_at_a_time() -> None:
    metrics = Metrics("test")
    refresher = Refresher(metrics)
    gate, renewed = asyncio.Event(), []

    async def renew() -> None:
        await gate.wait()
        renewed.append(1)

    async with running(refresher):
        for _ in range(5):
            refresher.trigger("k", renew)
        gate.set()
        await refresher.settle()
        assert len(renewed) == 1
        refresher.trigger("k", renew)
        await refresher.settle()
    assert outcomes(metrics) == {"triggered": 6, "stampede_collapsed": 4, "succeeded": 2, "failed": 0}


async def test_few_run_at_once_and_a_bounded_number_waits() -> None:
    metrics = Metrics("test")
    refresher = Refresher(metrics)
    running_now, most = 0, 0

    async def renew() -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0)
        running_now -= 1

    for number in range(WAITING + 50):
        refresher.trigger(str(number), renew)
    async with running(refresher):
        await refresher.settle()
    assert most == AT_ONCE
    assert outcomes(metrics)["succeeded"] == WAITING
    assert outcomes(metrics)["stampede_collapsed"] == 50


async def test_failures_end_neither_the_others_nor_the_refresher(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics("test")
    refresher = Refresher(metrics)

    async def refuse() -> None:
        raise InternalError("vault: HTTP 403")

    async def break_down() -> None:
        raise RuntimeError("hunter2")

    async def renew() -> None:
        pass

    with caplog.at_level(logging.DEBUG, "noetl"):
        async with running(refresher):
            for number in range(AT_ONCE):
                refresher.trigger(f"refused {number}", refuse)
                refresher.trigger(f"broken {number}", break_down)
            refresher.trigger("good", renew)
            await refresher.settle()
    assert outcomes(metrics)["failed"] == 2 * AT_ONCE
    assert outcomes(metrics)["succeeded"] == 1
    assert all("hunter2" not in f"{vars(record)}" for record in caplog.records)


async def test_a_cancelled_renewal_frees_its_key() -> None:
    metrics = Metrics("test")
    refresher = Refresher(metrics)
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def renew() -> None:
        pass

    async with running(refresher):
        refresher.trigger("k", hang)
        await begun.wait()
    async with running(refresher):
        refresher.trigger("k", renew)
        await refresher.settle()
    assert outcomes(metrics)["succeeded"] == 1
