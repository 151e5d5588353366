"""What holds for any workflow, any outcome of its conditions, any order of completion and any repetition of events."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from noetl.engine import events
from noetl.engine.playbook.model import Arc, Loop, LoopMode, Next, NextMode, Playbook, Step
from noetl.engine.state import CommandStatus
from tests.unit.engine.driver import ENGINE_ROWS, Driver, Issued, folded, snapshot

CONDITIONS = [None, "true", "false", "{{ start.v > 4 }}", "a is defined", "b is defined and b.v % 2 == 0", "end"]
NAMES = ["start", "a", "b", "c", "d", "e", "f", "end"]


@st.composite
def playbooks(draw: st.DrawFn) -> Playbook:
    """Graphs of up to eight steps with cycles, guards, loops of 0 to 3 items and unreachable steps."""
    names = NAMES[: draw(st.integers(2, 7))] + draw(st.sampled_from([[], ["end"]]))
    targets = st.sampled_from(names)
    steps: list[Step] = []
    for name in names:
        arcs = draw(st.lists(st.tuples(targets, st.sampled_from(CONDITIONS)), max_size=3))
        way = Next(tuple(Arc(target, when) for target, when in arcs), draw(st.sampled_from(NextMode)))
        loop = None
        if draw(st.integers(0, 3)) == 0:
            limit = draw(st.sampled_from([None, 1, 2]))
            items = list(range(draw(st.integers(0, 3))))
            loop = Loop(f"{{{{ {items} }}}}", "it", draw(st.sampled_from(LoopMode)), limit)
        when = draw(st.sampled_from([None, None, None, *CONDITIONS]))
        steps.append(Step(name, "noop", {}, when=when, loop=loop, next=draw(st.sampled_from([way, way, way, None]))))
    return Playbook("any", "t/any", {}, tuple(steps))


def play(driver: Driver, draw: st.DataObject) -> None:
    """Work off all commands in any order; some fail, some are reported twice, some come late or out of turn."""
    finished: list[Issued] = []
    for _ in range(200):
        if not driver.open:
            return
        command = driver.open[draw.draw(st.integers(0, len(driver.open) - 1))]
        deed = draw.draw(st.sampled_from([*["complete"] * 3, "fail", "requeue", "again", "skip claim"]))
        if deed == "complete":
            driver.complete(command, {"v": draw.draw(st.integers(0, 9))})
            finished.append(command)
        elif deed == "fail":
            driver.fail(command, draw.draw(st.sampled_from(["boom", None])))
            finished.append(command)
        elif deed == "requeue":
            driver.claim(command)
            meta = {"command_id": command.command_id, "attempt": 2}
            driver.append(events.COMMAND_REQUEUED, command.step, "PENDING", meta=meta)
        elif deed == "skip claim":
            driver.done(command)
            finished.append(command)
        elif finished:
            late = finished[draw.draw(st.integers(0, len(finished) - 1))]
            driver.claim(late)
            driver.report(late, "late")
            driver.done(late)
    raise AssertionError("does not end")


def check(driver: Driver) -> None:
    rows = [event for event in driver.log if event.event_type in ENGINE_ROWS]
    assert len(driver.ends()) == 1
    assert rows[-1].event_type in events.TERMINAL
    entered = Counter(event.node_name for event in driver.log if event.event_type == "step.enter")
    assert not [name for name, count in entered.items() if count > 1]
    issued = Counter((command.step, command.index) for command in driver.issued)
    assert not [command for command, count in issued.items() if count > 1]
    for name, step in driver.state.steps.items():
        # Each step that was entered got its commands, and all of them, unless it failed or the run broke off.
        if step.loop is not None and step.status.name == "COMPLETED":
            assert issued.total() >= step.loop.expected == sum(c.step == name for c in driver.issued)
    assert not driver.state.outstanding or driver.state.run_status.name == "FAILED"


@settings(max_examples=400, deadline=None)
@given(playbooks(), st.data())
def test_every_run_ends_once_and_enters_no_step_twice(playbook: Playbook, data: st.DataObject) -> None:
    driver = Driver(playbook)
    play(driver, data)
    check(driver)


@settings(max_examples=60, deadline=None)
@given(playbooks(), st.data(), st.booleans())
def test_fold_in_pages_of_any_size_equals_the_incremental_state(
    playbook: Playbook, data: st.DataObject, is_repaired: bool
) -> None:
    states: list[Any] = []
    driver = Driver(playbook, repair_loop_results=is_repaired)
    driver.observe = lambda running: states.append(snapshot(running.state))
    play(driver, data)
    log = driver.log
    for length, expected in enumerate(states, len(log) - len(states) + 1):
        assert snapshot(folded(log[:length], driver.state)) == expected
    size = data.draw(st.integers(1, 7))
    paged = folded([], driver.state)
    for begin in range(0, len(log), size):
        page = log[max(0, begin - 2) : begin + size]  # pages may overlap: what was folded already changes nothing
        for event in page:
            paged.apply(event)
    assert snapshot(paged) == snapshot(driver.state)


@settings(max_examples=100, deadline=None)
@given(playbooks(), st.data())
def test_decisions_after_a_rebuild_are_those_of_the_long_lived_state(playbook: Playbook, data: st.DataObject) -> None:
    """A process that takes over half-way decides the same."""
    driver = Driver(playbook)
    twin = Driver(playbook)
    for _ in range(100):
        if not driver.open:
            break
        choice = data.draw(st.integers(0, len(driver.open) - 1))
        deed = data.draw(st.sampled_from(["complete", "complete", "fail"]))
        twin.state = folded(twin.log, twin.state)
        for each in (driver, twin):
            command = each.open[choice]
            if deed == "fail":
                each.fail(command)
            else:
                each.complete(command, {"v": choice})
    assert twin.lines() == driver.lines()
    assert [c.draft for c in twin.issued] == [c.draft for c in driver.issued]
    assert not [c for c in driver.state.commands.values() if c.status is CommandStatus.CANCELLED]
