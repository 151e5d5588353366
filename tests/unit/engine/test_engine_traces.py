"""The worked traces: a worker's events in, the log out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.engine.driver import Driver, folded, snapshot

TRACES = yaml.safe_load((Path(__file__).parents[2] / "golden" / "engine" / "traces.yaml").read_text(encoding="utf-8"))


def play(trace: dict[str, Any]) -> Driver:
    driver = Driver(trace["playbook"], repair_loop_results=not trace.get("reference_loop_results", False))
    for action in trace["worker"]:
        if isinstance(action, list):
            action = {"step": action[0], "data": action[1]}
        if "fail" in action:
            driver.fail(action["step"], action["fail"], index=action.get("index"))
        else:
            driver.complete(
                action["step"], action.get("data"), index=action.get("index"), status=action.get("status", "success")
            )
    return driver


def at(value: Any, path: str) -> Any:
    first, *rest = path.split(".")
    value = getattr(value, first)
    for name in rest:
        value = value[name]
    return value


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_trace_gives_the_recorded_log(trace: dict[str, Any]) -> None:
    driver = play(trace)
    assert driver.lines() == trace["log"]
    assert driver.generated == trace.get("generated", 1)
    for number, columns in trace.get("rows", {}).items():
        for path, expected in columns.items():
            assert at(driver.log[number - 1], path) == expected, (number, path)


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_fold_from_scratch_equals_the_incremental_state_at_every_prefix(trace: dict[str, Any]) -> None:
    driver = play(trace)
    incremental = folded([], driver.state)
    for length, event in enumerate(driver.log, 1):
        incremental.apply(event)
        assert snapshot(folded(driver.log[:length], driver.state)) == snapshot(incremental)
    assert snapshot(incremental) == snapshot(driver.state)


def test_unrenderable_set_value_is_reported() -> None:
    trace = next(trace for trace in TRACES if trace["name"] == "arc set")
    warnings = [line for decision in play(trace).decisions for line in decision.warnings]
    assert warnings == [
        "arc to step 'a': set 'step.z' is used unrendered: "
        "Template render error: unknown function: bad is unknown (in <string>:1)"
    ]
