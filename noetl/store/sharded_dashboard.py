"""The dashboard's numbers over several databases: executions are added up, the rest is the cluster database's."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from noetl.store.dashboard import DashboardStore, Totals
from noetl.store.shards import on_each

if TYPE_CHECKING:
    from datetime import date

    from noetl.store.shards import Shards


class ShardedDashboard:
    """The methods of `DashboardStore`; they fail when one shard does, because a sum without it would be wrong."""

    def __init__(self, shards: Shards) -> None:
        self._cluster = DashboardStore(shards.cluster)
        self._stores = [DashboardStore(database) for database in shards.shards]

    async def totals(self) -> Totals:
        """The present numbers."""
        parts = await on_each(self._stores, DashboardStore.totals)
        shared = await self._cluster.totals()
        return Totals(
            running=sum(part.running for part in parts),
            completed=sum(part.completed for part in parts),
            failed=sum(part.failed for part in parts),
            cancelled=sum(part.cancelled for part in parts),
            playbooks=shared.playbooks,
            workers=shared.workers,
        )

    async def trend(self) -> list[tuple[date, int]]:
        """Executions started on each of the last seven days that had any, ascending."""
        days: Counter[date] = Counter()
        for part in await on_each(self._stores, DashboardStore.trend):
            days.update(dict(part))
        return sorted(days.items())
