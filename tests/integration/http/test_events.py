"""What `POST /api/events` and its batch make of a request, and what they refuse (spec 20, sections 6, 7 and 9)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.errors import NotFoundError
from noetl.http.application import HttpApplication
from noetl.http.events import EventRoutes, derived_status
from noetl.http.timestamps import parse_timestamp
from tests.integration.http.rawhttp import JSON

if TYPE_CHECKING:
    from noetl.ledger.items import IncomingEvent
    from tests.integration.http.rawhttp import RawClient, Reply, Serve

SHAPE = "Failed to deserialize the JSON body into the target type: "


class Log:
    """The ledger's place: keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[IncomingEvent]]] = []
        self.seen: list[tuple[str, bool]] = []

    async def ingest(self, execution_id: int, events: list[IncomingEvent]) -> list[int]:
        if execution_id == 404:
            raise NotFoundError(f"Execution not found: {execution_id}")
        self.calls.append((execution_id, events))
        return [1000 + index if event.event_id is None else event.event_id for index, event in enumerate(events)]

    def observe_event(self, event_type: str, ok: bool, seconds: float) -> None:
        self.seen.append((event_type, ok))

    @property
    def last(self) -> IncomingEvent:
        return self.calls[-1][1][-1]


@pytest.fixture
def log() -> Log:
    return Log()


class Server:
    """The routes over a log that each test gets fresh."""

    def __init__(self) -> None:
        self.log = Log()

    async def ingest(self, execution_id: int, events: list[IncomingEvent]) -> list[int]:
        return await self.log.ingest(execution_id, events)

    def observe_event(self, event_type: str, ok: bool, seconds: float) -> None:
        self.log.observe_event(event_type, ok, seconds)


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


@pytest.fixture(scope="module")
async def connection(serve: Serve, server: Server) -> RawClient:
    application = HttpApplication()
    EventRoutes(server, server, redacted_keys=("shoe_size",)).register(application)
    return await serve(application)


@pytest.fixture
def client(connection: RawClient, server: Server, log: Log) -> RawClient:
    server.log = log
    return connection


def event(**members: Any) -> dict[str, Any]:
    return {"execution_id": 5, "step": "start", "event_type": "call.done", **members}


async def post(client: RawClient, **members: Any) -> Reply:
    return await client.post("/api/events", event(**members))


async def test_event_of_a_worker_is_shaped_for_the_ledger(client: RawClient, log: Log) -> None:
    body = (
        '{"execution_id":383267245008121856,"event_type":"call.done","step":"end","status":"success",'
        '"created_at":"2026-11-23T14:47:12.449206272Z","context":{"call_index":0,"result":{"context":{"data":'
        '{"final":"HELLO"}},"status":"success"}},"event_id":383267247013052416,"worker_id":"worker-0",'
        '"meta":{"attempts":0}}'
    )
    reply = await client.post("/api/events", body)
    assert reply.status == 200
    assert reply.body == b'{"status":"ok","event_id":383267247013052416,"commands_generated":0}'
    [(execution_id, [got])] = log.calls
    assert execution_id == 383267245008121856
    assert (got.event_type, got.step, got.status, got.event_id) == ("call.done", "end", "success", 383267247013052416)
    assert got.created_at == datetime(2026, 11, 23, 14, 47, 12, 449206)
    assert json.loads(got.result) == {
        "status": "success",
        "context": {"call_index": 0, "result": {"context": {"data": {"final": "HELLO"}}, "status": "success"}},
    }
    assert json.loads(got.meta) == {"attempts": 0, "worker_id": "worker-0", "actionable": True, "informative": True}
    assert (got.worker_id, got.context, got.node_type) == (None, None, None)
    assert log.seen == [("call.done", True)]


async def test_minimal_event_gets_a_server_id_status_and_clock(client: RawClient, log: Log) -> None:
    reply = await client.post("/api/events", {"execution_id": "+5", "step": "", "name": "command.started"})
    assert reply.body == b'{"status":"ok","event_id":1000,"commands_generated":0}'
    assert log.calls[0][0] == 5
    assert (log.last.event_type, log.last.status, log.last.event_id, log.last.created_at) == (
        "command.started", "RUNNING", None, None,
    )  # fmt: skip
    assert json.loads(log.last.result) == {"status": "RUNNING"}


async def test_null_is_absent_for_optional_members(client: RawClient, log: Log) -> None:
    nulls = dict.fromkeys(
        ("meta", "created_at", "status", "event_id", "worker_id", "result_uri", "event_ids", "payload")
    )
    assert (await post(client, **nulls)).status == 200
    assert (log.last.status, log.last.event_id) == ("COMPLETED", None)
    assert json.loads(log.last.meta) == {"actionable": True, "informative": True}


@pytest.mark.parametrize("value", [5, "5", "+5", "005", -1, "-1", 2**63 - 1, str(-(2**63))])
async def test_execution_and_event_ids_may_be_numbers_or_digit_strings(
    client: RawClient, log: Log, value: int | str
) -> None:
    assert (await post(client, execution_id=value, event_id=value)).json["event_id"] == int(value)
    assert (log.calls[-1][0], log.last.event_id) == (int(value), int(value))


@pytest.mark.parametrize("value", ["", " 5", "5 ", "x", "5.0", 2**63, str(2**63), "1_0", "\u0661"])
async def test_bad_id_texts_are_422_in_json(client: RawClient, log: Log, value: int | str) -> None:
    reply = await post(client, execution_id=value)
    assert (reply.status, reply.json) == (422, {"error": "Invalid execution_id", "status": 422})
    reply = await post(client, event_id=value)
    assert (reply.status, reply.json) == (422, {"error": f"Invalid event_id: {value}", "status": 422})
    assert log.calls == []
    assert log.seen == [("call.done", False)] * 2


@pytest.mark.parametrize("value", [True, 5.0, None, [5], {}])
async def test_ids_of_other_types_are_422_in_text(client: RawClient, value: object) -> None:
    reply = await post(client, execution_id=value)
    assert reply.status == 422
    assert reply.text.startswith(f"{SHAPE}execution_id: invalid type")
    if value is not None:
        assert (await post(client, event_id=value)).text.startswith(f"{SHAPE}event_id: invalid type")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"step":"a","event_type":"x"}', "missing field `execution_id`"),
        ('{"execution_id":5,"event_type":"x"}', "missing field `step`"),
        ('{"execution_id":5,"step":"a"}', "missing field `event_type`"),
        ('{"execution_id":5,"step":null,"event_type":"x"}', "step: invalid type: null, expected a string"),
        ('{"execution_id":5,"step":"a","event_type":5}', "event_type: invalid type: integer, expected a string"),
        ('{"execution_id":5,"step":"a","event_type":"x","name":"x"}', "duplicate field `event_type`"),
        ('{"execution_id":5,"step":"a","name":"x","name":"x"}', "duplicate field `event_type`"),
        ('{"execution_id":5,"step":"a","event_type":"x","payload":{},"context":{}}', "duplicate field `payload`"),
        ('{"execution_id":5,"step":"a","event_type":"x","payload":null,"context":null}', "duplicate field `payload`"),
        ('{"execution_id":5,"step":"a","step":"b","event_type":"x"}', "duplicate field `step`"),
        ('{"execution_id":5,"step":"a" , "event_type":"x" , "step" : "b"}', "duplicate field `step`"),
        ('{"execution_id":5,"st\\u0065p":"a","event_type":"x","step":"b"}', "duplicate field `step`"),
        ('{"execution_id":5,"step":"a","event_type":"x","meta":{},"meta":{}}', "duplicate field `meta`"),
        ('{"execution_id":5,"step":"a","event_type":"x","actionable":null}', "actionable: invalid type: null"),
        ('{"execution_id":5,"step":"a","event_type":"x","result_kind":null}', "result_kind: invalid type: null"),
        ('{"execution_id":5,"step":"a","event_type":"x","event_ids":["a"]}', "event_ids[0]: invalid type: string"),
        (f'{{"execution_id":5,"step":"a","event_type":"x","event_ids":[{2**63}]}}', "event_ids[0]: "),
        ('{"execution_id":5,"step":"a","event_type":"x","created_at":5}', "created_at: invalid type: integer"),
        ('{"execution_id":5,"step":"a","event_type":"x","worker_id":5}', "worker_id: invalid type: integer"),
        ("[]", "invalid type: sequence, expected an object"),
    ],
)
async def test_wrong_shapes_are_422_and_not_counted(client: RawClient, log: Log, body: str, reason: str) -> None:
    reply = await client.post("/api/events", body)
    assert reply.status == 422, reply.text
    assert reply.text.startswith(SHAPE + reason)
    assert (log.calls, log.seen) == ([], [])


@pytest.mark.parametrize(
    "body",
    [
        '{"execution_id":5,"step":"a","event_type":"x","other":1,"other":2}',
        '{"execution_id":5,"step":"a","event_type":"x","payload":{"step":"b","a":1,"a":2,"event_type":"y"}}',
        '{"execution_id":5,"step":"\\"step\\":","event_type":"x"}',
        '{ "execution_id" : 5 , "step" : "a" , "event_type" : "x" , "meta" : { "step" : 1 } }',
        '{"execution_id":5,"other":{"step":[{"step":1,"step":2}]},"step":"a","event_type":"x"}',
    ],
)
async def test_what_only_looks_like_a_duplicate_is_accepted(client: RawClient, body: str) -> None:
    assert (await client.post("/api/events", body)).status == 200


@given(
    st.dictionaries(
        st.sampled_from(["event_id", "status", "created_at", "payload", "meta", "worker_id", "zz"]),
        st.none() | st.dictionaries(st.sampled_from(["step", "meta", 'a":']), st.integers() | st.text(max_size=3)),
    ),
    st.sampled_from([(",", ":"), (" , ", " : ")]),
    st.sampled_from(["step", "event_type", "payload", "meta", "name", "context"]),
)
def test_a_repeated_member_is_found_in_any_body(
    members: dict[str, Any], separators: tuple[str, str], repeated: str
) -> None:
    """Against a full parse: the short cut for compact bodies neither misses a duplicate nor invents one."""
    import msgspec

    from noetl.errors import RejectedRequestError
    from noetl.http.duplicates import refuse_duplicates
    from noetl.http.events import ALIASES, EventRequest

    members = {name: value for name, value in members.items() if name in {"payload", "meta", "zz"} or value is None}
    text = json.dumps({**event(), **members}, separators=separators)
    plain = text.encode()
    refuse_duplicates(plain, msgspec.json.decode(plain, type=EventRequest), ALIASES)
    names = {ALIASES.get(name, name) for name in event() | members}
    value = "{}" if repeated in {"payload", "meta", "context"} else '"x"'
    again = f'{text[:-1]}{separators[0]}"{repeated}"{separators[1]}{value}}}'.encode()
    decoded = msgspec.json.decode(again, type=EventRequest)
    if ALIASES.get(repeated, repeated) in names:
        with pytest.raises(RejectedRequestError, match="duplicate field"):
            refuse_duplicates(again, decoded, ALIASES)
    else:
        refuse_duplicates(again, decoded, ALIASES)


@pytest.mark.parametrize(
    ("event_type", "status"),
    [
        ("call.done", "COMPLETED"), ("step.exit", "COMPLETED"), ("exited", "COMPLETED"), ("x.completed", "COMPLETED"),
        ("completed_failed", "COMPLETED"), ("call.error", "FAILED"), ("command.failed", "FAILED"),
        ("command.started", "RUNNING"), ("", "RUNNING"), ("DONE", "RUNNING"),
    ],
)  # fmt: skip
async def test_status_is_derived_from_the_type(client: RawClient, log: Log, event_type: str, status: str) -> None:
    assert derived_status(event_type) == status
    await post(client, event_type=event_type)
    assert log.last.status == status


@pytest.mark.parametrize(
    ("members", "result"),
    [
        ({"payload": {"a": 1}}, {"status": "S", "context": {"a": 1}}),
        ({"payload": {}}, {"status": "S", "context": {}}),
        ({"payload": "text"}, {"status": "S"}),
        ({"payload": [1]}, {"status": "S"}),
        ({"payload": 5}, {"status": "S"}),
        ({"result_kind": "other", "payload": {"a": 1}}, {"status": "S", "context": {"a": 1}}),
        ({"result_kind": "ref", "payload": {"a": 1}}, {"status": "S", "context": {"a": 1}}),
        (
            {"result_kind": "ref", "result_uri": "gs://b/k", "payload": {"a": 1}},
            {"status": "S", "reference": {"store_tier": "gcs", "logical_uri": "gs://b/k"}},
        ),
        (
            {"result_kind": "ref", "result_uri": "s3://b"},
            {"status": "S", "reference": {"store_tier": "s3", "logical_uri": "s3://b"}},
        ),
        (
            {"result_kind": "ref", "result_uri": ""},
            {"status": "S", "reference": {"store_tier": "artifact", "logical_uri": ""}},
        ),
        (
            {"result_kind": "refs", "event_ids": [1, 2**63 - 1]},
            {"status": "S", "reference": {"event_ids": [1, 2**63 - 1], "total_parts": 2}},
        ),
        ({"result_kind": "refs", "payload": {"a": 1}}, {"status": "S", "context": {"a": 1}}),
    ],
)
async def test_result_forms(client: RawClient, log: Log, members: dict[str, Any], result: dict[str, Any]) -> None:
    assert (await post(client, status="S", **members)).status == 200
    assert json.loads(log.last.result) == result


async def test_numbers_of_the_payload_are_not_rounded(client: RawClient, log: Log) -> None:
    payload = '{"a":18446744073709551617,"b":1.10,"c":766534048842776578}'
    body = f'{{"execution_id":5,"step":"a","event_type":"x","payload":{payload}}}'
    assert (await client.post("/api/events", body)).status == 200
    assert payload.encode() in log.last.result


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"a": 1, "actionable": "x", "worker_id": 1}, {"a": 1}),
        ([1], {"value": [1]}),
        ("t", {"value": "t"}),
    ],
)
async def test_meta_gets_the_injected_members(
    client: RawClient, log: Log, given: object, stored: dict[str, Any]
) -> None:
    await post(client, meta=given, actionable=False, informative=False, worker_id="w")
    injected = {"actionable": False, "informative": False, "worker_id": "w"}
    assert json.loads(log.last.meta) == {**stored, **injected}


async def test_secrets_are_redacted_in_result_and_meta_but_not_in_the_status(client: RawClient, log: Log) -> None:
    secret = {"Api-Key": "k", "shoe_size": 44, "text": "Bearer x", "fine": 1}
    await post(client, payload=secret, meta=secret, status="Bearer x")
    redacted = {"Api-Key": "[REDACTED]", "shoe_size": "[REDACTED]", "text": "[REDACTED]", "fine": 1}
    assert json.loads(log.last.result) == {"status": "[REDACTED]", "context": redacted}
    assert json.loads(log.last.meta) == {**redacted, "actionable": True, "informative": True}
    assert log.last.status == "Bearer x"
    await post(client, result_kind="ref", result_uri="gs://bucket/" + "a" * 40)
    assert b"gs://bucket/" in log.last.result


async def test_nul_is_stripped_from_payload_and_meta(client: RawClient, log: Log) -> None:
    """I25."""
    await post(client, payload={"a\0": "b\0c", "d": "\\u0000"}, meta={"e": "\0"})
    assert json.loads(log.last.result)["context"] == {"a": "bc", "d": "\\u0000"}
    assert json.loads(log.last.meta)["e"] == ""


@pytest.mark.parametrize("field", ["step", "event_type", "status", "worker_id"])
async def test_nul_and_too_long_texts_are_refused_with_the_field(client: RawClient, log: Log, field: str) -> None:
    """I25."""
    reply = await post(client, **{field: "a\0b"})
    assert (reply.status, reply.json) == (422, {"error": f"{field} must not contain U+0000", "status": 422})
    if field != "worker_id":
        assert (await post(client, **{field: "\u00e9" * 500})).status == 200
        reply = await post(client, **{field: "\u00e9" * 501})
        assert (reply.status, reply.json["error"]) == (422, f"{field} must not be longer than 1000 bytes")
    assert len(log.calls) == (field != "worker_id")


async def test_long_text_under_an_indexed_member_of_meta_is_refused(client: RawClient) -> None:
    assert (await post(client, meta={"note": "x" * 5000})).status == 200
    reply = await post(client, meta={"command_id": "x" * 5000})
    assert (reply.status, reply.json["error"]) == (422, "meta.command_id must not be longer than 1000 bytes")


async def test_errors_of_the_ledger_reach_the_client_and_the_metrics(client: RawClient, log: Log) -> None:
    reply = await post(client, execution_id=404)
    assert (reply.status, reply.json) == (404, {"error": "Execution not found: 404", "status": 404})
    assert log.seen == [("call.done", False)]


MOMENT = datetime(2026, 11, 23, 14, 47, 12)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T14:47:12Z", MOMENT),
        ("2026-11-23t14:47:12z", MOMENT),
        ("2026-11-23 14:47:12Z", MOMENT),
        ("2026-11-23T16:47:12+02:00", MOMENT),
        ("2026-11-23T14:47:12-00:00", MOMENT),
        ("2026-11-23T16:47:12+0200", MOMENT),
        (" 2026-11-23  16:47:12 +02:00", MOMENT),
        ("2026-11-23T14:47:12UTC", MOMENT),
        ("2026-11-3T4:7:2Z", datetime(2026, 11, 3, 4, 7, 2)),
        ("2026-11-23T14:47:12.9999999Z", MOMENT.replace(microsecond=999_999)),
        ("2026-11-23T14:47:12.449206272Z", MOMENT.replace(microsecond=449_206)),
        ("2026-11-23T14:47:12.5+01:00", datetime(2026, 11, 23, 13, 47, 12, 500_000)),
        ("2026-11-23T14:59:60Z", datetime(2026, 11, 23, 15)),
    ],
)
async def test_created_at_is_stored_in_utc_cut_to_microseconds(
    client: RawClient, log: Log, text: str, moment: datetime
) -> None:
    assert (await post(client, created_at=text)).status == 200
    assert log.last.created_at == moment


@pytest.mark.parametrize(
    "text",
    [
        "", "now", "2026-11-23T14:47:12", "2026-11-23", "2026-11-23T14:47Z", "2026-11-23T14:47:12.Z",
        "20261123T144712Z",
        "2026-W48-1T14:47:12Z", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-11-23T24:00:00Z",
        "2026-11-23T14:47:61Z", "2026-11-23T14:47:12+24:00", "2026-11-23T14:47:12+02", "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:60Z", "1763909232", "2026-11-23T14:47:12\u0660Z", "2026-11-23T14:47:12,5Z",
    ],
)  # fmt: skip
async def test_created_at_without_zone_or_meaning_is_refused(client: RawClient, log: Log, text: str) -> None:
    reply = await post(client, created_at=text)
    assert reply.status == 422
    assert reply.text.startswith(f"{SHAPE}created_at: ")
    assert log.calls == []


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
    st.sampled_from("T "),
)
def test_any_moment_survives_its_text(moment: datetime, offset: int, separator: str) -> None:
    local = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=offset)))
    assert parse_timestamp(local.isoformat(separator)) == moment
    assert parse_timestamp(moment.isoformat() + "Z") == moment


async def test_batch_events_share_worker_and_commit(client: RawClient, log: Log) -> None:
    items: list[dict[str, Any]] = [
        {"step": "a", "event_type": "command.started", "payload": {"token": "x"}},
        {"step": "b", "name": "command.failed", "context": {"error": "e"}, "actionable": True, "informative": False},
        {"step": "c", "event_type": "x", "event_id": "77", "status": "S", "created_at": "2026-11-23T14:47:12Z"},
    ]
    items[2]["meta"] = {"m": 1}
    reply = await client.post("/api/events/batch", {"execution_id": "5", "worker_id": "w", "events": items})
    assert reply.body == b'{"status":"ok","event_ids":[1000,1001,77],"commands_generated":0}'
    [(execution_id, events)] = log.calls
    assert execution_id == 5
    assert [event.worker_id for event in events] == ["w"] * 3
    assert [event.status for event in events] == ["RUNNING", "FAILED", "S"]
    assert [json.loads(event.result) for event in events] == [
        {"status": "RUNNING", "context": {"token": "[REDACTED]"}},
        {"status": "FAILED", "context": {"error": "e"}},
        {"status": "S"},
    ]
    assert [json.loads(event.meta) for event in events] == [
        {"actionable": False, "informative": True, "worker_id": "w"},
        {"actionable": True, "informative": False, "worker_id": "w"},
        {"m": 1, "actionable": False, "informative": True, "worker_id": "w"},
    ]
    assert (events[2].event_id, events[2].created_at) == (77, MOMENT)
    assert log.seen == []


async def test_empty_batch_is_fine_whatever_its_execution(client: RawClient, log: Log) -> None:
    reply = await client.post("/api/events/batch", {"execution_id": "garbage", "events": []})
    assert (reply.status, reply.body) == (200, b'{"status":"ok","event_ids":[],"commands_generated":0}')
    assert log.calls == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"execution_id": "x", "events": [{"step": "a", "event_type": "x"}]},
            '{"error":"Invalid execution_id","status":422}',
        ),
        ({"execution_id": 5}, f"{SHAPE}missing field `events`"),
        ({"execution_id": 5, "events": {}}, f"{SHAPE}events: invalid type: map, expected an array"),
        ({"execution_id": 5, "events": [{"step": "a"}]}, f"{SHAPE}events[0]: missing field `event_type`"),
        ({"execution_id": 5, "events": [{"event_type": "a"}]}, f"{SHAPE}events[0]: missing field `step`"),
        (
            {"execution_id": 5, "events": [{"step": "a", "name": "x"}, {"step": "a", "name": "x", "event_type": "x"}]},
            f"{SHAPE}events[1]: duplicate field `event_type`",
        ),
        (
            {"execution_id": 5, "events": [{"step": "a\0", "name": "x"}]},
            '{"error":"events[0].step must not contain U+0000","status":422}',
        ),
        (
            {"execution_id": 5, "events": [{"step": "a", "name": "x", "created_at": "today"}]},
            f"{SHAPE}events[0].created_at: expected an RFC 3339 date and time with a zone",
        ),
        (
            {"execution_id": 5, "events": [{"step": "a", "name": "x", "event_id": "b"}]},
            '{"error":"Invalid event_id: b","status":422}',
        ),
    ],
)
async def test_bad_batches_are_422_and_store_nothing(
    client: RawClient, log: Log, body: dict[str, Any], text: str
) -> None:
    reply = await client.request("POST", "/api/events/batch", json.dumps(body), [JSON])
    assert (reply.status, reply.text) == (422, text)
    assert log.calls == []
