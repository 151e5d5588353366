"""Bounds what large bodies hold in memory together: a queue in front of a number of bytes (promise P5)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from noetl.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class LargeTransfers:
    """Lets transfers in, in order of arrival, while they have at most ``capacity`` bytes together.

    One that is larger than that is let in alone. Who waits longer than ``wait_seconds`` is told to come again.
    """

    def __init__(self, capacity: int, wait_seconds: float = 10.0) -> None:
        self._capacity = capacity
        self._wait_seconds = wait_seconds
        self._used = 0
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()

    @asynccontextmanager
    async def admitted(self, size: int) -> AsyncGenerator[None]:
        """Hold ``size`` bytes of the capacity for the time of the block.

        Raises:
            OverloadedError: there was no room in time.
        """
        try:
            async with asyncio.timeout(self._wait_seconds), self._turn:
                while self._used and self._used + size > self._capacity:
                    self._left.clear()
                    await self._left.wait()
                self._used += size
        except TimeoutError:
            raise OverloadedError("Too many large transfers in flight") from None
        try:
            yield
        finally:
            self._used -= size
            self._left.set()
