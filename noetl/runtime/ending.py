"""Ending tasks for certain: a cancellation can get lost in a client that catches it while it loses its connection."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("noetl.app")

CANCELLATIONS: Final = 5


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], *, pause_seconds: float = 1.0) -> None:
    """Cancel tasks, again after a pause those that go on, and return when all have ended or after `CANCELLATIONS`."""
    running = {task for task in tasks if not task.done()}
    for _ in range(CANCELLATIONS):
        for task in running:
            task.cancel()
        if running:
            _, running = await asyncio.wait(running, timeout=pause_seconds)
    if running:
        log.warning("Tasks go on at shutdown", extra={"tasks": sorted(task.get_name() for task in running)})
