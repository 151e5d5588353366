"""Executions of the reference server beside the same executions on ours: logs, commands, notifications, final state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden.engine_recording import engine_lines, in_reference_terms, load, patched, record
from tests.golden.scripted_worker import FOLDER, Case, ScriptedWorker, Stage, load_cases, open_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer

CASES = load_cases()
DEVIATIONS = (FOLDER.parents[2] / "docs" / "deviations.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
async def stages(make_server: MakeServer, database_url: str, nats: EmbeddedNats) -> AsyncIterator[dict[str, Stage]]:
    """One server for each setting of NOETL_LOOP_RESULTS, on the same database."""
    reference = await make_server({"NOETL_LOOP_RESULTS": "reference", "NOETL_SERVER_MACHINE_ID": "2"})
    repaired = await make_server({"NOETL_SERVER_MACHINE_ID": "3"})
    async with (
        open_stage(reference.url, database_url, nats.url) as first,
        open_stage(repaired.url, database_url, nats.url) as second,
    ):
        yield {"reference": first, "repaired": second}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_execution_is_that_of_the_reference(stages: dict[str, Stage], case: Case) -> None:
    stage = stages[case.loop_results]
    worker = ScriptedWorker(stage, case)
    await worker.play()
    ours = in_reference_terms(await record(stage, case, worker, order="log_position"))
    recorded = load(case.recording)
    expected = patched(recorded["reference"], recorded.get("ours", {}))
    if "log" in case.ours:
        assert engine_lines(ours) == case.ours["log"].splitlines()
    for part in {**expected, **ours}:
        assert ours.get(part) == expected.get(part), part


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_deviation_is_explained(case: Case) -> None:
    recorded = load(case.recording)
    assert bool(recorded.get("ours")) == bool(case.ours), "a recorded difference and a stated one come together"
    for reason in case.ours.get("why", []):
        assert f"| {reason} |" in DEVIATIONS


def test_cases_cover_the_oddities_of_the_contract() -> None:
    covered = {rule for case in CASES for rule in case.covers}
    oddities = {
        f"{letter}{number}" for letter, count in (("H", 8), ("D", 5), ("V", 13)) for number in range(1, count + 1)
    }
    # Not things of one scripted worker: silent workers, completions at the same time.
    assert oddities - {"H7", "D4"} <= covered
    assert len([case for case in CASES if case.name.startswith("linear_")]) >= 3


def test_every_recording_has_its_case() -> None:
    assert {file.stem for file in (FOLDER / "recorded").glob("*.json")} == {case.name for case in CASES}
