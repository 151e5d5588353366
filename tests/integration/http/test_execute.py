"""What `POST /api/execute` asks of the ledger, and what it refuses (spec 20, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl.http.application import HttpApplication
from noetl.http.executions_start import ExecuteRoutes
from noetl.ledger.items import StartedExecution, StartExecution

if TYPE_CHECKING:
    from tests.integration.http.rawhttp import RawClient, Serve

SHAPE = "Failed to deserialize the JSON body into the target type: "


class Starts:
    """Keeps what is to be started."""

    def __init__(self) -> None:
        self.calls: list[StartExecution] = []

    async def start(self, start: StartExecution) -> StartedExecution:
        self.calls.append(start)
        return StartedExecution(383267245008121856, 3)


@pytest.fixture(scope="module")
def starts() -> Starts:
    return Starts()


@pytest.fixture(scope="module")
async def client(serve: Serve, starts: Starts) -> RawClient:
    application = HttpApplication()
    ExecuteRoutes(starts).register(application)
    return await serve(application)


async def test_answer_has_the_id_as_a_string(client: RawClient) -> None:
    reply = await client.post("/api/execute", {"path": "a/b"})
    assert reply.status == 200
    assert reply.body == b'{"execution_id":"383267245008121856","status":"started","commands_generated":3}'


@pytest.mark.parametrize(
    ("body", "start"),
    [
        ({"path": "a/b"}, StartExecution(path="a/b")),
        ({"path": ""}, StartExecution(path="")),
        ({"catalog_id": 2**63 - 1, "path": "x"}, StartExecution(path="x", catalog_id=2**63 - 1)),
        ({"catalog_id": "7"}, StartExecution(catalog_id=7)),
        ({"path": "a", "payload": {"k": [1, None]}}, StartExecution(path="a", payload={"k": [1, None]})),
        ({"path": "a", "workload": {"k": 1.5}}, StartExecution(path="a", payload={"k": 1.5})),
        ({"path": "a", "payload": None}, StartExecution(path="a")),
        ({"path": "a", "version": None, "parent_execution_id": None}, StartExecution(path="a")),
        ({"path": "a", "version": "latest"}, StartExecution(path="a")),
        ({"path": "a", "version": 3}, StartExecution(path="a", version=3)),
        ({"path": "a", "version": "3"}, StartExecution(path="a", version=3)),
        ({"path": "a", "parent_execution_id": "-5"}, StartExecution(path="a", parent_execution_id=-5)),
        ({"path": "a", "idempotency_key": "k"}, StartExecution(path="a", idempotency_key="k")),
        (
            {"path": "a", "resource_kind": "playbook", "execution_pool": 1, "trace": {}, "path2": "b"},
            StartExecution(path="a"),
        ),
    ],
)
async def test_request_forms(client: RawClient, starts: Starts, body: dict[str, Any], start: StartExecution) -> None:
    assert (await client.post("/api/execute", body)).status == 200
    assert starts.calls[-1] == start


async def test_integers_beyond_64_bits_are_doubles_as_in_the_reference(client: RawClient, starts: Starts) -> None:
    body = '{"path":"a","payload":{"k":[18446744073709551615,18446744073709551616,-9223372036854775809]}}'
    assert (await client.post("/api/execute", body)).status == 200
    assert starts.calls[-1].payload == {"k": [2**64 - 1, 2.0**64, -(2.0**63)]}
    assert [type(number) for number in starts.calls[-1].payload["k"]] == [int, float, float]


async def test_idempotency_key_may_be_a_header(client: RawClient, starts: Starts) -> None:
    key = ("Idempotency-Key", "order-7")
    assert (await client.post("/api/execute", {"path": "a"}, key)).status == 200
    assert starts.calls[-1].idempotency_key == "order-7"
    assert (await client.post("/api/execute", {"path": "a", "idempotency_key": "order-7"}, key)).status == 200
    reply = await client.post("/api/execute", {"path": "a", "idempotency_key": "other"}, key)
    assert (reply.status, reply.json["error"]) == (422, "Idempotency-Key and idempotency_key differ")
    for bad in ("", "x" * 256):
        reply = await client.post("/api/execute", {"path": "a"}, ("Idempotency-Key", bad))
        assert (reply.status, reply.json["error"]) == (422, "idempotency_key must have 1 to 255 bytes")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{}", '{"error":"Either \'path\' or \'catalog_id\' must be provided","status":422}'),
        ('{"path":null}', '{"error":"Either \'path\' or \'catalog_id\' must be provided","status":422}'),
        ('{"path":5}', f"{SHAPE}path: invalid type: integer, expected a string or null"),
        ('{"catalog_id":"x"}', f"{SHAPE}catalog_id: invalid digit found in string"),
        ('{"catalog_id":9223372036854775808}', f"{SHAPE}catalog_id: number too large to fit in target type"),
        ('{"catalog_id":1.0}', f"{SHAPE}catalog_id: invalid type: floating point number, expected "),
        ('{"path":"a","payload":[]}', f"{SHAPE}payload: invalid type, expected an object"),
        ('{"path":"a","payload":"{}"}', f"{SHAPE}payload: invalid type, expected an object"),
        ('{"path":"a","payload":{},"workload":{}}', f"{SHAPE}duplicate field `payload`"),
        ('{"path":"a","path":"b"}', f"{SHAPE}duplicate field `path`"),
        ('{"path":"a","version":0}', '{"error":"version must be between 1 and 32767, or \\"latest\\"","status":422}'),
        ('{"path":"a","version":32768}', '{"error":"version must be between 1 and 32767, or'),
        ('{"path":"a","version":"newest"}', f"{SHAPE}version: invalid digit found in string"),
        ('{"path":"a\\u0000"}', '{"error":"path must not contain U+0000","status":422}'),
        ('{"path":"a","payload":{"k":"\\u0000"}}', '{"error":"payload must not contain U+0000","status":422}'),
        ("null", f"{SHAPE}invalid type: null, expected an object"),
        ("[]", f"{SHAPE}invalid type: sequence, expected an object"),
    ],
)
async def test_bad_requests_are_422_and_start_nothing(client: RawClient, starts: Starts, body: str, text: str) -> None:
    before = len(starts.calls)
    reply = await client.post("/api/execute", body)
    assert reply.status == 422
    assert reply.text.startswith(text), reply.text
    assert len(starts.calls) == before
