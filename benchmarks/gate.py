"""The gate that holds speed against stored baselines on a machine that does other things as well.

What is stored is not a time but a ratio: the CPU time of a call over that of a calibration loop of the same kind of
work, interpreted Python and calls into C. Both run in turn in short slices, so a slower processor, or one that others
keep busy, slows both; CPU time leaves out what others ran meanwhile; and of each the fastest slice counts, because
noise only ever adds. As it only adds, a call above its limits is measured further until it falls below or patience
ends: what has become slower never falls below.
"""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass
from time import thread_time_ns
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

RATIOS: Final = "ratios"
TOLERANCE: Final = 0.35
"""How much more than its baseline a call may cost; docs/performance.md says what noise was measured."""
TOLERANCE_OF_BATCHES: Final = 0.75
"""The same where how much is done together depends on who comes first."""
SLICE_NS: Final = 1_000_000
FEWEST_ROUNDS: Final = 20
PATIENCE_NS: Final = 2_000_000_000
"""CPU time that a call above its limits is measured for."""
BASELINE_NS: Final = 400_000_000
"""CPU time that a call without limits is measured for."""

_DOCUMENT: Final = json.dumps({"rows": [{"id": number, "name": f"row {number}", "ok": True} for number in range(20)]})


class _Point:
    __slots__ = ("x", "y")

    def __init__(self, x: int, y: int) -> None:
        self.x = x
        self.y = y


def calibrate() -> int:
    """About 100 us of calls, attributes, dictionaries and texts, a third of it in C; a change voids all baselines."""
    total = 0
    seen: dict[str, int] = {}
    for number in range(150):
        point = _Point(number, number + 1)
        if point.x % 3:
            total += point.x * point.y
        seen[f"key-{number & 31}"] = total
    for row in json.loads(_DOCUMENT)["rows"]:
        total += len(row["name"]) + row["id"]
    return total + len(json.dumps(seen).encode().replace(b"key", b"k").split(b","))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may cost: nanoseconds of CPU time, and, with a tolerance, calibration loops; None is no limit."""

    goal: float | None = None
    baseline: float | None = None
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs: nanoseconds of CPU time, and how many calibration loops that is."""

    nanoseconds: float
    ratio: float

    def excesses(self, limits: Limits) -> list[str]:
        """The limits that it exceeds, in words."""
        found: list[str] = []
        if limits.goal is not None and self.nanoseconds > limits.goal:
            found.append(f"costs {self.nanoseconds:.0f} ns, the goal is {limits.goal:.0f} ns")
        if limits.baseline is not None and self.ratio > limits.baseline * (1 + limits.tolerance):
            change = self.ratio / limits.baseline - 1
            found.append(
                f"costs {self.ratio:.4g} calibration loops, the baseline is {limits.baseline:.4g}: "
                f"{change * 100:+.0f} %, {limits.tolerance * 100:.0f} % are allowed"
            )
        return found


def cost_of(work: Callable[[], Any], limits: Limits) -> Cost:
    """Measure a call until it is within its limits, or for as long as patience lasts."""
    calls, loops = _calls_of_a_slice(work), _calls_of_a_slice(calibrate)
    patience = BASELINE_NS if limits.baseline is None else PATIENCE_NS
    least_work = least_loop = float("inf")
    rounds = spent = 0
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        while True:
            loop_ns, work_ns = _slice(calibrate, loops), _slice(work, calls)
            least_loop = min(least_loop, loop_ns / loops)
            least_work = min(least_work, work_ns / calls)
            rounds += 1
            spent += loop_ns + work_ns
            cost = Cost(least_work, least_work / least_loop)
            is_within = limits.baseline is not None and not cost.excesses(limits)
            if (rounds >= FEWEST_ROUNDS and is_within) or spent >= patience:
                return cost
    finally:
        if was_enabled:
            gc.enable()


def _slice(work: Callable[[], Any], calls: int) -> int:
    begin = thread_time_ns()
    for _ in range(calls):
        work()
    return thread_time_ns() - begin


def _calls_of_a_slice(work: Callable[[], Any]) -> int:
    calls = 1
    while _slice(work, calls) < SLICE_NS:
        calls *= 2
    return calls
