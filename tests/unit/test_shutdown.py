"""A server that stops ends what it runs, also what is slow or deaf."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from noetl.runtime.ending import CANCELLATIONS, end_tasks
from noetl.server import Server

if TYPE_CHECKING:
    import pytest


async def deaf(cancellations: int) -> None:
    """Goes on after so many cancellations."""
    for _ in range(cancellations):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def test_tasks_that_lose_a_cancellation_are_cancelled_again() -> None:
    tasks = [asyncio.create_task(deaf(number)) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks(tasks, pause_seconds=0.01), 5)
    assert all(task.cancelled() for task in tasks)


async def test_a_task_that_cannot_be_ended_is_named(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(deaf(CANCELLATIONS), name="deaf")
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task], pause_seconds=0.01), 5)
    assert [cast("Any", record).tasks for record in caplog.records] == [["deaf"]]
    task.cancel()


async def test_lanes_end_although_the_ledger_does_not_close_in_time() -> None:
    async def nothing(*_: object) -> None:
        return

    server = SimpleNamespace(
        health=SimpleNamespace(phase=None),
        application=SimpleNamespace(begin_drain=lambda: None),
        _settings=SimpleNamespace(http=SimpleNamespace(shutdown_delay_seconds=0, shutdown_timeout_seconds=0.01)),
        ledger=SimpleNamespace(close=asyncio.Event().wait, waiting=1),
        _announcer=None,
        _secret_audit=SimpleNamespace(flush=nothing),
        _mark_own_row_offline=nothing,
        _tracing=None,
    )
    http, lanes = asyncio.create_task(nothing()), asyncio.create_task(asyncio.Event().wait())
    stopping = Server._stop(cast("Server", server), cast("Any", SimpleNamespace()), http, cast("Any", lanes), [])
    await asyncio.wait_for(stopping, 5)
    await asyncio.wait([lanes], timeout=5)
    assert lanes.cancelled()
