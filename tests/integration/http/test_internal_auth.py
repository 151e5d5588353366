"""Nothing below `/api/internal/` is answered without the token (spec 20, section 10.1; 00-decisions, 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noetl.config.secret import Secret
from noetl.http.application import HttpApplication
from noetl.http.internal_auth import InternalGuard, InternalToken
from noetl.http.responses import text_response

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from tests.integration.http.rawhttp import RawClient, Reply, Serve

TOKEN = "s3cret"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
PATHS = ["/api/internal/thing", "/api/internal/thing/5", "/api/internal/nope", "/api/internal/thing/", "/api/internal/"]


async def welcome(_request: Request) -> Response:
    return text_response("welcome")


def application(token: str | None) -> HttpApplication:
    served = HttpApplication()
    served.add_route("GET", "/api/internal/thing", welcome)
    served.add_route("PUT", "/api/internal/thing/{id}", welcome)
    served.add_route("POST", "/api/open", welcome)
    InternalGuard(InternalToken(None if token is None else Secret(token))).register(served)
    return served


@pytest.fixture(scope="module")
def guarded() -> HttpApplication:
    return application(TOKEN)


@pytest.fixture
async def client(serve: Serve, guarded: HttpApplication) -> RawClient:
    return await serve(guarded)


async def ask(client: RawClient, authorization: str, method: str = "GET", path: str = PATHS[0]) -> Reply:
    return await client.request(method, path, None, [("authorization", authorization)])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
async def test_every_path_and_method_is_401_without_the_token(client: RawClient, method: str, path: str) -> None:
    for reply in (await client.request(method, path), await ask(client, "Bearer wrong", method, path)):
        assert (reply.status, reply.headers["content-type"]) == (401, "application/json")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "allow" not in reply.headers


async def test_the_answer_says_what_is_wrong(client: RawClient) -> None:
    async def error(authorization: str) -> str:
        return (await ask(client, authorization)).json["error"]

    assert (await client.get(PATHS[0])).json == {
        "error": "Internal API requires Authorization header with Bearer token.", "status": 401,
    }  # fmt: skip
    scheme = "Internal API requires 'Bearer <token>' Authorization scheme."
    for authorization in ("", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer\t{TOKEN}", f"Bearer{TOKEN}"):
        assert await error(authorization) == scheme
    wrong = "Invalid service-account token for /api/internal/*."
    for token in ("x", f"{TOKEN}x", TOKEN[:-1], TOKEN.upper(), f"x {TOKEN}", f'"{TOKEN}"'):
        assert await error(f"Bearer {token}") == wrong
    assert await error("Bearer \u00e9") == "Internal API Authorization header is not valid ASCII."


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER   {TOKEN}  "])
async def test_the_token_opens_known_paths_only(client: RawClient, authorization: str) -> None:
    assert (await ask(client, authorization)).text == "welcome"
    assert (await ask(client, authorization, "HEAD")).status == 200
    assert (await ask(client, authorization, "PUT", PATHS[1])).text == "welcome"
    for method, path, allow in (("POST", PATHS[0], "GET,HEAD"), ("GET", PATHS[1], "PUT"), ("HEAD", PATHS[1], "PUT")):
        reply = await ask(client, authorization, method, path)
        assert (reply.status, reply.headers["allow"], reply.body) == (405, allow, b"")
    for path in PATHS[2:]:
        reply = await ask(client, authorization, "POST", path)
        assert (reply.status, reply.body) == (404, b"")


async def test_paths_outside_are_not_touched(client: RawClient) -> None:
    assert (await client.request("POST", "/api/open")).text == "welcome"
    assert (await client.get("/api/open")).status == 405
    for path in ("/api/internal", "/api/internals/thing", "/api//internal/thing", "/api/%69nternal/thing"):
        assert (await client.get(path)).status == 404


async def test_preflight_needs_no_token(client: RawClient) -> None:
    reply = await client.request("OPTIONS", PATHS[0])
    assert (reply.status, reply.headers["access-control-allow-headers"]) == (200, "*")


@pytest.mark.parametrize("token", [None, "", " \n"])
async def test_without_a_configured_token_nobody_gets_in(serve: Serve, token: str | None) -> None:
    client = await serve(application(token))
    for authorization in ("Bearer ", "Bearer x", "Bearer None"):
        for path in PATHS:
            reply = await ask(client, authorization, path=path)
            assert reply.status == 401
            assert "NOETL_INTERNAL_API_TOKEN" in reply.json["error"]


async def test_blanks_around_the_configured_token_do_not_count(serve: Serve) -> None:
    client = await serve(application(f" {TOKEN}\n"))
    assert (await ask(client, f"Bearer {TOKEN}")).status == 200
