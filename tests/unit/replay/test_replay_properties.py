"""Laws of the replay: pages and snapshots do not show, order of arrival does not, checksums are over the answer."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noetl.engine.replay import (
    ReplayEvent,
    ReplayFold,
    ReplayIdentity,
    SnapshotSeed,
    dump_state,
    load_state,
    replay,
    state_parts,
)
from noetl.engine.replay.serialization import PIECE, RUN
from tests.golden.replay_logs import random_log

if TYPE_CHECKING:
    from noetl.engine.replay import ReplayState

IDENTITY = ReplayIdentity(7, "t", "o", "stage")
PROJECTED = {
    "business_object": "business_objects", "command": "commands", "execution": "execution", "frame": "frames",
    "loop": "loops", "stage": "stages",
}  # fmt: skip


def log(seed: int, length: int = 25) -> list[ReplayEvent]:
    chance = random.Random(seed)
    events: list[ReplayEvent] = []
    for entry in random_log(chance, length):
        result = entry.pop("result", None)
        entry["meta"] = json.dumps(entry["meta"])
        reference = json.dumps(result["reference"]) if result and "reference" in result else None
        text_ids: dict[str, Any] = {"stage_id": chance.choice(["1", "x"])} if chance.random() < 0.2 else {}
        events.append(ReplayEvent(**entry, **text_ids, reference=reference))
    return events


def large_state() -> ReplayState:
    """Many entries of every kind, ids out of order, and one business object with a long history."""
    numbers = list(range(3 * RUN))
    random.Random(3).shuffle(numbers)
    events = [
        ReplayEvent(
            number,
            "command.completed",
            status="é",
            command_id=number,
            stage_id=f"s{number % 50}",
            frame_id=f"f{number}",
            meta=json.dumps(
                {
                    "loop_id": f"\uffff{number}" if number % 2 else f"\U00010000{number}",
                    "business_object": {"type": "t", "id": number % 3, "patch": {f"k{number}": number / 7}},
                }
            ),
            reference=json.dumps({"ref": f"r{number}", "b": 1e22, "a": None}),
        )
        for number in numbers
    ]
    return replay(events, IDENTITY)


@settings(deadline=None)
@given(st.integers(0, 10**9), st.lists(st.integers(0, 25), max_size=3), st.booleans())
def test_replay_on_top_of_snapshots_equals_replay_in_one_go(seed: int, cuts: list[int], through_json: bool) -> None:
    events = log(seed)
    state: ReplayState | None = None
    bounds = [0, *sorted(cuts), len(events)]
    for begin, end in itertools.pairwise(bounds):
        if state is not None and through_json:
            state = load_state(dump_state(state))
        state = replay(events[begin:end], IDENTITY, base_state=state)
    assert state is not None
    assert dump_state(state) == dump_state(replay(events, IDENTITY))


@settings(deadline=None)
@given(st.integers(0, 10**9), st.randoms())
def test_order_of_arrival_does_not_matter(seed: int, chance: random.Random) -> None:
    events = log(seed)
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert dump_state(replay(shuffled, IDENTITY)) == dump_state(replay(events, IDENTITY))


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_state_that_was_settled_before_the_end_goes_on(seed: int) -> None:
    events = log(seed)
    fold = ReplayFold(IDENTITY)
    for event in events:
        fold.extend([event])
        for _ in fold.settle():
            pass
    assert dump_state(fold.state) == dump_state(replay(events, IDENTITY))


def assert_checksums_match(text: bytes) -> None:
    answer = orjson.loads(text)
    checksum = answer.pop("checksum")

    def digest(value: Any) -> dict[str, str]:
        canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return {"type": "sha256", "value": hashlib.sha256(canonical).hexdigest()}

    assert answer["projection_checksums"] == {name: digest(answer[part]) for name, part in PROJECTED.items()}
    assert checksum == digest(answer)


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_checksums_are_over_the_canonical_answer(seed: int) -> None:
    assert_checksums_match(dump_state(replay(log(seed), IDENTITY)))


def test_large_state_is_written_in_small_pieces_that_make_up_the_same_text() -> None:
    state = large_state()
    parts = list(state_parts(state))
    text = b"".join(parts)
    assert_checksums_match(text)
    answer = json.loads(text)
    for part in ("stages", "frames", "commands", "business_objects", "loops"):
        assert list(answer[part]) == sorted(answer[part], key=str.encode)
    for entry in answer["business_objects"].values():
        assert list(entry["attributes"]) == sorted(entry["attributes"], key=str.encode)
        assert len(entry["attributes"]) > PIECE
    assert len(parts) > len(state.commands) / PIECE
    assert max(map(len, parts)) < 1000 * PIECE


def test_base_state_is_not_changed() -> None:
    events = log(5)
    base = replay(events[:12], IDENTITY)
    before = dump_state(base)
    replay(events[12:], ReplayIdentity(8), base_state=base)
    assert dump_state(base) == before


def test_caller_names_the_identity_and_not_the_base_state() -> None:
    base = replay(log(5), IDENTITY)
    state = replay([], ReplayIdentity(8), base_state=base)
    assert (state.execution_id, state.tenant_id, state.organization_id, state.projection) == (
        8,
        "default",
        "default",
        "all",
    )
    assert state.event_count == base.event_count
    assert state.checksum != base.checksum


def test_snapshot_is_named_in_the_state_and_in_its_checksum() -> None:
    seed = SnapshotSeed("7", "execution", 3, {"value": "c", "type": "sha256"}, {"event_count": 9}, {"b": 1, "a": 2.0})
    state = replay([], IDENTITY, snapshot_seed=seed, upcaster_registry_digest="d")
    text = dump_state(state)
    assert b'"loops":{},"upcaster_registry_digest":"d","replay_snapshot":' in text
    assert b'{"aggregate_id":"7","aggregate_type":"execution","version":3,"checksum":{"type":"sha256","value":"c"},"meta":{"a":2.0,"b":1}}' in text  # fmt: skip  # noqa: E501
    assert state.event_count == 0
    assert_checksums_match(text)


@pytest.mark.parametrize(("given_digest", "expected"), [(None, "old"), ("new", "new")])
def test_digest_of_the_base_state_stays_unless_another_is_given(given_digest: str | None, expected: str) -> None:
    base = replay([], IDENTITY, upcaster_registry_digest="old")
    state = replay([], IDENTITY, base_state=base, upcaster_registry_digest=given_digest)
    assert state.upcaster_registry_digest == expected
