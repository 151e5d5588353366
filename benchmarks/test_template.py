"""The template engine on what playbooks hold most: lone references, short texts, conditions, whole tool configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl.engine.conditions import evaluate_condition
from noetl.engine.template import render_and_coerce, render_text, render_value
from noetl.engine.template.compiled import Template

if TYPE_CHECKING:
    from benchmarks.conftest import Measure

pytestmark = pytest.mark.benchmark(group="template")

CONTEXT: dict[str, Any] = {
    "step": {"field": 5, "data": {"rows": [{"a": number, "b": "x"} for number in range(10_000)]}},
    "name": "abc",
    "workload": {"k": 1},
}
CONFIG: dict[str, Any] = {
    "kind": "python",
    "code": "def main(a, b):\n    return a\n",
    "args": {"a": "{{ step.field }}", "b": "{{ name }}", "c": {"d": ["{{ workload.k }}", 1, None]}},
}


def test_lone_reference(measure: Measure) -> None:
    assert measure(render_and_coerce, "{{ step.field }}", CONTEXT, goal=3000) == 5


def test_lone_reference_to_ten_thousand_rows_copies_nothing(measure: Measure) -> None:
    rows = measure(render_and_coerce, "{{ step.data.rows }}", CONTEXT, goal=3000)
    assert rows is CONTEXT["step"]["data"]["rows"]


def test_text_with_two_references(measure: Measure) -> None:
    assert measure(render_text, "x={{ step.field }} y={{ name }}", CONTEXT, goal=10_000) == "x=5 y=abc"


def test_condition(measure: Measure) -> None:
    assert measure(evaluate_condition, "step.field > 3 and name == 'abc'", CONTEXT, goal=10_000)


def test_loop_over_a_hundred_rows(measure: Measure) -> None:
    measure(render_text, "{% for row in step.data.rows[:100] %}{{ row.a }},{% endfor %}", CONTEXT, goal=500_000)


def test_json_of_ten_thousand_rows(measure: Measure) -> None:
    measure(render_text, "{{ step.data.rows|tojson }}", CONTEXT, goal=150_000_000, calls=1)


def test_tool_config(measure: Measure) -> None:
    measure(render_value, CONFIG, CONTEXT, goal=25_000)


def test_compilation(measure: Measure) -> None:
    measure(Template, "{% for row in step.data.rows[:100] %}{{ row.a }},{% endfor %}", goal=500_000)
