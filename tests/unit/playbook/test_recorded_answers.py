"""Every recorded playbook gets the reference's answer, or the one that is ours on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from noetl.engine.playbook import check_playbook, parse_playbook
from noetl.engine.playbook.yaml import MappingNode, YamlError, load_yaml, to_json
from noetl.errors import NoetlError

GOLDEN = Path(__file__).parents[2] / "golden" / "playbook"


def _cases(route: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(GOLDEN.glob("*.json"))
        for case in json.loads(path.read_text())
        if case["route"] == route
    ]


@pytest.mark.parametrize("case", _cases("execute"))
def test_execution_is_refused_or_accepted_like_recorded(case: dict[str, Any]) -> None:
    expected = case.get("ours", case)
    try:
        parse_playbook(case["text"])
        answer = (200, None)
    except NoetlError as error:
        answer = (error.status, error.message)
    assert answer == (expected["status"], expected["error"])
    problems = check_playbook(case["text"])
    assert (problems[0].status, problems[0].response) == answer if problems else answer == (200, None)


@pytest.mark.parametrize("case", _cases("execute"))
def test_workload_is_exported_like_recorded(case: dict[str, Any]) -> None:
    root = load_yaml(case["text"])
    assert isinstance(root, MappingNode)
    workload = root.get("workload")
    exported = None if workload is None else to_json(workload)
    assert (type(exported), exported) == (type(case["payload"]), case["payload"])


@pytest.mark.parametrize("case", _cases("register"))
def test_registration_is_refused_like_recorded(case: dict[str, Any]) -> None:
    if case["error"].startswith("Missing"):
        load_yaml(case["text"])
        return
    with pytest.raises(YamlError) as caught:
        load_yaml(case["text"])
    assert (caught.value.status, caught.value.message) == (case["status"], case["error"])
