"""The queue in front of the lanes: large batches, no execution in two lanes, a slow lane holds nobody up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from noetl.errors import OverloadedError
from noetl.ledger.queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from noetl.ledger.lane import Lane
    from noetl.ledger.work import Work


class SteppedLane:
    """A lane whose batches last until they are let go."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, str]]] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.is_closed = False

    async def process(self, batch: list[Any]) -> None:
        self.batches.append([(work.execution_id, work.name) for work in batch])
        self.began.set()
        await self.go_on.wait()
        for work in batch:
            work.future.set_result(None)

    async def close(self) -> None:
        self.is_closed = True


class NamedWork:
    """An operation that is known by its name."""

    def __init__(self, execution_id: int, name: str) -> None:
        self.execution_id = execution_id
        self.name = name
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.enqueued_at = 0.0
        self.is_alone = False


@asynccontextmanager
async def running(
    lanes: int, limit: int = 100, batch: int = 10, seconds: float = 60.0
) -> AsyncGenerator[tuple[WorkQueue, list[SteppedLane]]]:
    """A queue that feeds so many stepped lanes."""
    stepped = [SteppedLane() for _ in range(lanes)]
    queue = WorkQueue(cast("list[Lane]", stepped), limit=limit, seconds=seconds, batch_limit=batch)
    task = asyncio.create_task(queue.run())
    try:
        yield queue, stepped
    finally:
        for lane in stepped:
            lane.go_on.set()
        queue.close()
        async with asyncio.timeout(5):
            await task
        assert all(lane.is_closed for lane in stepped)


def submit(queue: WorkQueue, *operations: tuple[int, str]) -> list[NamedWork]:
    """Submit operations, each an execution and a name."""
    works = [NamedWork(execution_id, name) for execution_id, name in operations]
    for work in works:
        queue.submit(cast("Work", work))
    return works


async def finished(works: Iterable[NamedWork]) -> None:
    """Wait for the replies."""
    async with asyncio.timeout(5):
        await asyncio.gather(*(work.future for work in works))


async def began(lane: SteppedLane) -> None:
    """Wait until a lane has a batch."""
    async with asyncio.timeout(5):
        await lane.began.wait()


async def test_what_arrives_while_a_batch_runs_is_the_next_batch() -> None:
    async with running(1) as (queue, (lane,)):
        works = submit(queue, (1, "a"))
        await began(lane)
        works += submit(queue, (2, "b"), (3, "c"), (2, "d"))
        lane.go_on.set()
        await finished(works)
        assert lane.batches == [[(1, "a")], [(2, "b"), (3, "c"), (2, "d")]]


async def test_what_is_on_its_way_joins_the_batch_until_that_is_a_third_of_what_is_about() -> None:
    async with running(1) as (queue, (lane,)):
        lane.go_on.set()
        await finished(submit(queue, *((execution_id, "a") for execution_id in range(6))))
        works = submit(queue, (6, "b"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        works += submit(queue, (7, "b"), (8, "b"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        works += submit(queue, (9, "b"))
        await finished(works)
        assert [len(batch) for batch in lane.batches] == [6, 3, 1]


async def test_a_quick_lane_gets_everything_and_a_second_starts_beside_a_slow_one() -> None:
    async with running(2) as (queue, (slow, other)):
        works = submit(queue, (1, "a"))
        await began(slow)
        later = submit(queue, (2, "b"))
        other.go_on.set()
        await finished(later)
        assert (slow.batches, other.batches) == ([[(1, "a")]], [[(2, "b")]])
        slow.go_on.set()
        await finished(works)


async def test_an_execution_is_in_one_lane_at_a_time_and_keeps_its_order() -> None:
    async with running(2) as (queue, (slow, other)):
        works = submit(queue, (1, "a"))
        await began(slow)
        works += submit(queue, (1, "b"))
        beside = submit(queue, (2, "c"))
        other.go_on.set()
        await finished(beside)
        works += submit(queue, (1, "d"))
        await finished(submit(queue, (3, "e")))
        assert queue.depth == 2
        slow.go_on.set()
        await finished(works)
        mine = [entry for batch in slow.batches + other.batches for entry in batch if entry[0] == 1]
        assert slow.batches[0] == [(1, "a")]
        assert mine == [(1, "a"), (1, "b"), (1, "d")]


async def test_a_full_queue_refuses_and_counts_what_waits_for_a_held_execution() -> None:
    async with running(1, limit=3) as (queue, (lane,)):
        works = submit(queue, (1, "a"))
        await began(lane)
        works += submit(queue, (1, "b"), (1, "c"), (2, "d"))
        with pytest.raises(OverloadedError):
            submit(queue, (3, "e"))
        lane.go_on.set()
        await finished(works)
        assert queue.depth == 0


async def test_a_batch_has_its_limit_and_work_that_failed_before_is_alone() -> None:
    async with running(1, batch=2) as (queue, (lane,)):
        lane.go_on.set()
        works = [NamedWork(number, str(number)) for number in range(5)]
        works[3].is_alone = True
        for work in works:
            queue.submit(cast("Work", work))
        await finished(works)
        assert [[name for _, name in batch] for batch in lane.batches] == [["0", "1"], ["2"], ["3"], ["4"]]


async def test_work_that_nobody_waits_for_is_dropped() -> None:
    async with running(1) as (queue, (lane,)):
        works = submit(queue, (1, "a"))
        await began(lane)
        given_up, wanted = submit(queue, (2, "b"), (3, "c"))
        given_up.future.cancel()
        lane.go_on.set()
        await finished([*works, wanted])
        assert lane.batches == [[(1, "a")], [(3, "c")]]


async def test_closing_finishes_what_waits() -> None:
    async with running(1) as (queue, (lane,)):
        works = submit(queue, (1, "a"))
        await began(lane)
        works += submit(queue, (1, "b"), (2, "c"))
        queue.close()
        lane.go_on.set()
        await finished(works)


async def paced(queue: WorkQueue, lane: SteppedLane, seconds: float) -> None:
    """Six operations, of which two at a time are done; the second and third batch take so long."""
    lane.go_on.clear()
    lane.began.clear()
    works = submit(queue, *((number, "a") for number in range(6)))
    for _ in range(2):
        await began(lane)
        lane.began.clear()
        await asyncio.sleep(seconds)  # the pace of the lane
        lane.go_on.set()
        await asyncio.sleep(0)
        lane.go_on.clear()
    lane.go_on.set()
    await finished(works)


async def test_room_is_what_can_be_done_in_time_while_the_pace_is_known() -> None:
    async with running(1, limit=100, batch=2, seconds=1.0) as (queue, (lane,)):
        await paced(queue, lane, 0.1)
        assert 2 <= queue.room < 50
        for _ in range(5):  # a bad time is soon forgotten
            await finished(submit(queue, *((number, "c") for number in range(6))))
        assert queue.room > 50


async def test_room_is_the_limit_when_the_pace_was_told_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(1, limit=100, batch=2, seconds=1.0) as (queue, (lane,)):
        await paced(queue, lane, 0.1)
        assert queue.room < 50
        monkeypatch.setattr("noetl.ledger.queue.PACE_SECONDS", 0.0)
        assert queue.room == 100


async def test_small_batches_tell_no_pace() -> None:
    async with running(1, limit=100, batch=40, seconds=0.001) as (queue, (lane,)):
        works = submit(queue, (1, "a"), (1, "b"), (1, "c"))
        lane.go_on.set()
        await finished(works)
        lane.go_on.clear()
        works = submit(queue, (1, "d"), (2, "e"))
        assert queue.room == 100
        lane.go_on.set()
        await finished(works)


async def test_room_is_a_batch_at_least_and_the_limit_at_most() -> None:
    for batch, expected in ((2, 2), (3, 3)):
        async with running(1, limit=6, batch=batch, seconds=0.000001) as (queue, (lane,)):
            await paced(queue, lane, 0.01)
            assert queue.room == expected
    async with running(1, limit=6, batch=10, seconds=0.000001) as (queue, (lane,)):
        works = submit(queue, (0, "a"))
        await began(lane)
        works += submit(queue, *((number, "a") for number in range(1, 5)))
        lane.go_on.set()
        await finished(works)
        assert queue.room == 6
