"""Conditions and loop collections (spec 30, section 6)."""

from __future__ import annotations

from typing import Any

import pytest

from noetl.engine.conditions import (
    MAX_COUNTED_ITEMS,
    NotIterableError,
    evaluate_condition,
    loop_items,
    start_loop_items,
)
from noetl.engine.template import TemplateError
from noetl.errors import UnprocessableError

CONTEXT: dict[str, Any] = {
    "t": True,
    "f": False,
    "one": 1,
    "two": 2,
    "float": 1.0,
    "null": None,
    "yes": " Yes ",
    "text": "abc",
    "list": [1],
    "map": {"b": 1, "a": [2, None]},
    "rows": [{"x": 1}, None],
}


@pytest.mark.parametrize(
    "condition",
    ["t", "one", "'1'", "'yes'", "'YES'", "yes", "'true'", "'True'", "two > 1", "two == 2 and one", "{{ t }}",
     " {{ two > 1 }} ", "{% if t %}1{% endif %}{{ '' }}", "missing or t", "not missing", "text in ['abc']",
     "null is undefined"],
)  # fmt: skip
def test_condition_holds(condition: str) -> None:
    assert evaluate_condition(condition, CONTEXT) is True


@pytest.mark.parametrize(
    "condition",
    ["f", "0", "two", "float", "'on'", "'no'", "''", "null", "missing", "list", "[]", "map", "text", "one and two",
     "{{ two }} > 1", "{{ t }} and {{ f }}", "'{{ t }}'", "missing.x == 1", "null == none", "}} {{ f }}"],
)  # fmt: skip
def test_condition_does_not_hold(condition: str) -> None:
    assert evaluate_condition(condition, CONTEXT) is False


@pytest.mark.parametrize("condition", ["a ==", "nofn()", "text + 1", "{{ x|nope }}", ""])
def test_error_in_a_condition_is_raised(condition: str) -> None:
    with pytest.raises(TemplateError):
        evaluate_condition(condition, CONTEXT)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("{{ list }}", [1]),
        ("{{ rows }}", [{"x": 1}, None]),
        ("[1, 2]", [1, 2]),
        ("{{ map }}", [{"key": "a", "value": [2, None]}, {"key": "b", "value": 1}]),
        ("a, b\n c,,", ["a", "b", "c"]),
        ("workload.xs", ["workload.xs"]),
        ("{{ text }}", ["abc"]),
        ("3", [0, 1, 2]),
        ("{{ range(2) }}", [0, 1]),
        ("{{ list[1:] }}", []),
        ("0", []),
        ("-1", []),
        ("2.0", []),
    ],
)
def test_items_of_a_loop(text: str, items: list[Any]) -> None:
    assert loop_items(text, CONTEXT) == items


@pytest.mark.parametrize("text", ["{{ t }}", "{{ missing }}", "", "null", "false"])
def test_boolean_or_null_is_no_collection(text: str) -> None:
    with pytest.raises(NotIterableError) as caught:
        loop_items(text, CONTEXT)
    assert str(caught.value) == f"Validation error: Loop expression did not evaluate to an iterable: {text}"


def test_loop_over_a_huge_number_is_refused() -> None:
    with pytest.raises(TemplateError, match="exceeds the limit"):
        loop_items(str(MAX_COUNTED_ITEMS + 1), {})


def test_start_loop_takes_a_list_by_reference() -> None:
    assert start_loop_items("{{ rows }}", CONTEXT) is CONTEXT["rows"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{{ map }}", "object"),
        ("a,b", "string"),
        ("3", "number"),
        ("1.5", "number"),
        ("{{ t }}", "bool"),
        ("{{ missing }}", "null"),
    ],
)
def test_start_loop_refuses_everything_else(text: str, kind: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        start_loop_items(text, CONTEXT)
    assert str(caught.value) == f"start step loop.in must resolve to a JSON array, got: {kind}"
