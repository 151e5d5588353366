"""What waits for the lanes: as few and as large batches as arrivals allow, and no execution in two at once.

A batch costs PostgreSQL and us the time of ten rows, whatever its size. So one lane takes all that has arrived, and
another starts only when that one is slow: its execution is held by another process, the database is far away. Work of
an execution that is in a running batch waits for its end, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final

from noetl.errors import OverloadedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.ledger.lane import Lane
    from noetl.ledger.work import Work

ARRIVAL_TURNS: Final = 3
"""Turns of the event loop from the bytes of a request to its place in the queue: reading, handler, submission."""
GATHER_SECONDS: Final = 0.002
"""Longest time to let work join a batch."""
ENOUGH: Final = 1 / 3
"""Part of those that may be under way (in the batch that has just ended, and waiting) that is enough for a batch. With
all of them clients and database would work in turn; so one works while the other does."""
PACE_WEIGHT: Final = 0.1
"""Weight of a batch that was slower than others in what the queue knows of its pace."""
FASTER_WEIGHT: Final = 0.5
"""Weight of one that was faster: a bad time is soon forgotten."""
PACE_SECONDS: Final = 10.0
"""For so long after the last batch that told it the pace is held to be known."""
LARGE: Final = 1 / 16
"""Part of the largest batch from which on one tells the pace: a small one is all beginning."""
PATIENCE_SECONDS: Final = 0.025
"""How long what waits leaves the database to the batches that run."""


class WorkQueue:
    """The queue in front of the lanes of one database.

    Args:
        lanes: the writers, in order of preference.
        limit: work that may wait; more is refused (promise P5).
        seconds: how long work should have to wait at most.
        batch_limit: work in one batch.
    """

    def __init__(self, lanes: Sequence[Lane], *, limit: int, seconds: float, batch_limit: int) -> None:
        self._lanes = lanes
        self._limit = limit
        self._seconds = seconds
        self._pace = 0.0
        """Seconds from one operation to the next while there is always work, by experience."""
        self._paced_at = 0.0
        self._last_end: float | None = None
        """When the last batch ended, if work has been waiting ever since."""
        self._batch_limit = batch_limit
        self._queue: deque[Work] = deque()
        self._parked: dict[int, deque[Work]] = {}
        """Work of the executions that are in a running batch."""
        self._parked_count = 0
        self._running: dict[Lane, float] = {}
        """When each busy lane began its batch."""
        self._changed = asyncio.Event()
        self._closing = False
        self._last_size = 0
        """Work in the batch that ended last."""

    @property
    def depth(self) -> int:
        """Amount of work that waits."""
        return len(self._queue) + self._parked_count

    @property
    def room(self) -> int:
        """How much work is done in the time that one operation may wait: at least a batch, at most the limit.

        What a batch costs depends on what is in it and on the database, by a factor of a hundred, so a number of
        requests says little about how long the last of them has to wait.
        """
        if self._pace * self._limit <= self._seconds or perf_counter() > self._paced_at + PACE_SECONDS:
            return self._limit
        return min(self._limit, max(self._batch_limit, int(self._seconds / self._pace)))

    def _learn(self, done: int) -> None:
        """A batch has ended: if work had been waiting since the one before, and it was large, it tells the pace."""
        now = perf_counter()
        if self._last_end is not None and done >= LARGE * self._batch_limit:
            change = (now - self._last_end) / done - self._pace
            weight = FASTER_WEIGHT if change < 0 else PACE_WEIGHT if self._pace else 1.0
            self._pace += weight * change
            self._paced_at = now
        self._last_end = now if self._queue else None

    def submit(self, work: Work) -> None:
        """Queue an operation; its future gets the reply after the commit.

        Raises:
            OverloadedError: the queue is full.
        """
        if self.depth >= self._limit:
            raise OverloadedError("The server is overloaded, try again", detail="lane queue is full")
        work.enqueued_at = perf_counter()
        self._queue.append(work)
        self._changed.set()

    def close(self) -> None:
        """Let `run` return once nothing waits."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        """Feed the lanes until `close`; then finish what waits and return."""
        try:
            async with asyncio.TaskGroup() as batches:
                while self._queue or self._running or not self._closing:
                    lane = self._lane_for_next()
                    if lane is None:
                        await self._change()
                        continue
                    await self._gather()
                    batch = self._next_batch()
                    if batch:
                        self._running[lane] = perf_counter()
                        batches.create_task(self._process(lane, batch))
                    elif not self._running:
                        self._last_end = None
        finally:
            for lane in self._lanes:
                await lane.close()

    def _lane_for_next(self) -> Lane | None:
        """A free lane, if something waits and every running batch has had its time."""
        if not self._queue or self._pause() > 0:
            return None
        return next((lane for lane in self._lanes if lane not in self._running), None)

    def _pause(self) -> float:
        """Seconds until the youngest running batch has had its time; 0 when none runs."""
        if not self._running:
            return 0.0
        return max(0.0, max(self._running.values()) + PATIENCE_SECONDS - perf_counter())

    async def _change(self) -> None:
        """Wait until work arrives, a batch ends, or a running batch has had its time while something waits."""
        self._changed.clear()
        is_lane_free = len(self._running) < len(self._lanes)
        try:
            async with asyncio.timeout(self._pause() if self._queue and self._running and is_lane_free else None):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _gather(self) -> None:
        """Let work join whose requests have reached us already. With nothing on its way this takes microseconds."""
        end = perf_counter() + GATHER_SECONDS
        waiting, quiet_turns = len(self._queue), 0
        enough = min(self._batch_limit, ENOUGH * (self._last_size + waiting))
        while quiet_turns < ARRIVAL_TURNS and waiting < enough and perf_counter() < end:
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if len(self._queue) == waiting else 0
            waiting = len(self._queue)

    def _next_batch(self) -> list[Work]:
        batch: list[Work] = []
        queue = self._queue
        while queue and len(batch) < self._batch_limit:
            if batch and queue[0].is_alone:
                break
            work = queue.popleft()
            if work.future.done():
                continue
            parked = self._parked.get(work.execution_id)
            if parked is not None:
                parked.append(work)
                self._parked_count += 1
                continue
            batch.append(work)
            if work.is_alone:
                break
        for work in batch:
            self._parked.setdefault(work.execution_id, deque())
        return batch

    async def _process(self, lane: Lane, batch: list[Work]) -> None:
        try:
            await lane.process(batch)
        finally:
            del self._running[lane]
            self._last_size = len(batch)
            for execution_id in {work.execution_id for work in batch}:
                parked = self._parked.pop(execution_id)
                self._parked_count -= len(parked)
                self._queue.extendleft(reversed(parked))
            self._learn(len(batch))
            self._changed.set()
