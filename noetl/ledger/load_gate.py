"""How many execution states are rebuilt at once: bounded by count and by what they hold (promise P5)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class LoadGate:
    """Admits ``parallel`` loads; while they hold more than ``budget`` bytes only the oldest goes on."""

    def __init__(self, parallel: int, budget: int) -> None:
        self._slots = asyncio.Semaphore(parallel)
        self._budget = budget
        self._held: dict[int, int] = {}
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def enter(self, execution_id: int) -> AsyncGenerator[None]:
        """Wait for a place and keep it for the time of the block."""
        async with self._slots:
            self._held[execution_id] = 0
            try:
                yield
            finally:
                del self._held[execution_id]
                self._changed.set()

    async def hold(self, execution_id: int, size: int) -> None:
        """Tell what the load holds by now, in bytes, and wait until it may read on."""
        self._held[execution_id] = size
        while sum(self._held.values()) > self._budget and next(iter(self._held)) != execution_id:
            self._changed.clear()
            await self._changed.wait()
