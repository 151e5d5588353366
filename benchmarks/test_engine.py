"""Folding the events of an execution, and deciding what follows from one, on a chain and on parallel loops."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from noetl.engine.decide import advance, start
from noetl.engine.state import ExecutionState
from tests.unit.engine.driver import CATALOG, EXECUTION, Driver
from tests.unit.engine.flows import flow, parallel

if TYPE_CHECKING:
    from benchmarks.conftest import Measure
    from noetl.engine.playbook.model import Playbook

pytestmark = pytest.mark.benchmark(group="engine")

CHAIN = flow(dict(pairwise(["start", *(f"step_{number}" for number in range(100)), "end"])))
ROWS = [{"id": number, "name": f"row {number}"} for number in range(100)]
LOOP = flow({"start": "many", "many": "end"}, workload={"xs": ROWS}, loops={"many": parallel(limit=8)})
JOIN = flow(
    {
        "start": ", ".join(f"branch_{number}" for number in range(10)),
        **{f"branch_{number}": "join ? ok == true" for number in range(10)},
        "join": "end",
    },
    workload={"ok": True},
)


def fold(driver: Driver) -> int:
    """The whole log, from the beginning."""
    state = ExecutionState(EXECUTION, CATALOG)
    for event in driver.log:
        state.apply(event)
    return state.event_count


@pytest.mark.parametrize("playbook", [CHAIN, LOOP, JOIN], ids=["chain", "loop", "join"])
def test_fold(measure: Measure, playbook: Playbook) -> None:
    driver = Driver(playbook).run({"many": {"rows": ROWS[:5]}})
    assert measure(fold, driver, calls=5) == len(driver.log)


def test_start(measure: Measure) -> None:
    begun = measure(lambda: start(LOOP, {"k": 1}, execution_id=EXECUTION, catalog_id=CATALOG, path="t/flow"))
    assert len(begun.decision.commands) == 1


def test_decide_the_next_step_of_a_chain(measure: Measure) -> None:
    driver = Driver(CHAIN)
    for number in range(50):
        driver.complete("start" if number == 0 else f"step_{number - 1}", {"rows": ROWS[:5]})
    driver.report(driver.claim("step_49"), {"rows": ROWS[:5]})
    ended = driver.append("command.completed", "step_49", "success", result=_end(driver, "step_49"))
    decision = measure(advance, CHAIN, driver.state, ended)
    assert [command.step for command in decision.commands] == ["step_50"]


def test_decide_to_enter_a_parallel_loop(measure: Measure) -> None:
    driver = Driver(LOOP)
    driver.report(driver.claim("start"), {"rows": ROWS})
    ended = driver.append("command.completed", "start", "success", result=_end(driver, "start"))
    assert len(measure(advance, LOOP, driver.state, ended).commands) == 8


def test_decide_the_next_iteration_of_a_loop(measure: Measure) -> None:
    driver = Driver(LOOP)
    driver.complete("start")
    for _ in range(40):
        driver.complete("many", {"rows": ROWS[:5]})
    command = driver.claim("many")
    driver.report(command, {"rows": ROWS[:5]})
    ended = driver.append("command.completed", "many", "success", result=_end(driver, "many"))
    assert len(measure(advance, LOOP, driver.state, ended).commands) == 1


def test_decide_that_a_join_waits(measure: Measure) -> None:
    driver = Driver(JOIN)
    driver.complete("start")
    for number in range(8):
        driver.complete(f"branch_{number}")
    driver.report(driver.claim("branch_8"), {"rows": ROWS[:5]})
    ended = driver.append("command.completed", "branch_8", "success", result=_end(driver, "branch_8"))
    assert not measure(advance, JOIN, driver.state, ended).commands


def _end(driver: Driver, step: str) -> dict[str, object]:
    return {"status": "success", "context": {"status": "success", "command_id": driver.find(step).command_id}}
