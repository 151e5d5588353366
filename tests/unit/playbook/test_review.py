"""The review of a document: every problem, and what is accepted but hardly meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from noetl.engine.playbook import check_playbook, review_document

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: n, path: a/n}\n"


def remarks(workflow: str, head: str = HEAD) -> list[tuple[str | None, str, str]]:
    """Step, field and the beginning of the message of each warning about an acceptable playbook."""
    review = review_document(head + workflow)
    assert review.problems == []
    return [(warning.step, warning.field, warning.message) for warning in review.warnings]


def one_step(rest: str) -> str:
    return f"workflow:\n- step: start\n  tool: {{kind: noop}}\n  {rest}\n"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_is_said_about_the_examples(path: Path) -> None:
    review = review_document(path.read_text())
    assert (review.path, review.kind) == (f"examples/{path.stem}", "Playbook")
    assert (review.problems, review.warnings) == ([], [])


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "golden" / "playbook").glob("*.json")), ids=lambda p: p.stem)
def test_problems_are_those_that_execution_reports(path: Path) -> None:
    for case in json.loads(path.read_text()):
        review = review_document(case["text"])
        assert review.problems[-len(check_playbook(case["text"])) or len(review.problems) :] == check_playbook(
            case["text"]
        )
        assert len(review.problems) - len(check_playbook(case["text"])) in {0, 1}, "one more is registration's"


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("set: {a: 1}", ("start", "workflow[0].set", "unknown field `set` is ignored (known: step, desc, ")),
        ("loop: {in: x, iterator: i, mode: parallel}", ("start", "workflow[0].loop.mode", "unknown field `mode` is")),
        ("next: {arcs: [{step: start, args: {}}]}", ("start", "workflow[0].next.arcs[0].args", "unknown field `args`")),
        ("next: [{step: start, set: {}}]", ("start", "workflow[0].next[0].set", "unknown field `set` is ignored")),
        ("vars: {a: 1}", ("start", "workflow[0].vars", "`vars` has no effect")),
        ("spec: {timeout: 5s}", ("start", "workflow[0].spec.timeout", "`spec.timeout` has no effect")),
        ("spec: {on_error: x}", ("start", "workflow[0].spec.on_error", "`spec.on_error` has no effect")),
        ("when: 'true'", ("start", "workflow[0].when", "`when` of the start step is never looked at")),
        (
            "loop: {in: x, iterator: i, spec: {max_in_flight: 2}}",
            ("start", "workflow[0].loop.spec.max_in_flight", "`max_in_flight` needs `mode: parallel`"),
        ),
        (
            "spec: {next_mode: all}\n  next: [{step: start}]",
            ("start", "workflow[0].spec.next_mode", "mode `all` is unknown and counts as `exclusive`"),
        ),
        (
            "next: {spec: {mode: all}, arcs: [{step: start}]}",
            ("start", "workflow[0].next.spec.mode", "mode `all` is unknown and counts as `exclusive`"),
        ),
        (
            "next: [{step: start, when: 'a =='}]",
            ("start", "workflow[0].next[0]", "the condition cannot be evaluated: "),
        ),
        ("next: {arcs: [{step: start, set: {a: ['{{']}}]}", None),
        (
            "next: {arcs: [{step: start, set: {a: ['{{ }}']}}]}",
            ("start", "workflow[0].next.arcs[0].set.a[0]", "the template cannot be rendered: "),
        ),
        ("loop: {in: '{{ a b }}', iterator: i}", ("start", "workflow[0].loop.in", "the template cannot be rendered: ")),
        ("desc: '{{'", None),
    ],
)
def test_what_is_hardly_meant_is_a_warning(rest: str, expected: tuple[str, str, str] | None) -> None:
    found = remarks(one_step(rest))
    if expected is None:
        assert found == []
        return
    assert [(step, field) for step, field, _ in found] == [expected[:2]]
    assert found[0][2].startswith(expected[2])


@pytest.mark.parametrize(
    ("head", "field"),
    [
        ("executor: {}\n", "executor"),
        ("vars: {a: 1}\n", "vars"),
        ("workload: [1]\n", "workload"),
        ("workload:\n", None),
    ],
)
def test_fields_of_the_document_without_effect_are_named(head: str, field: str | None) -> None:
    found = remarks(one_step("desc: d"), HEAD + head)
    assert [(step, place) for step, place, _ in found] == ([] if field is None else [(None, field)])


def test_templates_of_tools_are_parsed_wherever_they_are() -> None:
    text = (
        "workflow:\n"
        "- step: start\n"
        "  tool:\n"
        "  - one: {kind: python, code: 'x = {{ a b }}', args: {'{{ k': 1}}\n"
        "  - {kind: noop, name: two, more: [{deep: '{% if %}'}]}\n"
    )
    assert [field for _, field, _ in remarks(text)] == [
        "workflow[0].tool[0].one.code",
        "workflow[0].tool[1].more[0].deep",
    ]


def test_a_repeated_part_is_looked_at_once() -> None:
    text = "workload: {v: &x '{{ a b }}'}\n" + one_step("desc: d").replace("noop}", "noop, a: *x, b: [*x, *x]}")
    assert [field for _, field, _ in remarks(text)] == ["workflow[0].tool.a"]


def test_templates_beyond_all_measure_are_not_checked_and_that_is_said() -> None:
    values = ", ".join(f"'{{{{ a b {number} }}}}'" for number in range(4000))
    found = remarks(one_step("desc: d").replace("noop}", f"noop, x: [{values}]}}"))
    assert 100 < len(found) < 4000
    assert found[-1][2].startswith("the document has so many templates")
    assert {message.partition(":")[0] for _, _, message in found[:-1]} == {"the template cannot be rendered"}


def test_steps_that_nothing_leads_to_are_named() -> None:
    text = (
        "workflow:\n"
        "- {step: start, tool: {kind: noop}, next: a}\n"
        "- {step: a, tool: {kind: noop}}\n"
        "- {step: b, tool: {kind: noop}, next: c}\n"
        "- {step: c, tool: {kind: noop}, next: b}\n"
    )
    assert [(step, message) for step, _, message in remarks(text)] == [
        ("b", "no way leads from 'start' to step 'b'"),
        ("c", "no way leads from 'start' to step 'c'"),
    ]


@pytest.mark.parametrize(
    ("next_", "is_dead"),
    [
        ("[{step: a}, {step: b}]", True),
        ("[{step: a, when: x}, {step: b}]", False),
        ("[a, b]", False),
        ("{spec: {mode: inclusive}, arcs: [{step: a}, {step: b}]}", False),
        ("{arcs: [{step: a}, {step: b, when: x}]}", True),
    ],
)
def test_an_arc_behind_one_that_is_always_taken_is_named(next_: str, is_dead: bool) -> None:
    tool = "tool: {kind: noop}"
    text = f"workflow:\n- {{step: start, {tool}, next: {next_}}}\n- {{step: a, {tool}}}\n- {{step: b, {tool}}}\n"
    found = [message for _, _, message in remarks(text)]
    assert found == (["the arc to 'b' is never taken: the one to 'a' always is"] if is_dead else [])


def test_a_target_that_is_none_is_a_problem_and_nothing_else() -> None:
    review = review_document(HEAD + one_step("next: [{step: start, when: true}]"))
    assert ([problem.field for problem in review.problems], review.warnings) == (["workflow[0].next[0]"], [])


def test_warnings_come_in_the_order_of_the_lines_beside_problems() -> None:
    review = review_document(
        f"{HEAD}x: 1\nworkflow:\n- step: start\n  set: 1\n- step: b\n  tool: {{kind: noop, y: '{{{{ }}}}'}}\n"
    )
    assert [problem.field for problem in review.problems] == ["workflow[0]"]
    assert [(warning.step, warning.line) for warning in review.warnings] == [(None, 4), ("start", 7), ("b", 9)]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("metadata: {path: a}", [f"missing field `{name}`" for name in ("name", "apiVersion", "kind", "workflow")]),
        ("kind: Credential", ["Missing 'metadata' section"]),
        ("kind: playbook\nmetadata: 5", [
            "invalid type: integer `5`, expected struct Metadata", "missing field `apiVersion`",
            "missing field `workflow`", "Invalid kind: playbook. Expected Playbook",
        ]),
        ("kind: Credential\nmetadata: {name: 5}", ["Missing 'path' or 'name' in metadata"]),
        ("kind: Credential\nmetadata: {path: ''}", ["metadata.path must not be empty"]),
        ("kind: Credential\nmetadata: {path: a}", []),
        (HEAD.replace("kind: Playbook", "kind: Job") + one_step("desc: d"), ["Invalid kind: Job. Expected Playbook"]),
        (HEAD.replace("name: n, path: a/n", "name: 5") + one_step("desc: d"), ["Missing 'path' or 'name' in metadata"]),
    ],
)  # fmt: skip
def test_registration_has_its_own_demands(text: str, messages: list[Any]) -> None:
    assert [problem.message for problem in review_document(text).problems] == messages
