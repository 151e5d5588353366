"""Replays what the reference made of some 700 templates (`tests/golden/record_templates.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from noetl.engine.template import TemplateError, render_pipeline, render_value

GOLDEN = Path(__file__).parents[2] / "golden" / "template"


def cases() -> list[Any]:
    parameters: list[Any] = []
    for path in sorted(GOLDEN.glob("*.json")):
        document = json.loads(path.read_text())
        for index, case in enumerate(document["cases"]):
            parameters.append(pytest.param(path.stem, document["context"], case, id=f"{path.stem}-{index}"))
    return parameters


def comparable(value: Any) -> Any:
    """Values with their types, except that a number beyond 64 bit may have lost its point on the way through jsonb."""
    if isinstance(value, list):
        return [comparable(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return (float, float(value))
    return (type(value), value)


def render(name: str, template: str, context: dict[str, Any]) -> Any:
    flat = {**context, "workload": context}
    if name == "pipeline":
        return render_pipeline([template], flat)[0]
    return render_value(template, flat)


@pytest.mark.parametrize(("name", "context", "case"), cases())
def test_template_yields_what_the_reference_yields(name: str, context: dict[str, Any], case: dict[str, Any]) -> None:
    expected = case.get("deviation", {key: case[key] for key in ("result", "error") if key in case})
    try:
        answer = {"result": render(name, case["template"], context)}
    except TemplateError as error:
        answer = {"error": str(error)}
    assert comparable(answer) == comparable(expected), case["template"]
