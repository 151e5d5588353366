"""The fold: what each event does to the state, also the odd ones."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.engine import events
from noetl.engine.events import Event
from noetl.engine.state import CommandStatus, ExecutionState, RunStatus, StepStatus
from tests.unit.engine.driver import Driver, folded, snapshot
from tests.unit.engine.flows import flow, parallel


def running() -> Driver:
    driver = Driver(flow({"start": "a, b", "a": "c", "b": None, "c": None}))
    driver.complete("start")
    return driver


def loop(count: int = 2, **options: Any) -> Driver:
    playbook = flow({"start": "lp", "lp": "z"}, workload={"xs": list(range(count))}, loops={"lp": parallel()})
    driver = Driver(playbook, **options)
    driver.complete("start")
    return driver


def test_life_of_a_command() -> None:
    driver = running()
    command = driver.find("a")
    state = driver.state.commands[command.event_id]
    assert (state.status, state.command_id, state.attempt) == (CommandStatus.PENDING, command.command_id, 1)
    assert state.issued_at_us == 1_000 * command.event_id
    driver.claim(command, worker="w7")
    assert (state.status, state.worker_id, state.started) == (CommandStatus.RUNNING, "w7", True)
    assert state.claimed_at_us > 0
    driver.report(command, 1)
    driver.done(command)
    assert (state.status, state.is_final, state.worker_id) == (CommandStatus.COMPLETED, True, None)
    assert command.event_id not in driver.state.outstanding


def test_requeued_command_is_pending_again_and_deaf_to_its_old_worker() -> None:
    driver = running()
    command = driver.claim("a", worker="old")
    driver.append(
        events.COMMAND_REQUEUED, "a", "PENDING", meta={"command_id": command.command_id, "attempt": 2}
    )  # fmt: skip
    state = driver.state.commands[command.event_id]
    assert (state.status, state.worker_id, state.attempt, state.started) == (CommandStatus.PENDING, None, 2, False)
    assert driver.state.steps["a"].is_running
    old = {"command_id": command.command_id, "worker_id": "old"}
    driver.append("command.started", "a", result={"context": old}, meta={"worker_id": "old"})
    driver.append("command.heartbeat", "a", meta=old)
    assert (state.status, state.heartbeat_at_us) == (CommandStatus.PENDING, 0)
    driver.claim(command, worker="new")
    driver.append("command.heartbeat", "a", meta={**old, "worker_id": "new"})
    assert (state.worker_id, state.heartbeat_at_us) == ("new", driver.log[-1].created_at_us)


def test_late_result_of_a_lost_worker_counts_if_it_is_the_first() -> None:
    driver = running()
    command = driver.claim("a", worker="old")
    driver.append(events.COMMAND_REQUEUED, "a", meta={"command_id": command.command_id, "attempt": 2})
    driver.report(command, {"from": "old"})
    assert [draft.step for draft in driver.done(command).commands] == ["c"]
    driver.report(command, {"from": "new"})
    assert not driver.done(command).commands
    assert driver.state.user_data["a"]["from"] == "old"


def test_second_completion_changes_nothing() -> None:
    driver = loop(2)
    first = driver.find("lp", 0)
    driver.complete(first, "one")
    assert driver.state.steps["lp"].loop.completed == 1  # pyright: ignore
    driver.claim(first)
    driver.report(first, "two")
    driver.done(first)
    failure = {"context": {"command_id": first.command_id, "error": "late"}}
    driver.trigger(driver.append("command.failed", "lp", result=failure))
    assert driver.state.steps["lp"].loop.completed == 1  # pyright: ignore
    assert driver.state.steps["lp"].is_running
    driver.complete("lp", "other")
    elements = driver.state.user_data["lp"]
    assert [element["context"]["result"]["context"]["data"] for element in elements] == ["one", "other"]


def test_failed_stays_failed_whatever_arrives_later() -> None:
    driver = running()
    command = driver.find("a")
    driver.fail("a", "boom")
    driver.done(command)
    driver.claim(command)
    assert (driver.state.steps["a"].status, driver.state.steps["a"].error) == (StepStatus.FAILED, "boom")


def test_iteration_results_keep_what_the_completion_carried() -> None:
    driver = loop(3)
    first, second, third = (driver.find("lp", index) for index in range(3))
    driver.append("call.done", "lp", result={"status": "COMPLETED", "reference": {"uri": "x"}, "context": None},
                  meta={"command_id": first.command_id})  # fmt: skip
    done = {"status": "success", "context": {"command_id": second.command_id, "result": "own"}}
    driver.report(second, "other")
    driver.open.remove(second)
    driver.trigger(driver.append("command.completed", "lp", result=done))
    driver.done(first)
    driver.open.remove(third)
    driver.trigger(driver.append("command.completed", "lp", meta={"command_id": third.command_id}))
    own = {"status": "success", "command_id": first.command_id}
    assert driver.state.envelopes["lp"] == [
        {"status": "success", "context": own, "reference": {"uri": "x"}},
        done,
    ]


def test_call_done_after_the_completion_of_its_iteration_is_added() -> None:
    driver = loop(2)
    first = driver.find("lp", 0)
    driver.done(first)
    driver.report(first, 7)
    driver.complete("lp", 8)
    elements = driver.state.user_data["lp"]
    assert [element["context"]["result"]["context"]["data"] for element in elements] == [7, 8]


def test_reference_mode_keeps_the_order_of_arrival_and_no_data() -> None:
    driver = loop(2, repair_loop_results=False)
    last, first = driver.complete(driver.find("lp", 1), 1), driver.complete("lp", 0)
    assert (last.commands, len(first.commands)) == ([], 1)
    ids = [element["context"]["command_id"] for element in driver.state.user_data["lp"]]
    assert [command_id.rpartition(":")[2] for command_id in ids] == ["i1", "i0"]
    assert all(set(element["context"]) == {"status", "command_id"} for element in driver.state.user_data["lp"])


def test_completion_without_a_command_id() -> None:
    driver = running()
    driver.trigger(driver.append("command.completed", "a", "success", result={"status": "success"}))
    assert driver.state.steps["a"].status is StepStatus.COMPLETED
    assert driver.state.commands[driver.open.pop(0).event_id].status is CommandStatus.COMPLETED
    looped = loop(1)
    looped.trigger(looped.append("command.completed", "lp", "success", result={"status": "success"}))
    assert looped.state.steps["lp"].is_running


def test_result_of_call_done_wins_over_the_completion_s() -> None:
    driver = running()
    command = driver.find("a")
    driver.done(command)
    assert driver.state.user_data["a"]["status"] == "success"
    driver.report(command, 5)
    assert driver.state.user_data["a"] == 5


@pytest.mark.parametrize(
    ("event_type", "status"),
    [
        ("playbook.completed", RunStatus.COMPLETED), ("playbook_completed", RunStatus.COMPLETED),
        ("playbook.failed", RunStatus.FAILED), ("playbook_failed", RunStatus.FAILED),
        ("playbook.cancelled", RunStatus.CANCELLED), ("playbook_cancelled", RunStatus.CANCELLED),
        ("execution.cancelled", RunStatus.CANCELLED),
    ],
)  # fmt: skip
def test_ends(event_type: str, status: RunStatus) -> None:
    driver = running()
    assert not driver.state.terminal
    driver.append(event_type, "playbook", error="why")
    assert (driver.state.run_status, driver.state.terminal) == (status, True)
    assert driver.state.ended_at_us == driver.log[-1].created_at_us
    assert driver.state.error == ("why" if status is RunStatus.FAILED else None)
    cancelled = [c for c in driver.state.commands.values() if c.status is CommandStatus.CANCELLED]
    assert len(cancelled) == (2 if status is RunStatus.CANCELLED else 0)


def test_cancelled_stays_cancelled() -> None:  # I19
    driver = running()
    driver.append("playbook_cancelled", "playbook")
    driver.append("playbook.completed", "playbook")
    assert driver.state.run_status is RunStatus.CANCELLED


@pytest.mark.parametrize("event_type", sorted(events.START))
def test_start_of_this_and_the_older_server(event_type: str) -> None:  # V13
    state = ExecutionState(1)
    context = {"workload": {"k": 1}, "path": "p", "version": "3"}
    state.apply(Event(5, event_type, "p", catalog_id=9, parent_execution_id=4, context=context, created_at_us=8))
    assert (state.run_status, state.workload, state.path, state.version) == (RunStatus.RUNNING, {"k": 1}, "p", "3")
    assert (state.catalog_id, state.parent_execution_id, state.started_event_id, state.started_at_us) == (9, 4, 5, 8)


def test_command_ids_of_another_form_are_found() -> None:
    state = ExecutionState(1)
    state.apply(Event(3, "command.issued", "a:b", meta={"command_id": "own-id"}))
    assert state.commands[3].command_id == "own-id"
    state.apply(Event(4, "command.completed", "a:b", meta={"command_id": "own-id"}))
    assert state.commands[3].status is CommandStatus.COMPLETED


def test_step_names_with_colons_and_blanks() -> None:
    driver = Driver(flow({"start": "a:1 :i2", "a:1 :i2": None})).run()
    assert driver.flow() == ["start", "+a:1 :i2", "a:1 :i2", "COMPLETED"]
    assert all(command.is_final for command in driver.state.commands.values())


def test_event_of_another_step_does_not_end_a_command() -> None:
    driver = running()
    command = driver.find("a")
    driver.append("command.completed", "ghost", meta={"command_id": command.command_id})
    assert driver.state.commands[command.event_id].status is CommandStatus.PENDING


def test_folding_an_event_twice_changes_nothing() -> None:
    driver = running()
    before = snapshot(driver.state)
    for event in driver.log:
        driver.state.apply(event)
    assert snapshot(driver.state) == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["context", "result", "data", "command_id", "worker_id", "attempt", "iterations_expected", "error",
             "iteration_index", "render_context", "workload", "path", "reference", "x"]
        ), inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
TYPES = sorted(
    events.START | events.TERMINAL | events.STEP_ENTERED | events.STEP_SKIPPED | events.COMMAND_STARTED
    | events.CALL_DONE | events.STEP_COMPLETED | events.STEP_FAILED
    | {events.COMMAND_ISSUED, events.COMMAND_CLAIMED, events.COMMAND_HEARTBEAT, events.COMMAND_REQUEUED, "", "odd"}
)  # fmt: skip


NODES = st.sampled_from(["start", "a", "lp", "", None])


@given(st.lists(st.tuples(st.sampled_from(TYPES), NODES, JSON, JSON, JSON), max_size=30))
def test_fold_survives_any_content(rows: list[tuple[str, str | None, Any, Any, Any]]) -> None:
    driver = loop(2)
    for event_type, node, context, result, meta in rows:
        driver.append(event_type, node, context=context, result=result, meta=meta)
        driver.trigger(driver.append("command.completed", "start", result={}))
    assert snapshot(folded(driver.log, driver.state))["steps"].keys() == driver.state.steps.keys()
    assert driver.state.approximate_bytes > 0


def test_giant_number_in_a_command_id_is_no_number() -> None:
    driver = running()
    driver.append("command.completed", "ghost", meta={"command_id": "1:ghost:" + "9" * 5_000})
    assert driver.state.steps["ghost"].status is StepStatus.COMPLETED


def test_bytes_follow_what_is_kept() -> None:
    driver = running()
    empty = driver.state.approximate_bytes
    command = driver.find("a")
    data = {"rows": [{"id": number, "name": f"row {number}"} for number in range(1_000)]}
    driver.report(command, data)
    full = driver.state.approximate_bytes
    assert full - empty > len(orjson.dumps(data))
    driver.report(command, data)
    assert driver.state.approximate_bytes == full
    driver.report(command, None)
    assert abs(driver.state.approximate_bytes - empty) < 2_000


def test_finished_iterations_cost_little() -> None:
    driver = loop(300)
    before = driver.state.approximate_bytes
    driver.run()
    assert driver.state.steps["lp"].loop.elements == {}  # pyright: ignore
    assert driver.state.approximate_bytes - before < 300 * 2_000
