"""The dashboard's routes: totals, trend, recent executions (spec 10, section 12, fix 19)."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from noetl.http.ids import JsonIds
from noetl.http.responses import json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import date

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.dashboard import Totals
    from noetl.store.executions import ExecutionRow

T = TypeVar("T")

CACHE_SECONDS: Final = 5.0
RECENT_EXECUTIONS: Final = 10


class Statistics(Protocol):
    """What these routes need of the dashboard's store."""

    async def totals(self) -> Totals: ...
    async def trend(self) -> list[tuple[date, int]]: ...


class Executions(Protocol):
    """What these routes need of the executions' store."""

    async def page(self, *, limit: int) -> list[ExecutionRow]: ...


class DashboardRoutes:
    """Numbers for the first page of the user interface, at most five seconds old."""

    def __init__(self, statistics: Statistics, executions: Executions, ids: JsonIds | None = None) -> None:
        self._ids = JsonIds() if ids is None else ids
        self._recent = Cached(lambda: executions.page(limit=RECENT_EXECUTIONS))
        self._trend = Cached(statistics.trend)
        self._totals = Cached(statistics.totals)

    def register(self, application: HttpApplication) -> None:
        """Add the routes."""
        application.add_route("GET", "/api/dashboard/stats", self.stats)
        application.add_route("GET", "/api/dashboard/widgets", self.widgets)

    async def stats(self, _request: Request) -> Response:
        """Numbers of executions, playbooks and workers."""
        await self._recent.value()  # the list also takes in what other servers started or ended
        totals = await self._totals.value()
        return json_response(
            {
                "status": "ok",
                "stats": {
                    "total_executions": totals.executions,
                    "successful_executions": totals.completed,
                    "failed_executions": totals.failed,
                    "cancelled_executions": totals.cancelled,
                    "running_executions": totals.running,
                    "total_playbooks": totals.playbooks,
                    "total_workers": totals.workers,
                },
            }
        )

    async def widgets(self, request: Request) -> Response:
        """Executions per day, and the newest ones."""
        write_id = self._ids.of(request)
        recent: Sequence[ExecutionRow] = await self._recent.value()
        trend = await self._trend.value()
        return json_response(
            {
                "widgets": [
                    {
                        "id": "execution-trend",
                        "type": "chart",
                        "title": "Execution Trend (7 days)",
                        "config": {"chart_type": "line", "time_range": "7d"},
                        "data": [{"count": count, "date": day.isoformat()} for day, count in trend],
                    },
                    {
                        "id": "recent-executions",
                        "type": "table",
                        "title": "Recent Executions",
                        "config": {"columns": ["execution_id", "path", "status"]},
                        "data": [
                            {"execution_id": write_id(row.execution_id), "path": row.path, "status": row.status}
                            for row in recent
                        ],
                    },
                ]
            }
        )


class Cached(Generic[T]):
    """A value that is fetched again when it is older than `CACHE_SECONDS`; who comes meanwhile waits for it."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], clock: Callable[[], float] = monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._kept: tuple[float, T] | None = None

    async def value(self) -> T:
        """The value; what the fetch raises goes to the caller and is not kept."""
        async with self._lock:
            now = self._clock()
            if self._kept is None or now - self._kept[0] >= CACHE_SECONDS:
                self._kept = (now, await self._fetch())
            return self._kept[1]
