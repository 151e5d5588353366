"""The fold beside the answers that the reference gave for the same rows, checksums included."""

from __future__ import annotations

import random
from urllib.parse import parse_qsl

import pytest

from noetl.engine.replay import ReplayIdentity, dump_state, load_state, replay
from tests.golden.replay_cases import Case, cases


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in cases("rules", "random", "empty", "executed")]
)
def test_state_and_checksums_are_those_of_the_reference(case: Case) -> None:
    events = [row.event() for row in case.events]
    random.Random(1).shuffle(events)
    for answer in case.answers:
        last = int(dict(parse_qsl(answer.query)).get("as_of_event_id", 2**63))
        state = replay([event for event in events if event.event_id <= last], ReplayIdentity(case.execution_id))
        assert dump_state(state) == answer.content, answer.query
        assert dump_state(load_state(answer.content)) == answer.content
