"""The gate of the micro-benchmarks: what costs the same passes, what costs more does not, also on a busy machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.baselines import Baselines
from benchmarks.gate import Cost, Limits, calibrate, cost_of

if TYPE_CHECKING:
    from pathlib import Path


def test_calibration_loop_costs_itself() -> None:
    assert not cost_of(calibrate, Limits(baseline=1.0)).excesses(Limits(baseline=1.0))


def test_half_more_work_exceeds_the_baseline() -> None:
    def slower() -> None:
        for _ in range(3):
            calibrate()

    limits = Limits(baseline=2.0)
    (excess,) = cost_of(slower, limits).excesses(limits)
    assert "the baseline is 2:" in excess


def test_goal_is_a_limit_of_its_own() -> None:
    cost = Cost(nanoseconds=120.0, ratio=1.0)
    assert cost.excesses(Limits(goal=100.0, baseline=1.0)) == ["costs 120 ns, the goal is 100 ns"]
    assert cost.excesses(Limits()) == []


def test_new_baselines_replace_only_what_was_measured(tmp_path: Path) -> None:
    first = Baselines("ratios", tmp_path)
    assert not first.exist
    first.store("a", 1.0)
    first.store("b", 2.0)
    first.write()
    second = Baselines("ratios", tmp_path)
    second.store("b", 3.0)
    second.write()
    third = Baselines("ratios", tmp_path)
    assert third.exist
    assert (third.of("a"), third.of("b"), third.of("c")) == (1.0, 3.0, None)
