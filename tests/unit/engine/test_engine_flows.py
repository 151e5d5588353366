"""Flows: what is entered, skipped and issued, in which order, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.engine.decide import advance, start
from noetl.engine.events import Event
from noetl.engine.playbook.model import Arc, Next, NextMode
from noetl.errors import TemplateFailure, UnprocessableError
from tests.unit.engine.driver import Driver
from tests.unit.engine.flows import each, flow, parallel

FLOWS: dict[str, tuple[dict[str, Any], str]] = {
    "single step": ({"start": None}, "start COMPLETED"),
    "several last steps": (
        {"start": "a, b", "a": None, "b": None},
        "start +a +b a b COMPLETED",
    ),
    "no early end while another branch goes on (D3)": (
        {"start": "a, b", "a": None, "b": "c", "c": "d", "d": None},
        "start +a +b a b +c c +d d COMPLETED",
    ),
    "what follows end runs (D3)": ({"start": "end", "end": "after"}, "start +end end +after after COMPLETED"),
    "exclusive takes the first match, the rest is skipped": (
        {"start": "a ? false | b ? true | c"},
        "start -a -c +b b COMPLETED",
    ),
    "exclusive does not evaluate what stands behind the match": (
        {"start": "a ? true | b ? nofn()"},
        "start -b +a a COMPLETED",
    ),
    "no arc matches (H1)": ({"start": "a ? false | b ? false"}, "start -a -b COMPLETED"),
    "next without arcs (H1)": ({"start": Next(())}, "start COMPLETED"),
    "false and true arc to one target (H2)": ({"start": "a ? false | a"}, "start +a a COMPLETED"),
    "skipped by one, wanted later by another (H2)": (
        {"start": "p | q", "p": "q"},
        "start -q +p p +q q COMPLETED",
    ),
    "a false arc into a fan-in does not kill it for the others (H2)": (
        {"start": "a, b", "a": "j ? false | c", "b": "j", "j": None, "c": None},
        "start +a +b a b -j +c c +j j COMPLETED",
    ),
    "a branch that is never taken does not hold the join (H3)": (
        {"start": "a | b", "a": "a2", "a2": "j", "b": "b2", "b2": "j"},
        "start -b +a a +a2 a2 +j j COMPLETED",
    ),
    "the join waits for a branch that is under way": (
        {"start": "a, b", "a": "j", "b": "b2", "b2": "j"},
        "start +a +b a b +b2 b2 +j j COMPLETED",
    ),
    "back edge does not hold the loop's first step; re-entry is refused (H5)": (
        {"start": "fetch", "fetch": "check", "check": "fetch | end"},
        "start +fetch fetch +check check -end FAILED",
    ),
    "cycle left at the first test (H5)": (
        {"start": "fetch", "fetch": "check", "check": "fetch ? false | end"},
        "start +fetch fetch +check check +end end COMPLETED",
    ),
    "self-loop not taken": ({"start": "a", "a": "a ? false | b"}, "start +a a +b b COMPLETED"),
    "self-loop taken (H5)": ({"start": "a", "a": "a | b"}, "start +a a -b FAILED"),
    "cycle through start (H5)": ({"start": "a", "a": "start"}, "start +a a FAILED"),
    "cycle, but end was reached": ({"start": "a", "a": "start, end"}, "start +a a +end end COMPLETED"),
    "end skipped first is not run later (V1)": ({"start": "p | end", "p": "end"}, "start -end +p p COMPLETED"),
    "end held back by a branch never taken (V1)": (
        {"start": "high | low", "high": "end", "low": "low2", "low2": "end"},
        "start -low +high high COMPLETED",
    ),
}


@pytest.mark.parametrize("name", FLOWS)
def test_flow(name: str) -> None:
    graph, expected = FLOWS[name]
    assert Driver(flow(graph)).run().flow() == expected.split()


def test_stall_names_the_steps() -> None:
    driver = Driver(flow({"start": "fetch", "fetch": "check", "check": "fetch | end"})).run()
    assert driver.ends()[0].meta == {
        "status": "FAILED",
        "error": "Workflow stalled: step 'check' routes back to completed step 'fetch'; re-entry is not supported",
        "failed_steps": [],
    }


GUARDED: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "skip chain": ({"start": "a", "a": "b", "b": "c"}, {"a": "false", "b": "false"}, "start -a -b +c c COMPLETED"),
    "skip chain into end (V2)": ({"start": "a", "a": "end"}, {"a": "false"}, "start -a COMPLETED"),
    "skip chain without a way on (H1)": ({"start": "a"}, {"a": "false"}, "start -a COMPLETED"),
    "skip chain enters a fan-in without waiting (D2)": (
        {"start": "a, s", "a": "j", "s": "j"},
        {"s": "false"},
        "start +a -s +j a j COMPLETED",
    ),
    "two skip chains into one step enter it once (D2)": (
        {"start": "s, t", "s": "j", "t": "j"},
        {"s": "false", "t": "false"},
        "start -s +j -t j COMPLETED",
    ),
    "guarded steps in a circle": ({"start": "s", "s": "t", "t": "s"}, {"s": "0", "t": "0"}, "start -s -t COMPLETED"),
    "the guard of start is not asked (V8)": ({"start": "a"}, {"start": "false"}, "start +a a COMPLETED"),
    "guard of end": ({"start": "end", "end": "after"}, {"end": "no"}, "start -end +after after COMPLETED"),
}


@pytest.mark.parametrize("name", GUARDED)
def test_guards(name: str) -> None:
    graph, when, expected = GUARDED[name]
    assert Driver(flow(graph, when=when)).run().flow() == expected.split()


def test_chain_sees_what_the_arcs_set_on_its_way() -> None:
    ways = {
        "start": Next((Arc("s", arguments={"x": 1, "t": "{{ start.ok }}"}),), NextMode.INCLUSIVE),
        "s": Next((Arc("a", assignments={"ctx.y": "{{ x + 1 }}"}),)),
    }
    driver = Driver(flow(ways, when={"s": "x > 1"}, tools={"a": {"args": {"y": "{{ y }}", "t": "{{ t }}"}}})).run()
    assert driver.flow() == "start -s +a a COMPLETED".split()
    assert driver.command("a").tool_config == {"args": {"y": 2, "t": "{{ start.ok }}"}}
    skipped = next(event for event in driver.log if event.event_type == "step.skipped")
    assert skipped.result == {"status": "SKIPPED", "context": {"x": 1, "t": "{{ start.ok }}"}}


# -- loops -------------------------------------------------------------------------------------------------------------

LP = {"start": "lp", "lp": "end"}


@pytest.mark.parametrize(
    ("loop", "count", "expected"),
    [
        (each(), 0, "start +lp =lp +end end COMPLETED"),
        (each(), 1, "start +lp lp.0 +end end COMPLETED"),
        (each(), 3, "start +lp lp.0 lp.1 lp.2 +end end COMPLETED"),
        (parallel(), 0, "start +lp =lp +end end COMPLETED"),
        (parallel(), 2, "start +lp lp.0 lp.1 +end end COMPLETED"),
        (parallel(limit=1), 2, "start +lp lp.0 lp.1 +end end COMPLETED"),
        (parallel(limit=9), 2, "start +lp lp.0 lp.1 +end end COMPLETED"),
        (parallel(limit=0), 2, "start +lp lp.0 lp.1 +end end COMPLETED"),
    ],
)
def test_loop(loop: Any, count: int, expected: str) -> None:
    driver = Driver(flow(LP, workload={"xs": list(range(count))}, loops={"lp": loop})).run()
    assert driver.flow() == expected.split()
    elements = driver.command("end").render_context["lp"]
    assert [e["context"]["result"]["context"]["data"] for e in elements] == [{"ok": "lp"}] * count


@given(st.integers(1, 12), st.integers(1, 5), st.data())
def test_max_in_flight_is_kept_and_used(count: int, limit: int, data: st.DataObject) -> None:
    driver = Driver(flow(LP, workload={"xs": list(range(count))}, loops={"lp": parallel(limit=limit)}))
    driver.complete("start")
    while driver.open[0].step == "lp":
        remaining = count - driver.state.steps["lp"].loop.completed  # pyright: ignore
        assert len(driver.open) == min(limit, remaining)
        command = driver.open[data.draw(st.integers(0, len(driver.open) - 1))]
        driver.complete(command, {"i": command.index})
    elements = driver.command("end").render_context["lp"]
    assert [element["context"]["result"]["context"]["data"]["i"] for element in elements] == list(range(count))
    assert [c.draft.render_context["it"] for c in driver.issued if c.step == "lp"] == list(range(count))


def test_empty_loops_pass_on_in_one_decision() -> None:
    graph = {"start": "a", "a": "b", "b": "c | d"}
    driver = Driver(flow(graph, workload={"xs": []}, loops={"a": each(), "b": parallel()}))
    decision = driver.complete("start")
    assert [(e.event_type, e.step) for e in decision.events] == [
        ("step.enter", "a"), ("step.exit", "a"), ("step.enter", "b"), ("step.exit", "b"),
        ("step.skipped", "d"), ("step.enter", "c"),
    ]  # fmt: skip
    assert decision.commands[0].render_context["a"] == [] == decision.commands[0].render_context["steps"]["b"]


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("u", "start +a +v a v +lp =lp +u u +w w +j j COMPLETED"),
        ("u ? false", "start +a +v a v +lp =lp -u +j j COMPLETED"),
    ],
)
def test_join_waits_for_what_an_empty_loop_leads_to_and_for_nothing_else(way: str, expected: str) -> None:
    graph = {"start": "a, v", "a": "lp", "lp": way, "u": "w", "w": "j", "v": "j"}
    driver = Driver(flow(graph, workload={"xs": []}, loops={"lp": each()}))
    driver.complete("start")
    driver.complete("v")
    assert driver.run().flow() == expected.split()


def test_empty_start_loop_goes_on_with_the_ids_of_the_run() -> None:
    graph = {"start": "a"}
    begun = start(
        flow(graph, workload={"xs": []}, loops={"start": each()}, tools={"a": {"x": "{{ execution_id }}"}}),
        {"q": 1}, execution_id=5, catalog_id=6, path="p",
    )  # fmt: skip
    assert begun.generated == 0
    assert [event.event_type for event in begun.decision.events] == ["step.enter", "step.exit", "step.enter"]
    assert begun.decision.commands[0].tool_config == {"x": 5}
    assert begun.decision.commands[0].render_context["q"] == 1
    assert begun.decision.terminal is None


def test_empty_start_loop_alone_ends_the_run() -> None:
    driver = Driver(flow({"start": None}, workload={"xs": []}, loops={"start": each()}))
    assert driver.flow() == "+start =start COMPLETED".split()


def test_start_that_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(TemplateFailure, match=r"^Template render error: unknown function: f is unknown"):
        Driver(flow({"start": None}, tools={"start": {"x": "{{ f() }}"}}))
    with pytest.raises(UnprocessableError, match=r"^start step loop.in must resolve to a JSON array, got: string$"):
        Driver(flow({"start": None}, workload={"xs": "a,b"}, loops={"start": each()}))


def test_sequential_loop_goes_on_with_what_the_arc_set(  # V9
) -> None:
    ways: dict[str, Any] = {"start": Next((Arc("lp", assignments={"ctx.items": "{{ start.found }}", "ctx.k": 7}),))}
    tools = {"lp": {"args": {"k": "{{ k }}"}}}
    driver = Driver(flow(ways, loops={"lp": each("{{ items }}")}, tools=tools)).run({"start": {"found": ["p", "q"]}})
    assert driver.flow() == "start +lp lp.0 lp.1 COMPLETED".split()
    assert driver.command("lp", 1).tool_config == {"args": {"k": 7, "it": "q", "_index": 1, "_total": 2}}


def test_iterator_may_hide_the_collection_it_goes_over() -> None:
    driver = Driver(flow(LP, workload={"it": [1, 2, 3]}, loops={"lp": each("{{ it }}")})).run()
    assert [command.draft.render_context["it"] for command in driver.issued if command.step == "lp"] == [1, 2, 3]


def test_pipeline_in_a_loop_gets_no_arguments() -> None:
    tools = {"lp": [{"one": {"kind": "python", "args": {"v": "{{ it }}"}, "code": "{{ _prev }}"}}]}
    driver = Driver(flow(LP, workload={"xs": [4]}, loops={"lp": each()}, tools=tools)).run()
    assert driver.command("lp").tool_config == [{"one": {"kind": "python", "args": {"v": 4}, "code": "{{ _prev }}"}}]


@pytest.mark.parametrize(("written", "rendered"), [("{{ it }}", 4), ("{{ missing }}", None), (["{{ it }}"], [4])])
def test_arguments_of_another_type_stay_untouched_in_a_loop(written: Any, rendered: Any) -> None:
    driver = Driver(flow(LP, workload={"xs": [4]}, loops={"lp": each()}, tools={"lp": {"args": written}})).run()
    assert driver.command("lp").tool_config == {"args": rendered}


def test_fan_in_into_a_loop_enters_it_once() -> None:  # D1
    graph = {"start": "a, b", "a": "lp", "b": "lp", "lp": None}
    driver = Driver(flow(graph, workload={"xs": [1, 2]}, loops={"lp": parallel()})).run()
    assert driver.flow() == "start +a +b a b +lp lp.0 lp.1 COMPLETED".split()


def test_two_loops_side_by_side() -> None:
    graph = {"start": "l, m", "l": "j", "m": "j", "j": None}
    playbook = flow(graph, workload={"xs": [1, 2], "ys": [3]}, loops={"l": each(), "m": each("{{ ys }}")})
    driver = Driver(playbook).run(choose=lambda count: count - 1)
    assert driver.flow() == "start +l +m l.0 m.0 l.1 +j j COMPLETED".split()


def test_loop_that_finds_less_than_it_was_entered_with_fails_clearly() -> None:
    driver = Driver(flow(LP, workload={"xs": [1, 2]}, loops={"lp": each()}))
    driver.complete("start")
    driver.append("step.enter", "lp", result={"context": {"iterations_expected": 5}})
    driver.complete("lp")
    driver.complete("lp")
    assert driver.ends()[0].meta["error"] == (
        "Orchestrator evaluate failed: Validation error: Loop of step 'lp' was entered with 5 items, and 2 are left"
    )


# -- failures ----------------------------------------------------------------------------------------------------------


def test_failing_iteration_ends_the_run_when_nothing_else_runs() -> None:
    driver = Driver(flow(LP, workload={"xs": [1, 2, 3]}, loops={"lp": parallel(limit=2)}))
    driver.complete("start")
    driver.fail("lp", index=1)
    assert driver.flow()[-1] == "FAILED"
    assert not driver.complete("lp", index=0).commands


def test_failing_iteration_beside_a_running_branch_stops_only_its_loop() -> None:
    graph = {"start": "lp, b", "lp": "j", "b": "c", "c": "j"}
    driver = Driver(flow(graph, workload={"xs": [1, 2, 3]}, loops={"lp": parallel(limit=2)}))
    driver.complete("start")
    driver.fail("lp", index=0)
    assert not driver.complete("lp", index=1).commands
    driver.run()
    assert driver.flow() == "start +lp +b lp.0 lp.1 b +c c +j j FAILED".split()
    assert driver.ends()[0].meta["failed_steps"] == ["lp"]


def test_failure_without_text_still_fails_the_run() -> None:  # V10
    driver = Driver(flow({"start": "a, b", "a": None, "b": None}))
    driver.complete("start")
    driver.fail("a", None)
    driver.complete("b")
    assert driver.ends()[0].meta["error"] == "Failed steps: a"


def test_failed_steps_are_named_in_workflow_order() -> None:
    driver = Driver(flow({"start": "a, b, c", "a": None, "b": None, "c": None}))
    driver.complete("start")
    for name in "cab":
        driver.fail(name)
    assert driver.ends()[0].meta["failed_steps"] == ["a", "b", "c"]


def test_error_in_an_expression_ends_the_run_though_others_work() -> None:
    driver = Driver(flow({"start": "a, b", "a": "c ? nofn()", "b": None}))
    driver.complete("start")
    decision = driver.complete("a")
    assert (decision.events, decision.commands) == ([], [])
    assert driver.flow()[-1] == "FAILED"
    assert driver.complete("b").terminal is None


@pytest.mark.parametrize(
    "end", ["playbook.completed", "playbook_failed", "playbook_cancelled", "playbook.cancelled", "execution.cancelled"]
)
def test_nothing_follows_an_ended_run(end: str) -> None:
    driver = Driver(flow({"start": "a", "a": None}))
    driver.append(end, "playbook")
    decision = driver.complete("start")
    assert (decision.events, decision.commands, decision.terminal) == ([], [], None)


def test_events_that_complete_nothing_decide_nothing() -> None:
    driver = Driver(flow({"start": "a"}))
    for event_type in ("call.done", "command.started", "step_running", "nonsense"):
        decision = driver.trigger(driver.append(event_type, "start"))
        assert (decision.events, decision.commands, decision.terminal) == ([], [], None)


def test_steps_that_the_playbook_does_not_have_change_nothing() -> None:  # H6
    driver = Driver(flow({"start": "a", "a": None}))
    driver.append("step.enter", "ghost")
    driver.append("command.started", "ghost")
    driver.append("command.failed", "phantom", result={"error": "no"})
    assert driver.run().flow() == "start +ghost +a a COMPLETED".split()


def test_running_steps_that_the_playbook_does_not_have_do_not_hold_a_failure() -> None:  # H6
    driver = Driver(flow({"start": None}))
    driver.append("command.started", "ghost")
    driver.fail("start")
    assert driver.flow()[-1] == "FAILED"


def test_run_of_which_only_the_start_event_is_left_begins_again() -> None:
    driver = Driver(flow({"start": "a", "a": None}))
    lost = driver.log[0]
    fresh = type(driver.state)(1, 2)
    fresh.apply(lost)
    trigger = Event(9, "command.completed", "ghost", log_position=9)
    fresh.apply(trigger)
    decision = advance(driver.playbook, fresh, trigger)
    assert [(event.event_type, event.step) for event in decision.events] == [("step.enter", "start")]
    assert [command.step for command in decision.commands] == ["start"]


def test_two_completions_in_one_batch_are_decided_once() -> None:
    driver = Driver(flow({"start": "a, b", "a": "j", "b": "j", "j": None}))
    driver.complete("start")
    triggers: list[Event] = []
    for name in "ab":
        command = driver.claim(name)
        driver.open.remove(command)
        payload = {"status": "success", "context": {"command_id": command.command_id}}
        triggers.append(driver.append("command.completed", name, result=payload))
    for trigger in triggers:
        driver.trigger(trigger)
    assert driver.run().flow() == "start +a +b a b +j j COMPLETED".split()


def test_held_arc_is_evaluated_again_with_what_is_known_then() -> None:
    graph = {"start": "a, b", "a": "j ? b is undefined | k", "b": "j", "j": None, "k": None}
    driver = Driver(flow(graph))
    driver.complete("start")
    driver.complete("a")
    driver.run()
    assert driver.flow() == "start +a +b a b -k +j j COMPLETED".split()
