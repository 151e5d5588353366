"""The parity fixture: the fold beside the state that an independent generator expects (spec 15, section 8.4)."""

from __future__ import annotations

import json
from typing import Any

from noetl.engine.replay import ReplayEvent, ReplayIdentity, dump_state, replay
from tests.golden.replay_generator import FOLDER, generate, text

EVENTS: list[dict[str, Any]] = json.loads((FOLDER / "events.json").read_text())
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text())

COMPARED = {
    "stages": ["stage_id", "status", "opened_event_id", "closed_event_id"],
    "frames": ["frame_id", "status", "row_count", "events_emitted", "output_ref"],
    "commands": ["command_id", "status", "issued_event_id", "terminal_event_id"],
    "business_objects": ["object_key", "object_type", "object_id", "status", "version", "event_count", "attributes"],
    "loops": ["loop_id", "done", "failed", "completed", "total"],
}


def loaded(entry: dict[str, Any]) -> ReplayEvent:
    """An event of the fixture: its result becomes the reference in it."""
    members = {name: value for name, value in entry.items() if name != "result" and value is not None}
    members["meta"] = json.dumps(entry["meta"])
    members["reference"] = json.dumps((entry["result"] or {}).get("reference"))
    return ReplayEvent(**members)


def replayed() -> dict[str, Any]:
    return json.loads(dump_state(replay(map(loaded, EVENTS), ReplayIdentity(999))))


def test_generator_gives_the_expected_state_byte_for_byte() -> None:
    assert text(generate(EVENTS)) == (FOLDER / "expected.json").read_text()


def test_fixture_has_every_part() -> None:
    assert all(EXPECTED[part] for part in COMPARED)


def test_fold_agrees_with_the_generator() -> None:
    state = replayed()
    for name in ("event_count", "last_event_id", "last_event_type"):
        assert state[name] == EXPECTED[name]
    for name in ("status", "last_node_name"):
        assert state["execution"].get(name) == EXPECTED["execution"][name]
    assert [
        {name: entry[name] for name in ("event_id", "reference")} for entry in state["execution"]["payload_refs"]
    ] == EXPECTED["execution"]["payload_refs"]
    for part, names in COMPARED.items():
        assert state[part].keys() == EXPECTED[part].keys()
        for key, expected in EXPECTED[part].items():
            found = state[part][key]
            assert {name: found.get(name) for name in names} == {name: expected.get(name) for name in names}


def test_payloads_of_business_objects_agree_with_the_generator() -> None:
    def compared(objects: dict[str, Any]) -> list[Any]:
        return [
            (
                key, payload["event_id"], payload["reference"],
                payload["summary"].get("sha256"), payload["summary"].get("ref"),
            )
            for key, entry in sorted(objects.items())
            for payload in entry["payload_refs"]
        ]  # fmt: skip

    found = compared(replayed()["business_objects"])
    assert found
    assert found == compared(EXPECTED["business_objects"])
