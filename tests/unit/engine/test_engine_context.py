"""The render context: user data, precedence of names, shims, arc values."""

from __future__ import annotations

from typing import Any

import pytest

from noetl.engine.context import context_of_arc, flatten, start_context, start_workload, user_data
from noetl.engine.playbook.model import Arc, Next
from tests.unit.engine.driver import Driver
from tests.unit.engine.flows import each, flow


def done(tool: Any) -> dict[str, Any]:
    return {"status": "COMPLETED", "context": {"call_index": 0, "command_id": "c", "result": tool}}


def tool(data: Any) -> dict[str, Any]:
    return {"status": "success", "context": {"status": "success", "data": data}}


PIPELINE = {"one": {"v": 10}, "two": {"r": 10, "w": 11}}
FLAT = {**PIPELINE, "v": 10, "r": 10, "w": 11}
STDOUT = {"call_index": 0, "command_id": "c", "result": {"status": "success", "context": {"stdout": "x"}}}
PLAIN = {"command_id": "c", "f": 4}


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        (done(tool({"f": 1})), {"f": 1, "data": {"f": 1}}),
        (done(tool({"f": 1, "data": {"f": 2}})), {"f": 1, "data": {"f": 2}}),
        (done(tool(5)), 5),
        (done(tool([1, 2])), [1, 2]),
        (done(tool(None)), None),
        (done(tool({})), {"data": {}}),
        (done(tool(PIPELINE)), {**FLAT, "data": FLAT}),
        ({"status": "COMPLETED", "context": STDOUT}, {**STDOUT, "data": STDOUT}),
        ({"status": "success", "context": PLAIN}, {**PLAIN, "data": PLAIN}),
        ({"context": {"data": {"a": {"b": 1}}}}, {"a": {"b": 1}, "b": 1, "data": {"a": {"b": 1}, "b": 1}}),
        ({"status": "success", "context": {"data": None}}, None),
        ({"status": "success", "context": 5}, 5),
        ({"status": "success"}, {"status": "success", "data": {"status": "success"}}),
        ([1, {"a": 1}], [1, {"a": 1}]),
        ("text", "text"),
    ],
)  # fmt: skip
def test_user_data(stored: Any, seen: Any) -> None:
    assert user_data(stored) == seen


@pytest.mark.parametrize(
    ("value", "flat"),
    [
        ({"b": {"x": 1}, "a": {"x": 2}}, {"b": {"x": 1}, "a": {"x": 2}, "x": 1}),
        ({"a": {"a": 1}}, {"a": 1}),
        ({"a": {"x": 1}, "b": 5}, {"a": {"x": 1}, "b": 5}),
        ({"a": {}}, {"a": {}}),
        ({}, {}),
        ([{"a": 1}], [{"a": 1}]),
    ],
)
def test_flatten(value: Any, flat: Any) -> None:
    assert flatten(value) == flat


def test_payload_overlays_the_defaults_key_by_key() -> None:
    workload = start_workload({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"x": 9}, "workload": 5})
    assert workload == {"a": {"x": 9}, "b": 1, "workload": 5}
    context = start_context(workload)
    assert context["workload"] == workload
    assert context["workload"]["workload"] == 5
    assert set(context) == {"a", "b", "workload"}


def test_workload_that_is_no_mapping_is_ignored() -> None:
    playbook = flow({"start": "a"})
    playbook.workload = [1, 2]
    assert Driver(playbook, {"k": 1}).run().command("a").render_context["workload"] == {"k": 1}


def test_precedence_of_names() -> None:
    workload = {"start": "w", "steps": "w", "execution_id": "w", "path": "w", "k": "w", "version": "w"}
    driver = Driver(flow({"start": "k", "k": "steps", "steps": "z", "z": None}, workload=workload)).run()
    context = driver.command("z").render_context
    assert context["start"]["ok"] == "start"
    assert context["k"]["ok"] == "k"
    assert set(context["steps"]) == {"start", "k", "steps"}
    assert (context["execution_id"], context["catalog_id"], context["path"]) == ("900", "77", "t/flow")
    assert context["version"] == "w"
    assert driver.command("start").render_context["execution_id"] == "w"


def test_result_is_visible_before_its_step_is_done_and_failed_steps_have_none() -> None:
    driver = Driver(flow({"start": "a, b, c", "a": "d", "b": None, "c": None, "d": None}))
    driver.complete("start")
    driver.report(driver.claim("b"), {"early": 1})
    driver.fail("c")
    context = driver.complete("a").commands[0].render_context
    assert context["b"]["early"] == 1
    assert "c" not in context
    assert "c" not in context["steps"]


def test_shims_exist_only_in_tool_configs() -> None:
    ways: dict[str, Any] = {"start": Next((Arc("a", assignments={"got": "{{ ctx.k }}"}),)), "a": "b ? ctx.k == 1 | c"}
    tools = {"a": {"k": "{{ ctx.k }}", "w": "{{ workload.k }}", "s": "{{ ctx.start.ok }}", "got": "{{ got }}"}}
    driver = Driver(flow(ways, workload={"k": 1}, tools=tools)).run()
    assert driver.command("a").tool_config == {"k": 1, "w": 1, "s": "start", "got": None}
    assert "ctx" not in driver.command("a").render_context
    assert driver.flow() == "start +a a -b +c c COMPLETED".split()


def test_own_names_win_over_the_shims() -> None:
    driver = Driver(flow({"start": None}, workload={"ctx": {"k": 2}}, tools={"start": {"k": "{{ ctx.k }}"}}))
    assert driver.command("start").tool_config == {"k": 2}


def test_iteration_names_in_ctx() -> None:
    loops = {"start": each()}
    driver = Driver(flow({"start": None}, workload={"xs": [7]}, loops=loops, tools={"start": {"i": "{{ ctx.it }}"}}))
    assert driver.command("start").tool_config == {"i": 7, "args": {"it": 7, "_index": 0, "_total": 1}}


def test_set_values_do_not_see_each_other() -> None:
    arc = Arc("a", assignments={"ctx.x": 1, "y": "{{ x }}", "ctx.a.b": 2, "other.z": [3, "{{ k }}"], "step": 4})
    context = {"k": 5}
    assert context_of_arc(arc, context, []) == {"k": 5, "x": 1, "y": None, "a.b": 2, "other.z": [3, 5], "step": 4}
    assert context == {"k": 5}


def test_contexts_are_never_changed_after_they_were_given_out() -> None:
    driver = Driver(flow({"start": "a", "a": "b", "b": None}))
    driver.complete("start")
    command = driver.command("a")
    before = repr(command)
    driver.run({"a": {"x": 1}})
    assert repr(command) == before
