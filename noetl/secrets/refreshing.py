"""Renewing kept secrets before they end, while readers still get the old ones (spec 40, section 9.3)."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from noetl.errors import NoetlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noetl.observability.metrics import Metrics

log = logging.getLogger("noetl.secrets")

WAITING: Final = 200
AT_ONCE: Final = 4


class Refresher:
    """Runs renewals in the background, each key once at a time.

    At most ``WAITING`` wait and ``AT_ONCE`` run; one more is left to the next reader. A renewal that fails leaves the
    kept value as it is.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._queue: asyncio.Queue[tuple[str, Callable[[], Awaitable[object]]]] = asyncio.Queue(WAITING)
        self._under_way: set[str] = set()

    def trigger(self, key: str, renew: Callable[[], Awaitable[object]]) -> None:
        """Have the value under ``key`` renewed, unless that is under way."""
        count = self._metrics.secret_refreshes
        count.labels("triggered").inc()
        if key in self._under_way or self._queue.full():
            count.labels("stampede_collapsed").inc()
            return
        self._under_way.add(key)
        self._queue.put_nowait((key, renew))

    async def run(self) -> None:
        """Renew until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def settle(self) -> None:
        """Wait until everything that was triggered is done."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            key, renew = await self._queue.get()
            begin = monotonic()
            outcome = "failed"
            try:
                await renew()
                outcome = "succeeded"
            except NoetlError as error:
                log.warning("A kept secret cannot be renewed", extra={"error": error.message})
            except Exception as error:
                # Its text is not known to be free of secrets.
                log.error("Renewal of a kept secret broke", extra={"error": type(error).__name__})
            finally:
                self._under_way.discard(key)
                self._metrics.secret_refreshes.labels(outcome).inc()
                self._metrics.secret_refresh_seconds.observe(monotonic() - begin)
                self._queue.task_done()
