"""What a valid playbook becomes, and what is reported about an invalid one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.engine.playbook import check_playbook, parse_playbook
from noetl.engine.playbook.model import KeychainEntry, LoopMode, NextMode, Playbook
from noetl.errors import NoetlError, PlaybookSyntaxError, UnprocessableError

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: n, path: p/n}\n"
NOOP = "tool: {kind: noop}"


def _playbook(workflow: str, top: str = "") -> Playbook:
    return parse_playbook(f"{HEAD}{top}workflow:\n{workflow}")


def _config(tool: str, top: str = "") -> Any:
    return _playbook(f"- {{step: start, tool: {tool}}}\n", top).steps["start"].tool_config


def test_tool_config_has_known_fields_without_null_and_other_keys_with_it() -> None:
    config = _config(
        "{kind: http, url: u, headers: {A: '1'}, params: {q: .5, z: null}, auth: null, input: {e: null},"
        " json: null, n: 18446744073709551615, timeout: 1.0, i: .inf}"
    )
    assert config == {
        "url": "u",
        "headers": {"A": "1"},
        "params": {"q": 0.5, "z": None},
        "args": {"e": None},
        "json": None,
        "n": 18446744073709551615,
        "timeout": 1.0,
        "i": None,
    }
    assert _config("{kind: noop}") == {}


def test_eval_is_passed_on_with_every_optional_field() -> None:
    config = _config(
        "{kind: noop, eval: [{do: retry, delay: 1, attempts: 3, expr: x, foo: 1}, {else: {do: fail}},"
        " {do: jump, target: t, backoff: linear, set_vars: {a: [1]}}, {else: {do: fail, set_vars: {b: 2}}}]}"
    )
    nothing = dict.fromkeys(("expr", "delay", "target", "backoff", "attempts", "set_vars"))
    assert config["eval"] == [
        {**nothing, "do": "retry", "delay": 1.0, "attempts": 3, "expr": "x"},
        {"else": {"do": "fail", "set_vars": None}},
        {**nothing, "do": "jump", "target": "t", "backoff": "linear", "set_vars": {"a": [1]}},
        {"else": {"do": "fail", "set_vars": {"b": 2}}},
    ]
    assert isinstance(config["eval"][0]["delay"], float)


def test_pipeline_mixes_flat_and_nested_tasks() -> None:
    step = _playbook(
        "- step: start\n  tool: [{kind: noop, name: a, x: 1}, {b: {kind: rhai, input: 5}}, {kind: noop, name: 7},"
        " {kind: {kind: noop}}]\n"
    ).steps["start"]
    assert step.is_pipeline
    assert step.tool_kind == "task_sequence"
    assert step.tool_config == [
        {"a": {"kind": "noop", "name": "a", "x": 1}},
        {"b": {"kind": "rhai", "args": 5}},
        {"": {"kind": "noop", "name": 7}},
        {"kind": {"kind": "noop"}},
    ]


WORKBOOK = """workbook:
- {name: w, tool: {kind: noop, foo: 1}}
- {name: w, tool: {kind: python, code: 5, auth: {0x10: 5}, args: {a: 1, b: 2}, name: inner}}
- {name: list, tool: {kind: rhai, args: [1]}}
"""


@pytest.mark.parametrize(
    ("reference", "kind", "args"),
    [
        ("name: w", "python", {"a": 1, "b": 2}),
        ("name: w, input: {b: 3, c: 4}, auth: lost, timeout: 5", "python", {"a": 1, "b": 3, "c": 4}),
        ("name: w, args: [1]", "python", [1]),
        ("name: w, args: null", "python", {"a": 1, "b": 2}),
        ("name: list, args: {a: 2}", "rhai", {"a": 2}),
    ],
)
def test_workbook_reference_is_replaced_and_keeps_its_arguments(reference: str, kind: str, args: Any) -> None:
    step = _playbook(f"- {{step: start, tool: {{kind: workbook, {reference}}}}}\n", WORKBOOK).steps["start"]
    assert step.tool_kind == kind
    inner = {"code": "5", "auth": {"0x10": 5}, "name": "inner"} if kind == "python" else {}
    assert step.tool_config == {**inner, "args": args}


def test_workbook_reference_in_a_pipeline_is_replaced() -> None:
    config = _config("[{kind: workbook, name: list}, {x: {kind: workbook, name: list, args: 5}}]", WORKBOOK)
    assert config == [{"list": {"kind": "rhai", "args": [1]}}, {"x": {"kind": "rhai", "args": 5}}]


@pytest.mark.parametrize(
    ("text", "mode", "arcs"),
    [
        ("a", NextMode.INCLUSIVE, [("a", None, None, None)]),
        ("[a, b]", NextMode.INCLUSIVE, [("a", None, None, None), ("b", None, None, None)]),
        ("[{step: a, when: x, args: {k: '{{ v }}'}}]", NextMode.EXCLUSIVE, [("a", "x", {"k": "{{ v }}"}, None)]),
        ("[{step: a}]\n  spec: {next_mode: Inclusive}", NextMode.INCLUSIVE, [("a", None, None, None)]),
        ("{arcs: [{step: b, set: {ctx.v: 1}}]}", NextMode.EXCLUSIVE, [("b", None, None, {"ctx.v": 1})]),
        ("{spec: {mode: INCLUSIVE}, arcs: [{step: b}]}", NextMode.INCLUSIVE, [("b", None, None, None)]),
        (
            "{spec: {mode: other}, arcs: [{step: b}]}\n  spec: {next_mode: inclusive}",
            NextMode.EXCLUSIVE,
            [("b", None, None, None)],
        ),
        ("{arcs: [{step: b}]}\n  spec: {next_mode: inclusive}", NextMode.INCLUSIVE, [("b", None, None, None)]),
    ],
)
def test_forms_of_next(text: str, mode: NextMode, arcs: list[Any]) -> None:
    playbook = _playbook(f"- step: start\n  {NOOP}\n  next: {text}\n- {{step: a, {NOOP}}}\n- {{step: b, {NOOP}}}\n")
    following = playbook.steps["start"].next
    assert following is not None
    assert following.mode is mode
    assert [(arc.target, arc.when, arc.arguments, arc.assignments) for arc in following.arcs] == arcs


@pytest.mark.parametrize("text", ["[]", "{}", "{arcs: []}", "null", ""])
def test_next_without_arcs_is_no_next(text: str) -> None:
    assert _playbook(f"- step: start\n  {NOOP}\n  next: {text}\n").steps["start"].next is None


@pytest.mark.parametrize("text", ["{step: a}", "[{step: a, when: true}]", "[{when: x}]", "{spec: {mode: inclusive}}"])
def test_next_that_would_lose_its_transitions_is_refused_naming_the_step(text: str) -> None:
    with pytest.raises(UnprocessableError, match=r"Step 'start': next.* would have no transition"):
        _playbook(f"- step: start\n  {NOOP}\n  next: {text}\n- {{step: a, {NOOP}}}\n")


def test_graph_has_distinct_neighbours() -> None:
    playbook = _playbook(
        f"- {{step: start, {NOOP}, next: [{{step: a, when: x}}, {{step: a}}, {{step: b}}]}}\n"
        f"- {{step: a, {NOOP}, next: b}}\n- {{step: b, {NOOP}}}\n"
    )
    assert playbook.downstream == {"start": ("a", "b"), "a": ("b",), "b": ()}
    assert playbook.upstream == {"start": (), "a": ("start",), "b": ("start", "a")}


def test_scalars_outside_of_tool_and_next_keep_their_source_text() -> None:
    playbook = _playbook(
        f"- {{step: start, {NOOP}}}\n- {{step: 0x1F, when: True, desc: null, {NOOP}, args: {{0x10: 1, null: .inf}}}}\n"
        f"- {{step: null, {NOOP}, loop: {{in: 010, iterator: 1.50}}}}\n"
    )
    assert list(playbook.steps) == ["start", "0x1F", "null"]
    assert playbook.steps["0x1F"].when == "True"
    assert playbook.steps["0x1F"].args == {"0x10": 1, "null": None}
    loop = playbook.steps["null"].loop
    assert loop is not None
    assert (loop.collection, loop.iterator, loop.mode, loop.max_in_flight) == ("010", "1.50", LoopMode.SEQUENTIAL, None)


def test_loop_keeps_mode_and_limit() -> None:
    loop = "{in: '{{ xs }}', iterator: it, spec: {mode: parallel, max_in_flight: 3}}"
    step = _playbook(f"- step: start\n  {NOOP}\n  loop: {loop}\n").steps["start"]
    assert step.loop is not None
    assert (step.loop.mode, step.loop.max_in_flight) == (LoopMode.PARALLEL, 3)


def test_document_level_values() -> None:
    playbook = _playbook(
        f"- {{step: start, {NOOP}}}\n",
        "workload: {a: .inf, 2: [x, {b: null}]}\n"
        "keychain:\n- {name: k, credential: 5, map: {a: 1}, residency: strict, allowed_regions: [eu], auto_renew: true,"
        " ttl: 9}\n- {name: l}\n",
    )
    assert (playbook.name, playbook.metadata_path, playbook.pool_segment) == ("n", "p/n", "shared")
    assert playbook.workload == {"a": None, "2": ["x", {"b": None}]}
    assert playbook.keychain == (
        KeychainEntry(
            "k",
            credential="5",
            map={"a": "1"},
            residency="strict",
            allowed_regions=("eu",),
            auto_renew=True,
            extra={"ttl": 9},
        ),
        KeychainEntry("l"),
    )


def test_check_reports_every_problem_with_its_place() -> None:
    problems = check_playbook(
        "apiVersion: noetl.io/v1\n"
        "kind: Playbook\n"
        "metadata: {name: n}\n"
        "workflow:\n"
        "- step: start\n"
        "  tool: {kind: noop, code: 5, url: [x]}\n"
        "  desc: [d]\n"
        "- step: a\n"
        "  when: ''\n"
        "  tool: {kind: noop}\n"
        "  next: [start, zz]\n"
        "- step: b\n"
        "  case: []\n"
        "  loop: {in: 'x', spec: {mode: cursor}}\n"
    )
    assert [(p.step, p.field, p.line, p.column, p.status) for p in problems] == [
        ("b", "workflow[2].case", 13, 9, 422),
        ("start", "workflow[0].tool.code", 6, 28, 400),
        ("start", "workflow[0].tool.url", 6, 36, 400),
        ("start", "workflow[0].desc", 7, 9, 400),
        ("b", "workflow[2].loop.spec.mode", 14, 32, 400),
        ("b", "workflow[2].loop", 14, 9, 400),
        ("b", "workflow[2]", 12, 3, 400),
        (None, "apiVersion", 1, 13, 422),
        ("a", "workflow[1].when", 9, 9, 422),
        ("a", "workflow[1].next[1]", 11, 17, 422),
    ]
    assert problems[1].message == "invalid type: integer `5`, expected a string"
    assert problems[1].response.startswith(
        "workflow[0]: data did not match any variant of untagged enum ToolDefinition"
    )
    assert problems[9].message == "Step 'a' references unknown step 'zz' in next"


def test_syntax_error_names_line_and_column() -> None:
    with pytest.raises(PlaybookSyntaxError, match="line 2 column 1"):
        parse_playbook("a: [1")
    assert [(p.line, p.column, p.status) for p in check_playbook("a: [1")] == [(2, 1, 400)]


@given(st.text(alphabet=st.sampled_from(list("ab:-[]{}'\"&*!|>%#,?\n\t 015.~\0\ufeff")), max_size=60))
def test_any_text_is_parsed_or_refused_with_the_first_problem(text: str) -> None:
    playbook = f"{HEAD}workflow: [{{step: start, tool: {{kind: noop, x: {text}}}}}]\n"
    answer: list[tuple[int, str]] = []
    try:
        parse_playbook(playbook)
    except NoetlError as error:
        answer = [(error.status, error.message)]
    assert [(problem.status, problem.response) for problem in check_playbook(playbook)[:1]] == answer
