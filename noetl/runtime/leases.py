"""Holding a lease while periodic work runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from noetl.errors import NoetlError

if TYPE_CHECKING:
    from noetl.store.leases import LeaseStore


class Lease:
    """One named lease of this process. ``seconds`` is how long the work stands still when its holder dies."""

    def __init__(self, store: LeaseStore, name: str, holder: str, seconds: float) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        self.seconds = seconds

    async def hold(self) -> bool:
        """Take or prolong the lease; True while this process is the holder."""
        return await self._store.acquire(self._name, self._holder, self.seconds)

    async def release(self) -> None:
        """Give it back at shut-down; a failure only means that the next holder waits for its end."""
        try:
            async with asyncio.timeout(1):
                await self._store.release(self._name, self._holder)
        except (NoetlError, TimeoutError):
            return
