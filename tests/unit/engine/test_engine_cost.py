"""The cost of an event does not depend on how many came before (promise P4): counted in executed lines, not in time."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.engine.driver import Driver
from tests.unit.engine.flows import each, flow, parallel

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def lines_of(work: Callable[[], Any]) -> int:
    """How many lines of the package run in ``work``."""
    count = 0

    def trace(frame: FrameType, kind: str, _: Any) -> Any:
        nonlocal count
        if "/noetl/" not in frame.f_code.co_filename:
            return None
        count += kind == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("loop", [each(), parallel(), parallel(limit=3)], ids=["sequential", "parallel", "limited"])
def test_iteration_costs_the_same_at_the_end_of_a_long_loop(loop: Any) -> None:
    graph = {"start": "lp, b", "lp": "j ? lp | k", "b": "j", "j": None, "k": None}
    driver = Driver(flow(graph, workload={"xs": list(range(1_200))}, loops={"lp": loop}))
    driver.complete("start")
    early, late = 0, 0
    for number in range(1_199):
        cost = lines_of(lambda: driver.complete("lp")) if number in (5, 1_190) else driver.complete("lp")
        early = cost if number == 5 else early
        late = cost if number == 1_190 else late
    assert 0 < late <= early + 5  # type: ignore[operator]


def test_step_costs_the_same_at_the_end_of_a_long_chain() -> None:
    names = ["start", *(f"s{number}" for number in range(600))]
    graph = dict(pairwise(names))
    driver = Driver(flow(graph))
    costs = [lines_of(lambda: driver.complete(driver.open[0])) if n in (10, 590) else driver.complete(driver.open[0])
             for n in range(595)]  # fmt: skip
    assert 0 < costs[590] <= costs[10] + 5  # type: ignore[operator]
    assert len(driver.state.open_sources) <= 2


def test_wide_join_looks_at_each_waiting_branch_a_bounded_number_of_times() -> None:
    def cost(width: int) -> int:
        names = [f"s{number}" for number in range(width)]
        driver = Driver(flow({"start": ", ".join(names), **dict.fromkeys(names, "j"), "j": None}))
        driver.complete("start")
        for name in names[:-2]:
            driver.complete(name)
        return lines_of(lambda: driver.complete(names[-2]))

    assert cost(200) < 2.5 * cost(100)


def test_contexts_of_iterations_share_their_data() -> None:
    graph = {"start": "lp", "lp": None}
    driver = Driver(flow(graph, workload={"xs": list(range(50))}, loops={"lp": parallel()}))
    driver.complete("start", {"big": list(range(1_000))})
    contexts = [command.draft.render_context for command in driver.issued if command.step == "lp"]
    assert len({id(context) for context in contexts}) == 50
    for name in ("start", "steps", "workload", "xs"):
        assert len({id(context[name]) for context in contexts}) == 1
