"""Paths, methods, headers and errors: what holds for every route (spec 10, section 2)."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from blacksheep import Request, Response, StreamedContent

from noetl.errors import (
    ConflictError,
    DatabaseError,
    DatabaseUnavailableError,
    InternalError,
    NotFoundError,
    RejectedRequestError,
)
from noetl.http.application import HttpApplication
from noetl.http.requests import Query, path_integer, path_text
from noetl.http.responses import json_response, text_response

if TYPE_CHECKING:
    from tests.integration.http.rawhttp import RawClient, Serve

VARY = "origin, access-control-request-method, access-control-request-headers"


async def answer(request: Request) -> Response:
    return json_response({"path": dict(request.route_values or {})})


async def integer(request: Request) -> Response:
    return json_response({"id": path_integer(request, "execution_id")})


async def named(request: Request) -> Response:
    return json_response({"id": path_integer(request, "execution_id"), "name": path_text(request, "var_name")})


def conventional(**options: object) -> HttpApplication:
    application = HttpApplication(**options)  # type: ignore[arg-type]
    application.add_route("GET", "/health", answer, always=True)
    application.add_route("POST", "/api/execute", answer)
    application.add_route("GET", "/api/executions/{execution_id}", integer)
    application.add_route("GET", "/api/executions/{execution_id}/status", integer)
    application.add_route("DELETE", "/api/vars/{execution_id}", integer)
    application.add_route("POST", "/api/vars/{execution_id}", integer)
    application.add_route("GET", "/api/vars/{execution_id}", integer)
    application.add_route("GET", "/api/vars/{execution_id}/{var_name}", named)
    application.add_route("PUT", "/api/result/{execution_id}", integer)
    application.add_route("GET", "/api/result/resolve", answer)
    application.add_route("POST", "/api/catalog/list", answer)
    application.add_route("GET", "/api/catalog/{path...}", answer)
    return application


@pytest.fixture(scope="module")
async def client(serve: Serve) -> RawClient:
    return await serve(conventional())


@pytest.mark.parametrize(
    "target",
    [
        "/", "/nope", "/health/", "//health", "/Health", "/healt%68", "/health/../health", "/api/execute/",
        "/api/executions/", "/api/executions/1/", "/api/executions/1/status/", "/api/catalog/", "/api/catalog",
    ],
)  # fmt: skip
async def test_unknown_path_is_404_without_body(client: RawClient, target: str) -> None:
    reply = await client.get(target)
    assert (reply.status, reply.body, reply.headers["content-length"]) == (404, b"", "0")
    assert "content-type" not in reply.headers


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/health", "GET,HEAD"),
        ("GET", "/api/execute", "POST"),
        ("HEAD", "/api/execute", "POST"),
        ("PATCH", "/api/vars/1", "GET,HEAD,POST,DELETE"),
        ("GET", "/api/result/1", "PUT"),
        ("PUT", "/api/result/resolve", "GET,HEAD"),
        ("GET", "/api/catalog/list", "POST"),
        ("POST", "/api/catalog/a/b", "GET,HEAD"),
    ],
)
async def test_other_method_on_known_path_is_405_with_allow(
    client: RawClient, method: str, target: str, allow: str
) -> None:
    reply = await client.request(method, target)
    assert (reply.status, reply.headers["allow"]) == (405, allow)
    assert (reply.body, reply.headers["content-length"]) == (b"", "0")


async def test_head_has_status_and_headers_of_get_but_no_body(client: RawClient) -> None:
    for target in ("/health", "/api/executions/12", "/api/executions/abc", "/api/catalog/a/b"):
        get, head = await client.get(target), await client.request("HEAD", target)
        assert head.status == get.status
        assert head.headers["content-length"] == str(len(get.body))
        assert head.headers["content-type"] == get.headers["content-type"]
    assert (await client.get("/health")).status == 200  # nothing of a body was left in the connection


@pytest.mark.parametrize(
    ("target", "allow"), [("/health", "GET,HEAD"), ("/api/execute", "POST"), ("/nope", None), ("//health", None)]
)
async def test_options_on_any_path_answers_the_preflight(client: RawClient, target: str, allow: str | None) -> None:
    reply = await client.request("OPTIONS", target)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["access-control-allow-methods"] == reply.headers["access-control-allow-headers"] == "*"
    assert reply.headers.get("allow") == allow


async def test_every_answer_carries_cors_headers_a_request_id_and_no_server_header(client: RawClient) -> None:
    for method, target in (
        ("GET", "/health"), ("GET", "/nope"), ("PUT", "/health"), ("OPTIONS", "/nope"), ("GET", "/api/executions/x"),
        ("GET", "/api/vars/1/%ff"),
    ):  # fmt: skip
        reply = await client.request(method, target)
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.headers["vary"] == VARY
        assert reply.headers["x-request-id"]
        assert "server" not in reply.headers
        assert reply.headers["date"]


async def test_request_id_of_the_client_comes_back_and_a_bad_one_is_replaced(client: RawClient) -> None:
    assert (await client.request("GET", "/health", headers=[("X-Request-ID", "a-1")])).headers["x-request-id"] == "a-1"
    for bad in ("", "a b", "x" * 129, "caf\u00e9"):
        ours = (await client.request("GET", "/health", headers=[("X-Request-ID", bad)])).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", ours)
    first, second = [(await client.get("/health")).headers["x-request-id"] for _ in range(2)]
    assert first != second


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+1", 1), ("-1", -1), ("007", 7), ("%31", 1), ("-0", 0), ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)), ("0" * 5000 + "5", 5),
    ],
)  # fmt: skip
async def test_path_integers(client: RawClient, text: str, value: int) -> None:
    assert (await client.get(f"/api/executions/{text}")).json == {"id": value}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc", "abc"), ("1.5", "1.5"), ("%20", " "), ("-", "-"), ("9223372036854775808", "9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"), ("%D9%A1", "\u0661"), ("1_0", "1_0"), ("5%2F", "5/"),
        ("+-5", "+-5"), ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
async def test_what_is_not_a_path_integer_is_400(client: RawClient, text: str, shown: str) -> None:
    reply = await client.get(f"/api/executions/{text}")
    assert (reply.status, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert reply.text == f"Invalid URL: Cannot parse `{shown}` to a `i64`"


async def test_first_of_two_path_parameters_is_named_by_its_index(client: RawClient) -> None:
    reply = await client.get("/api/vars/abc/x")
    assert (reply.status, reply.text) == (400, "Invalid URL: Cannot parse value at index 0 with value `abc` to a `i64`")


async def test_path_parameters_are_decoded_after_routing(client: RawClient) -> None:
    assert (await client.get("/api/vars/1/a%2Fb%20c%C3%A9+")).json == {"id": 1, "name": "a/b c\u00e9+"}
    reply = await client.get("/api/vars/1/%ff")
    assert (reply.status, reply.text) == (400, "Invalid URL: Invalid UTF-8 in `var_name`")


async def test_empty_parameter_matches_in_the_middle_of_a_path_only(client: RawClient) -> None:
    assert (await client.get("/api/executions//status")).text == "Invalid URL: Cannot parse `` to a `i64`"
    assert (await client.get("/api/vars/1/")).status == 404


async def test_tail_takes_the_rest_of_the_path_and_gives_way_to_literals(client: RawClient) -> None:
    assert (await client.get("/api/catalog/a/b%2Fc/ui_schema")).json == {"path": {"path": "a/b/c/ui_schema"}}
    assert (await client.get("/api/catalog/list/Playbook")).json == {"path": {"path": "list/Playbook"}}


async def test_query_strings(serve: Serve) -> None:
    async def queried(request: Request) -> Response:
        query = Query(request)
        return json_response(
            {
                "limit": query.integer("limit"),
                "small": query.integer("small", bits=32, signed=False),
                "flag": query.boolean("flag"),
                "ref": query.required_text("ref"),
            }
        )

    application = HttpApplication()
    application.add_route("GET", "/q", queried)
    client = await serve(application)
    prefix = "Failed to deserialize query string: "
    target = "/q?&&limit=%2B12&flag=true&ref=a+b%20%ff%2B&REF=1&other&other=2&small=4294967295"
    assert (await client.get(target)).json == {"limit": 12, "small": 2**32 - 1, "flag": True, "ref": "a b \ufffd+"}
    assert (await client.get("/q?ref")).json == {"limit": None, "small": None, "flag": None, "ref": ""}
    for query, message in {
        "": "missing field `ref`",
        "ref=1&limit=x": "limit: invalid digit found in string",
        "ref=1&limit=+1": "limit: invalid digit found in string",
        "ref=1&limit=": "limit: cannot parse integer from empty string",
        "ref=1&limit": "limit: cannot parse integer from empty string",
        "ref=1&limit=9223372036854775808": "limit: number too large to fit in target type",
        "ref=1&limit=-9223372036854775809": "limit: number too small to fit in target type",
        "ref=1&small=-1": "small: invalid digit found in string",
        "ref=1&small=4294967296": "small: number too large to fit in target type",
        "ref=1&flag=True": "flag: provided string was not `true` or `false`",
        "ref=1&flag=": "flag: provided string was not `true` or `false`",
        "ref=1&ref=2": "duplicate field `ref`",
    }.items():
        reply = await client.get(f"/q?{query}")
        assert (reply.status, reply.text) == (400, prefix + message), query


def failing(error: Exception, **options: object) -> HttpApplication:
    async def fail(_request: Request) -> Response:
        raise error

    application = HttpApplication(**options)  # type: ignore[arg-type]
    application.add_route("GET", "/", fail)
    return application


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (NotFoundError("gone"), 404, b'{"error":"gone","status":404}'),
        (ConflictError('a "b"'), 409, b'{"error":"a \\"b\\"","status":409}'),
        (
            InternalError("Template parse error: x", detail="d"),
            500,
            b'{"error":"Template parse error: x","status":500}',
        ),
        (DatabaseError("Database error: secret"), 500, b'{"error":"Database error","status":500}'),
        (ValueError("secret"), 500, b'{"error":"Internal error","status":500}'),
        (KeyError("secret"), 500, b'{"error":"Internal error","status":500}'),
    ],
)
async def test_errors_have_exactly_error_and_status(serve: Serve, error: Exception, status: int, body: bytes) -> None:
    reply = await (await serve(failing(error))).get("/")
    assert (reply.status, reply.body, reply.headers["content-type"]) == (status, body, "application/json")
    assert reply.headers["access-control-allow-origin"] == "*"


async def test_debug_shows_internal_detail(serve: Serve) -> None:
    detail = "Database error: error returned from database: x"
    client = await serve(failing(DatabaseError("Database error", detail=detail), debug=True))
    assert (await client.get("/")).json["error"] == detail
    client = await serve(failing(ValueError("reason"), debug=True))
    assert (await client.get("/")).json["error"] == "ValueError: reason"


async def test_unexpected_errors_are_logged_under_the_request_id(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = await serve(failing(ValueError("reason")))
    await client.request("GET", "/", headers=[("x-request-id", "req-7")])
    [record] = [record for record in caplog.records if record.name == "noetl.http"]
    assert record.exc_info is not None
    assert record.__dict__["request_id"] == "req-7"


async def test_unavailable_tells_when_to_retry(serve: Serve) -> None:
    reply = await (await serve(failing(DatabaseUnavailableError("pool timed out", retry_after=2)))).get("/")
    assert (reply.status, reply.headers["retry-after"]) == (503, "2")
    assert reply.json == {"error": "pool timed out", "status": 503}


async def test_rejections_are_plain_text(serve: Serve) -> None:
    reply = await (await serve(failing(RejectedRequestError(415, "no")))).get("/")
    assert (reply.status, reply.text, reply.headers["content-type"]) == (415, "no", "text/plain; charset=utf-8")


class Gate:
    """A handler that waits to be let through."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _request: Request) -> Response:
        self.entered.set()
        await self.open.wait()
        return text_response("through")


async def test_requests_beyond_the_limit_get_503_while_probes_are_served(serve: Serve) -> None:
    gate = Gate()
    application = conventional(max_in_flight=1)
    application.add_route("GET", "/gate", gate)
    waiting, other = await serve(application), await serve(application)
    first = asyncio.ensure_future(waiting.get("/gate"))
    await gate.entered.wait()
    assert application.in_flight == 1
    refused = await other.get("/api/executions/1")
    assert (refused.status, refused.headers["retry-after"], refused.json["status"]) == (503, "1", 503)
    by_parser = await other.request("GET", "/api/executions/1", headers=[("connection", "keep-alive")])
    assert (by_parser.status, by_parser.headers["retry-after"]) == (503, "1")
    assert by_parser.body == refused.body
    await other.send(b"GET /api/executions/1 HTTP/1.1\r\nHost: x\r\n\r\n" * 2)  # not one request: both are parsed
    assert [(await other.receive()).status for _ in range(2)] == [503, 503]
    own = {"x-request-id", "date"}
    assert {*by_parser.headers} - own == {*refused.headers} - own
    assert (await other.get("/health")).status == 200
    gate.open.set()
    assert (await first).status == 200
    assert (await other.get("/api/executions/1")).status == 200


async def test_what_workers_report_is_refused_last(serve: Serve) -> None:
    room = 4
    gate = Gate()
    application = conventional(max_in_flight=4, room=lambda: room)
    application.add_route("POST", "/gate", gate, last=True)
    application.add_route("POST", "/report", answer, last=True)
    client = await serve(application)

    async def asked() -> list[int]:
        parsed = [("connection", "keep-alive")]
        return [
            (await client.get("/api/executions/1")).status,
            (await client.request("GET", "/api/executions/1", headers=parsed)).status,
            (await client.post("/report", b"")).status,
            (await client.request("POST", "/report", headers=parsed)).status,
            (await client.get("/health")).status,
        ]

    assert await asked() == [200] * 5
    waiting = [await serve(application) for _ in range(3)]
    requests = [asyncio.ensure_future(one.post("/gate", b"")) for one in waiting]
    async with asyncio.timeout(5):
        while application.in_flight < 3:  # noqa: ASYNC110 (a counter)
            await asyncio.sleep(0)
    assert await asked() == [503, 503, 200, 200, 200]
    room = 3
    assert await asked() == [503, 503, 503, 503, 200]
    gate.open.set()
    assert [(await request).status for request in requests] == [200] * 3


async def test_rest_of_a_refused_body_is_no_request(serve: Serve) -> None:
    gate = Gate()
    application = conventional(max_in_flight=1)
    application.add_route("POST", "/gate", gate)
    waiting, other, third = await serve(application), await serve(application), await serve(application)
    first = asyncio.ensure_future(waiting.post("/gate", b""))
    await gate.entered.wait()
    inner = b"GET /api/executions/1 HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /gate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 + len(inner))
    await other.send(head + b"-")
    assert (await other.receive()).status == 503  # by the application: the body is not all there
    await other.send(inner)
    assert (await third.get("/health")).status == 200  # the piece before is read by now
    await other.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await other.receive()).status == 200
    gate.open.set()
    assert (await first).status == 200


async def test_draining_closes_connections_after_their_answer_and_waits_for_the_last(serve: Serve) -> None:
    gate = Gate()
    application = HttpApplication()
    application.add_route("GET", "/gate", gate)
    client = await serve(application)
    reply = asyncio.ensure_future(client.get("/gate"))
    await gate.entered.wait()
    application.begin_drain()
    drained = asyncio.ensure_future(application.drained())
    await asyncio.sleep(0)
    assert application.draining
    assert not drained.done()
    gate.open.set()
    answered = await reply
    assert (answered.status, answered.headers["connection"]) == (200, "close")
    await drained
    assert application.in_flight == 0


async def test_request_cut_by_the_shutdown_deadline_gets_503(serve: Serve) -> None:
    entered = asyncio.Event()
    running: list[asyncio.Task[None]] = []

    async def handler(_request: Request) -> Response:
        running.append(asyncio.current_task())  # type: ignore[arg-type]
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    application = HttpApplication()
    application.add_route("GET", "/gate", handler)
    client = await serve(application)
    reply = asyncio.ensure_future(client.get("/gate"))
    await entered.wait()
    running[0].cancel()
    assert (await reply).status == 503


async def test_streamed_body_that_fails_cuts_the_connection(serve: Serve) -> None:
    async def pieces():  # type: ignore[no-untyped-def]
        yield b"[1"
        raise ValueError("reading failed")

    async def handler(_request: Request) -> Response:
        return Response(200, None, StreamedContent(b"application/json", pieces))

    application = HttpApplication()
    application.add_route("GET", "/stream", handler)
    client = await serve(application)
    with pytest.raises(asyncio.IncompleteReadError):
        await client.get("/stream")
    assert application.in_flight == 0


async def test_observer_hears_of_each_request_by_its_template(serve: Serve) -> None:
    seen: list[tuple[str, str, int]] = []

    class Observer:
        def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
            assert seconds >= 0
            seen.append((method, route, status))

    client = await serve(conventional(observer=Observer()))
    await client.get("/api/executions/7")
    await client.get("/nope")
    await client.request("PUT", "/health")
    await client.request("LOCK", "/health")
    await client.request("OPTIONS", "/health")
    assert seen == [
        ("GET", "/api/executions/{execution_id}", 200),
        ("GET", "unmatched", 404),
        ("PUT", "/health", 405),
        ("other", "/health", 405),
        ("OPTIONS", "/health", 200),
    ]


def test_the_same_method_and_path_cannot_be_registered_twice() -> None:
    application = conventional()
    for method, template in (
        ("GET", "/health"), ("GET", "/api/catalog/{other...}"), ("GET", "/api/executions/{other}"),
        ("GET", "/a/{b...}/c"), ("GET", "a"), ("HEAD", "/x"),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            application.add_route(method, template, answer)
