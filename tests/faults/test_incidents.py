"""docs/incidents.md names tests that exist, for every incident."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.mutations import MUTATIONS

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (I\d+) \|.*\|(.*)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[^`:]+)::(\w+)`")
ROWS = dict(ROW.findall((ROOT / "docs" / "incidents.md").read_text()))


def test_every_incident_has_a_row() -> None:
    assert list(ROWS) == [f"I{number}" for number in range(1, 27)]


def test_named_tests_exist() -> None:
    for incident, cell in ROWS.items():
        tests = TEST.findall(cell)
        assert tests, incident
        for file, name in tests:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"


def test_protections_are_taken_out_of_incidents_with_their_tests() -> None:
    for incident, mutation in MUTATIONS.items():
        file = mutation.test.partition("::")[0]
        assert f"`{file}::" in ROWS[incident], incident
