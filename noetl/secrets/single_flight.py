"""Work that several callers want at the same time is done once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

K = TypeVar("K")
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Callers with one key share one piece of work, its result or its failure.

    The work goes on when a caller is cancelled, for the others and for what it leaves in caches; it must have time
    limits of its own.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, work: Callable[[], Coroutine[None, None, V]]) -> V:
        """The result of ``work``, or of the same work that is under way."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda _done: self._tasks.pop(key))
        return await asyncio.shield(task)
