"""JSON bodies: content type, size, syntax, shape (spec 10, section 2.4) and what slow clients may do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.errors import OverloadedError, RejectedRequestError
from noetl.http.application import HttpApplication
from noetl.http.bodies import BodyBudget, RequestBody
from noetl.http.requests import decode_json, json_body, refuse_nul_in_json
from noetl.http.responses import json_response, text_response
from tests.integration.http.rawhttp import JSON

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from tests.integration.http.rawhttp import RawClient, Serve

SYNTAX = "Failed to parse the request body as JSON: "
SHAPE = "Failed to deserialize the JSON body into the target type: "
LIMIT = 2_097_152


class Variable(msgspec.Struct):
    var_type: str
    value: msgspec.Raw = msgspec.Raw()


class Body(msgspec.Struct):
    content: str
    resource_type: str = "Playbook"
    flag: bool = False
    number: int | None = None
    variables: list[Variable] = []


DECODER = msgspec.json.Decoder(Body)


async def accept(request: Request) -> Response:
    body = await json_body(request, DECODER)
    return json_response({"length": len(body.content)})


async def ignore(_request: Request) -> Response:
    return text_response("ok")


def accepting(**options: object) -> HttpApplication:
    application = HttpApplication(**options)  # type: ignore[arg-type]
    application.add_route("POST", "/json", accept)
    application.add_route("POST", "/large", accept, body_limit=4 * LIMIT)
    application.add_route("POST", "/ignored", ignore)
    return application


@pytest.fixture(scope="module")
async def client(serve: Serve) -> RawClient:
    return await serve(accepting())


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json",
        "application/problem+JSON;x=y",
    ],
)  # fmt: skip
async def test_json_content_types_are_accepted(client: RawClient, content_type: str) -> None:
    reply = await client.request("POST", "/json", '{"content":"a"}', [("content-type", content_type)])
    assert reply.status == 200


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/jsonp", "text/json", "application/+", ""])
async def test_other_content_types_are_415(client: RawClient, content_type: str | None) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    for body in ("{", "x" * (LIMIT + 1)):  # the content type is looked at before size and syntax
        reply = await client.request("POST", "/json", body, headers)
        assert (reply.status, reply.text) == (415, "Expected request with `Content-Type: application/json`")


def sized(length: int) -> bytes:
    return b'{"content":"%b"}' % (b"x" * (length - 14))


async def test_limit_is_inclusive_and_holds_for_chunked_bodies(client: RawClient) -> None:
    body = sized(LIMIT)
    assert len(body) == LIMIT
    assert (await client.request("POST", "/json", body, [JSON])).json == {"length": LIMIT - 14}
    too_long = sized(LIMIT + 1)
    pieces = [too_long[start : start + 300_000] for start in range(0, len(too_long), 300_000)]
    for reply in (
        await client.request("POST", "/json", too_long, [JSON]),
        await client.request("POST", "/json", headers=[JSON], chunks=pieces),
    ):
        assert (reply.status, reply.text) == (413, "Failed to buffer the request body: length limit exceeded")
    # the connection survives, and a route may have a limit of its own
    assert (await client.request("POST", "/large", too_long, [JSON])).status == 200
    assert (await client.request("POST", "/large", headers=[JSON], chunks=pieces)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b'{"content":"a",}', b"{'content':'a'}", b'{"content":NaN}', b'{"content":"a","x":Infinity}',
        b'\xef\xbb\xbf{"content":"a"}', b'{"content":"a\nb"}', b'{"content":"\\ud800"}', b'{"content":"\\udc00x"}',
        b'{"content":"a","x":1e400}', b'{"content":"a"} {}', b'{"content":"a"}//', b'{"content":"\xff"}',
        b'{"content":"a","unknown":"\xff"}', b'{"content":"a","variables":[{"var_type":"x","value":"\xc3"}]}',
        b'{"content":"a","variables":[{"var_type":"x","value":-1e400}]}', b"nul", b'{"content":"a","x":01}',
        b'{"content":"a","x":1.}', b'{"content":"\\q"}', b'{"content":5,"x":NaN}',
    ],
)  # fmt: skip
async def test_what_is_not_json_is_400(client: RawClient, body: bytes) -> None:
    reply = await client.request("POST", "/json", body, [JSON])
    assert reply.status == 400, reply.text
    assert reply.text.startswith(SYNTAX)
    assert len(reply.text) > len(SYNTAX)


async def test_empty_body_has_the_reference_text(client: RawClient) -> None:
    reply = await client.request("POST", "/json", b"", [JSON])
    assert reply.text == f"{SYNTAX}EOF while parsing a value at line 1 column 0"
    assert (await client.request("POST", "/json", None, [JSON])).text == reply.text


async def test_syntax_errors_name_line_and_column(client: RawClient) -> None:
    reply = await client.request("POST", "/json", b'{"content":"a",\n "x": tru}', [JSON])
    assert reply.text.endswith(" at line 2 column 7")


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"content":"[[{{","x":%b1%b}' % (opening * (depth - 1), closing * (depth - 1))


async def test_nesting_of_127_is_accepted_and_128_refused(client: RawClient) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        assert (await client.request("POST", "/json", nested(127, opening, closing), [JSON])).status == 200
        reply = await client.request("POST", "/json", nested(128, opening, closing), [JSON])
        assert (reply.status, reply.text) == (400, f"{SYNTAX}recursion limit exceeded")
    flat = b'{"content":"a","x":[%b1]}' % (b"[]," * 500)
    assert (await client.request("POST", "/json", flat, [JSON])).status == 200
    assert (await client.request("POST", "/json", b"[" * 1_000_000, [JSON])).status == 400


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "missing field `content`"),
        (b'{"content":5}', "content: invalid type: integer, expected a string"),
        (b'{"content":null}', "content: invalid type: null, expected a string"),
        (b'{"content":"a","resource_type":1}', "resource_type: invalid type: integer, expected a string"),
        (b'{"content":"a","flag":"true"}', "flag: invalid type: string, expected a boolean"),
        (b'{"content":"a","number":"1"}', "number: invalid type: string, expected an integer or null"),
        (b'{"content":"a","number":1.5}', "number: invalid type: floating point number, expected an integer or null"),
        (b'{"content":"a","variables":{}}', "variables: invalid type: map, expected an array"),
        (
            b'{"content":"a","variables":[{"var_type":2}]}',
            "variables[0].var_type: invalid type: integer, expected a string",
        ),
        (b'{"content":"a","variables":[{}]}', "variables[0]: missing field `var_type`"),
        (b"[]", "invalid type: sequence, expected an object"),
        (b'["a"]', "invalid type: sequence, expected an object"),
        (b'"a"', "invalid type: string, expected an object"),
        (b"null", "invalid type: null, expected an object"),
    ],
)
async def test_other_shape_is_422_and_names_the_field(client: RawClient, body: bytes, reason: str) -> None:
    reply = await client.request("POST", "/json", body, [JSON])
    assert (reply.status, reply.text) == (422, SHAPE + reason)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"


async def test_route_without_body_looks_at_nothing_of_it(client: RawClient) -> None:
    for body in (None, b"garbage", b"x" * 100_000):
        assert (await client.request("POST", "/ignored", body)).status == 200


class Pieces:
    """The connection's side of a body: gives what is put in."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.hungry = asyncio.Event()

    def put(self, piece: bytes, *, more: bool) -> None:
        self._queue.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    async def __call__(self) -> dict[str, object]:
        if self._queue.empty():
            self.hungry.set()
        return await self._queue.get()


async def test_bodies_in_pieces_share_a_budget() -> None:
    budget = BodyBudget(100)
    first, second = Pieces(), Pieces()
    one, other = (RequestBody(pieces, None, 1000, budget, 5.0) for pieces in (first, second))
    first.put(b"x" * 60, more=True)
    reading = asyncio.ensure_future(one.read())
    await first.hungry.wait()
    second.put(b"y" * 60, more=True)
    with pytest.raises(OverloadedError):
        await other.read()
    other.release()
    first.put(b"z" * 40, more=False)
    assert len(await reading) == 100
    one.release()
    assert budget.used == 0


async def test_large_body_beyond_the_budget_is_503(serve: Serve) -> None:
    client = await serve(accepting(body_bytes_in_flight=300_000))
    refused = await client.request("POST", "/json", sized(2_000_000), [JSON])
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert (await client.request("POST", "/json", b'{"content":""}', [JSON])).status == 200


@pytest.mark.parametrize(
    "beginning",
    [
        b"POST /json HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{",
        b"POST /json HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
        b"POST /json HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n",
        b"POST /json HTTP/1.1\r\ncontent-ty",
    ],
)
async def test_request_that_does_not_arrive_in_time_is_408_and_ends_the_connection(
    serve: Serve, beginning: bytes
) -> None:
    client = await serve(application := accepting(body_timeout_seconds=0.05), head_timeout_seconds=0.05)
    assert (await client.post("/json", {"content": ""})).status == 200
    await client.send(beginning)
    reply = await asyncio.wait_for(client.receive(), 5)
    assert (reply.status, reply.headers["connection"]) == (408, "close")
    await application.drained()


async def test_slow_handler_is_not_a_slow_request(serve: Serve) -> None:
    entered = asyncio.Event()

    async def slow(request: Request) -> Response:
        entered.set()
        await json_body(request, DECODER)
        await asyncio.sleep(0.15)
        return text_response("done")

    application = HttpApplication()
    application.add_route("POST", "/slow", slow)
    client = await serve(application, head_timeout_seconds=0.05)
    await client.send(b"POST /slow HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{")
    await entered.wait()
    await client.send(b'"content":""}')
    assert (await client.receive()).text == "done"


async def test_client_that_leaves_during_its_body_is_counted_and_forgotten(serve: Serve) -> None:
    seen = asyncio.Queue[int]()

    class Observer:
        def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
            seen.put_nowait(status)

    client = await serve(application := accepting(observer=Observer()))
    await client.send(b"POST /json HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{")
    client.close()
    assert await asyncio.wait_for(seen.get(), 5) == 499
    assert application.in_flight == 0


async def test_expectation_of_100_continue_is_answered(client: RawClient) -> None:
    await client.send(
        b"POST /json HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 14\r\nexpect: 100-continue\r\n\r\n"
    )
    assert (await client.receive()).status == 100
    await client.send(b'{"content":""}')
    assert (await client.receive()).status == 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[{"\\', max_size=3), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


@given(json_values)
def test_any_json_value_passes_undecoded(value: object) -> None:
    text = msgspec.json.encode(value)
    body = decode_json(b'{"var_type":"x","value":%b}' % text, msgspec.json.Decoder(Variable))
    assert bytes(body.value) == text


@given(st.binary(max_size=40))
def test_no_bytes_raise_anything_but_a_rejection(body: bytes) -> None:
    for text in (body, b'{"var_type":"' + body + b'"}', b'{"var_type":"","value":' + body + b"}"):
        with contextlib.suppress(RejectedRequestError):
            decode_json(text, msgspec.json.Decoder(Variable))


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (b'"\\u0000"', True),
        (b'"\\\\u0000"', False),
        (b'"\\\\\\u0000"', True),
        (b'{"\\u0000":1}', True),
        (b'"u0000"', False),
    ],
)
def test_escaped_nul_is_told_from_an_escaped_backslash(text: bytes, refused: bool) -> None:
    with pytest.raises(Exception, match="payload must not") if refused else contextlib.nullcontext():
        refuse_nul_in_json("payload", text)


async def test_connection_without_a_request_is_closed(serve: Serve) -> None:
    client = await serve(accepting(), keep_alive_seconds=0.05)
    await client.send(b"")
    assert await asyncio.wait_for(client.closed(), 5)
