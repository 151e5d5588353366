"""What the database cannot hold but a log of another origin can: text ids, references of any type, odd numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from noetl.engine.replay import ReplayEvent, ReplayIdentity, dump_state, replay
from noetl.engine.replay.canonical import UnreadableJsonError, canonical, integer_of, parse, text_of


def replayed(*events: ReplayEvent) -> dict[str, Any]:
    return json.loads(dump_state(replay(events, ReplayIdentity(1))))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"), (1.0, "1.0"), (-0.0, "-0.0"), (1e-5, "0.00001"), (1e-6, "1e-6"), (1.5e-7, "1.5e-7"),
        (1e15, "1000000000000000.0"), (1e16, "1e+16"), (1.5e17, "1.5e+17"), (1e22, "1e+22"), (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"), (123456789012345.67, "123456789012345.67"),
        (2**64 - 1, "18446744073709551615"), (-(2**63), "-9223372036854775808"),
        ('\x00\x1f"\\\b\t\n\f\r/\x7fé\u2028\U0001f600', '"\\u0000\\u001f\\"\\\\\\b\\t\\n\\f\\r/\x7fé\u2028\U0001f600"'),
        ({"b": [1, {"d": None, "c": True}], "a": {}}, '{"a":{},"b":[1,{"c":true,"d":null}]}'),
        ({"\U00010000": 1, "\uffff": 2, "é": 3, "z": 4}, '{"z":4,"é":3,"\uffff":2,"\U00010000":1}'),
    ],
)  # fmt: skip
def test_canonical_text(value: Any, text: str) -> None:
    assert canonical(value).decode() == text


@pytest.mark.parametrize(
    ("text", "value"), [("18446744073709551616", 2.0**64), ("-9223372036854775809", -(2.0**63)), ("2.50", 2.5)]
)
def test_integers_beyond_64_bits_are_read_as_doubles(text: str, value: float) -> None:
    assert parse(text) == value
    assert type(parse(text)) is float


@pytest.mark.parametrize(
    ("value", "integer"),
    [(2.0, None), ("2", None), (True, None), (None, None), (2**63 - 1, 2**63 - 1), (2**63, None), (-(2**63), -(2**63))],
)
def test_integers_are_those_of_64_bits(value: Any, integer: int | None) -> None:
    assert integer_of(value) == integer


def test_values_as_text() -> None:
    assert [text_of(value) for value in ("a", None, True, 2.0, [1])] == ["a", "null", "true", "2.0", "[1]"]


@pytest.mark.parametrize("meta", ["1" + "0" * 400, '{"a": 1' + "0" * 400 + "}", "[" * 2000 + "]" * 2000])
def test_json_beyond_doubles_or_too_deep_is_an_error_and_no_wrong_state(meta: str) -> None:
    with pytest.raises(UnreadableJsonError):
        replayed(ReplayEvent(1, "x", meta=meta))


def test_reference_that_is_too_deep_is_an_error() -> None:
    with pytest.raises(UnreadableJsonError):
        replayed(ReplayEvent(1, "x", reference="[" * 500 + "]" * 500))


@pytest.mark.parametrize("reference", ['"text"', "5", "false", "[1]", "{}", '""'])
def test_reference_of_any_type_is_kept_without_summary(reference: str) -> None:
    state = replayed(ReplayEvent(4, "x", reference=reference))
    expected = [{"event_id": 4, "reference": json.loads(reference), "summary": {}}]
    assert state["execution"]["payload_refs"] == expected


def test_null_reference_is_none() -> None:
    assert replayed(ReplayEvent(4, "x", reference="null"))["execution"]["payload_refs"] == []


def test_frame_that_ends_without_reference_has_an_empty_summary() -> None:
    first = ReplayEvent(1, "frame.committed", frame_id="f", reference='"r"')
    frame = replayed(first, ReplayEvent(2, "frame.committed", frame_id="f"))["frames"]["f"]
    assert "output_ref" not in frame
    assert frame["output_ref_summary"] == {}


def test_column_wins_over_aggregate_and_aggregate_over_metadata() -> None:
    meta = '{"stage_id":"m","frame_id":"m"}'
    state = replayed(
        ReplayEvent(1, "stage.opened", stage_id="c", aggregate_type="stage", aggregate_id="stage/a", meta=meta),
        ReplayEvent(2, "stage.opened", aggregate_type="stage", aggregate_id="stage/stage/a", meta=meta),
        ReplayEvent(3, "stage.opened", stage_id="", meta='{"frame_id":"m"}'),
        ReplayEvent(4, "frame.started", aggregate_type="frame", frame_id="c", aggregate_id="frame/a", meta=meta),
    )
    assert list(state["stages"]) == ["", "c", "m", "stage/a"]
    assert list(state["frames"]) == ["c", "m"]


def test_events_with_equal_ids_keep_their_order() -> None:
    assert (
        replayed(ReplayEvent(1, "playbook.failed"), ReplayEvent(1, "playbook.completed"))["execution"]["status"]
        == "COMPLETED"
    )
