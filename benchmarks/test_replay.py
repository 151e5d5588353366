"""The replay, decoding of metadata and references included: 200,000 events a second and core on an idle machine.

The goals are those of a core that others keep busy, half as fast; the baselines hold the speed itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from noetl.engine.replay import ReplayEvent, ReplayFold, ReplayIdentity, state_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.conftest import Measure

pytestmark = pytest.mark.benchmark(group="replay")

EVENTS = 10_000
FIRST_ID = 383_000_000_000_000_000


def event(number: int, event_type: str, status: str, meta: object = None, reference: object = None) -> ReplayEvent:
    """An event of a step as the log has it."""
    return ReplayEvent(
        FIRST_ID + number,
        event_type,
        f"step_{number % 7}",
        status,
        meta=None if meta is None else orjson.dumps(meta),
        reference=None if reference is None else orjson.dumps(reference),
    )


def commands(number: int) -> list[ReplayEvent]:
    """The life of a command as server and workers write it."""
    command = {"command_id": f"{FIRST_ID}:step_{number % 7}:{FIRST_ID + number}"}
    flags = {"actionable": False, "informative": True}
    issued = {**command, "step": f"step_{number % 7}", "attempt": 1, "tool_kind": "python", "max_attempts": 3}
    return [
        event(number, "step.enter", "ENTERED", flags),
        event(number + 1, "command.issued", "PENDING", {**issued, **flags}),
        event(number + 2, "command.claimed", "RUNNING", {**command, **flags, "worker_id": "worker-1"}),
        event(number + 3, "command.started", "RUNNING", {**command, **flags, "worker_id": "worker-1"}),
        event(number + 4, "command.completed", "COMPLETED", {**command, **flags, "worker_id": "worker-1"}),
    ]


def fan_out(number: int) -> list[ReplayEvent]:
    """The life of a frame, whose events concern a stage, a command and a loop as well, and a reference."""
    ids = {"stage_id": f"stage-{number % 40}", "frame_id": f"frame-{number}", "command_id": number, "loop_id": "loop"}
    reference = {
        "sha256": "ab" * 32,
        "row_count": 500,
        "ref": f"s3://bucket/{number}",
        "media_type": "application/json",
    }
    return [
        event(number, "frame.dispatched", "CLAIMED", {**ids, "attempt": 1}),
        event(number + 1, "command.claimed", "CLAIMED", {**ids, "worker_id": "worker-1"}),
        event(number + 2, "frame.started", "RUNNING", ids),
        event(number + 3, "frame.committed", "COMPLETED", {**ids, "row_count": 500, "events_emitted": 3}, reference),
        event(number + 4, "command.completed", "COMPLETED", {**ids, "worker_id": "worker-1"}),
    ]


def business_objects(number: int) -> list[ReplayEvent]:
    """The life of an order."""
    order = {"type": "order", "id": str(number % 500)}
    return [
        event(number + place, event_type, "", {"business_object": {**order, **carried}})
        for place, (event_type, carried) in enumerate(
            (
                ("order.created", {"state": {"total": 12.5, "customer": "c-1", "lines": [1, 2, 3]}}),
                ("order.updated", {"patch": {"total": 13.5}}),
                ("order.updated", {"patch": {"paid": True}, "version": 9}),
                ("order.updated", {"attributes": {"shipped": None}}),
                ("order.deleted", {}),
            )
        )
    ]


def log(life: Callable[[int], list[ReplayEvent]]) -> list[ReplayEvent]:
    """A log of `EVENTS` events."""
    return [entry for number in range(0, EVENTS, 5) for entry in life(number)]


def fold(events: list[ReplayEvent]) -> int:
    """Fold without checksums."""
    replayed = ReplayFold(ReplayIdentity(1))
    replayed.extend(events)
    return replayed.state.event_count


@pytest.mark.parametrize("life", [commands, fan_out, business_objects])
def test_fold(measure: Measure, life: Callable[[int], list[ReplayEvent]]) -> None:
    assert measure(fold, log(life), goal=10_000 * EVENTS, calls=1) == EVENTS


@pytest.mark.parametrize("life", [commands, fan_out, business_objects])
def test_checksums_and_answer(measure: Measure, life: Callable[[int], list[ReplayEvent]]) -> None:
    """What an answer takes beside the fold: at most 2 us for each event on an idle machine."""
    replayed = ReplayFold(ReplayIdentity(1))
    replayed.extend(log(life))

    def answer() -> int:
        for _ in replayed.settle():
            pass
        return sum(map(len, state_parts(replayed.state)))

    assert measure(answer, goal=4_000 * EVENTS, calls=1) > EVENTS
