"""JSON texts of the hot routes: the exact bytes by example, and any arguments against the twins."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl._fast import event_codec
from tests.unit.fast import twins

SIGNED_64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
OBJECT = st.dictionaries(TEXT, st.one_of(st.none(), st.integers(-9, 9), TEXT, st.lists(TEXT, max_size=2)), max_size=3)
JSON_BYTES = OBJECT.map(orjson.dumps)


def test_bytes_of_each_text() -> None:
    assert event_codec.result_envelope("RUNNING", b'{"a":1}') == b'{"status":"RUNNING","context":{"a":1}}'
    assert event_codec.result_envelope("RUNNING", None) == b'{"status":"RUNNING"}'
    assert event_codec.event_response(7) == b'{"status":"ok","event_id":7,"commands_generated":0}'
    assert event_codec.notification(1, 2, "1:start:2", "start", "http://localhost:8082") == (
        b'{"command_id":"1:start:2","event_id":2,"execution_id":1,"server_url":"http://localhost:8082","step":"start"}'
    )
    assert event_codec.claim_response(2, 1, "start", "python", b'{"args":{}}', None) == (
        b'{"status":"ok","event_id":2,"execution_id":1,"node_id":"start","node_name":"start",'
        b'"action":"python","context":{"args":{}},"meta":null}'
    )


@given(TEXT, st.none() | JSON_BYTES)
def test_any_result_envelope_equals_the_twin(status: str, context: bytes | None) -> None:
    assert event_codec.result_envelope(status, context) == twins.result_envelope(status, context)


@given(SIGNED_64)
def test_any_event_response_equals_the_twin(event_id: int) -> None:
    assert event_codec.event_response(event_id) == twins.event_response(event_id)


@given(st.tuples(SIGNED_64, SIGNED_64, TEXT, TEXT, st.none() | JSON_BYTES, st.none() | JSON_BYTES))
def test_any_claim_response_equals_the_twin(arguments: Any) -> None:
    assert event_codec.claim_response(*arguments) == twins.claim_response(*arguments)


@given(st.tuples(SIGNED_64, SIGNED_64, TEXT, TEXT, TEXT))
def test_any_notification_equals_the_twin(arguments: Any) -> None:
    assert event_codec.notification(*arguments) == twins.notification(*arguments)


NAMES = st.sampled_from(["actionable", "informative", "worker_id", "attempt"])
METAS = st.one_of(st.none(), OBJECT, st.dictionaries(NAMES, st.integers(0, 3)), st.integers(), TEXT, st.lists(TEXT))


@given(METAS, st.none() | TEXT, st.booleans(), st.booleans(), st.sampled_from([None, 1]))
def test_any_event_meta_decodes_as_the_twin(
    meta: Any, worker_id: str | None, actionable: bool, informative: bool, indent: int | None
) -> None:
    raw = b" %s\n" % json.dumps(meta, indent=indent).encode()
    result = event_codec.event_meta(raw, worker_id, actionable, informative)
    assert orjson.loads(result) == orjson.loads(twins.event_meta(raw, worker_id, actionable, informative))


@pytest.mark.parametrize("meta", [None, b"null", b"{}", b" { \n } "])
def test_empty_meta_holds_the_injected_members_only(meta: bytes | None) -> None:
    assert event_codec.event_meta(meta, None, True, False) == b'{"actionable":true,"informative":false}'
    assert event_codec.event_meta(meta, 'w"1', False, True) == (
        b'{"actionable":false,"informative":true,"worker_id":"w\\"1"}'
    )


def test_meta_that_is_no_object_becomes_a_member() -> None:
    assert event_codec.event_meta(b"[1]", None, True, True) == b'{"value":[1],"actionable":true,"informative":true}'


def test_injected_members_override_the_requests() -> None:
    result = event_codec.event_meta(b'{"actionable":"x","worker_id":"a","informative":0}', "b", True, True)
    assert orjson.loads(result) == {"actionable": True, "informative": True, "worker_id": "b"}
    assert orjson.loads(event_codec.event_meta(b'{"worker_id":"a"}', None, True, True))["worker_id"] == "a"


def test_lone_surrogates_and_wide_integers_are_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        event_codec.result_envelope("\ud800", None)
    with pytest.raises(OverflowError):
        event_codec.event_response(2**63)
    with pytest.raises(TypeError):
        event_codec.result_envelope(None, None)  # type: ignore[arg-type]


def test_sanitizer_is_reachable_here() -> None:
    assert event_codec.sanitize(b'{"token":1}') == b'{"token":"[REDACTED]"}'
