"""Renews kept secrets whose entry says ``auto_renew``, so that no reader ever waits for the provider."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from noetl.secrets.keychain_rules import place_of
from noetl.store.execution_starts import ExecutionStart

if TYPE_CHECKING:
    from noetl.secrets.refreshing import Refresher
    from noetl.secrets.resolver import KeychainResolver
    from noetl.store.execution_starts import ExecutionStartStore
    from noetl.store.keychain import EndingRow, KeychainStore

USED_WITHIN: Final = timedelta(hours=1)
"""What nobody has read for longer is not renewed; its next reader resolves it anew."""
AT_ONCE: Final = 100


class KeychainRenewal:
    """Finds rows that end within ``window_seconds`` and has them renewed in the background."""

    def __init__(
        self,
        keychain: KeychainStore,
        starts: ExecutionStartStore,
        resolver: KeychainResolver,
        refresher: Refresher,
        window_seconds: float,
    ) -> None:
        self._keychain = keychain
        self._starts = starts
        self._resolver = resolver
        self._refresher = refresher
        self._window = timedelta(seconds=window_seconds)

    async def sweep(self) -> None:
        """One round, for a periodic job; returns before the renewals have ended."""
        for row in await self._keychain.ending(self._window, USED_WITHIN, AT_ONCE):
            await self._renew(row)

    async def _renew(self, row: EndingRow) -> None:
        entry = await self._resolver.entry(row.catalog_id, row.keychain_name)
        if entry is None or not entry.provider or not entry.auto_renew:
            return  # a client's, who renews it
        start = await self._start(row)
        if start is not None and place_of(entry, start).key == row.cache_key:
            self._refresher.trigger(row.cache_key, lambda: self._resolver.renew(entry, start))

    async def _start(self, row: EndingRow) -> ExecutionStart | None:
        if row.scope_type == "local":
            return None if row.execution_id is None else await self._starts.find(row.execution_id)
        # A value that executions share has no template in its references, and needs no workload.
        return ExecutionStart(
            execution_id=row.execution_id or 0, catalog_id=row.catalog_id, parent_execution_id=None, workload=None
        )
