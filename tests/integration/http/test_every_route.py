"""The conventions of spec 10, section 2, on every route of the real server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.golden.count import ROUTES
from tests.integration.http.rawhttp import JSON, RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeServer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CORS = {
    "access-control-allow-origin": "*",
    "vary": "origin, access-control-request-method, access-control-request-headers",
}
PREFLIGHT = {"access-control-allow-methods": "*", "access-control-allow-headers": "*"}
PARAMETERS = {
    "{path...}": "none/ui_schema", "{name}": "none", "{var_name}": "none", "{step}": "none", "{event_id}": "77",
    "{execution_id}": "77", "{catalog_id}": "77",
}  # fmt: skip


def target_of(template: str) -> str:
    """A target of the route that matches nothing in the database."""
    for name, value in PARAMETERS.items():
        template = template.replace(name, value)
    return template


@pytest.fixture(scope="module")
async def client(make_server: MakeServer) -> AsyncIterator[RawClient]:
    server = await make_server({"NOETL_SQL_API": "open"})
    opened = RawClient("127.0.0.1", server.port)
    yield opened
    opened.close()


async def allowed(client: RawClient, template: str) -> set[str]:
    """The methods of a route, as a preflight tells them."""
    reply = await client.request("OPTIONS", target_of(template))
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers.items() >= {**CORS, **PREFLIGHT}.items()
    return set(reply.headers["allow"].split(","))


@pytest.mark.parametrize("template", ROUTES)
async def test_other_methods_are_405_without_body(client: RawClient, template: str) -> None:
    known = await allowed(client, template)
    assert known <= set(METHODS)
    assert ("HEAD" in known) == ("GET" in known)
    for method in (*METHODS, "TRACE"):
        if method not in known:
            reply = await client.request(method, target_of(template), "{", [("content-type", "text/plain")])
            assert (reply.status, reply.body) == (405, b""), method
            assert set(reply.headers["allow"].split(",")) == known
            assert "content-type" not in reply.headers
            assert reply.headers.items() >= CORS.items()


@pytest.mark.parametrize("template", ROUTES)
async def test_head_is_get_without_body(client: RawClient, template: str) -> None:
    if "GET" in await allowed(client, template):
        reply = await client.get(target_of(template))
        head = await client.request("HEAD", target_of(template))
        assert (head.status, head.body) == (reply.status, b"")
        assert head.headers.get("content-type") == reply.headers.get("content-type")


@pytest.mark.parametrize("template", ROUTES)
async def test_the_path_counts_as_it_is_written(client: RawClient, template: str) -> None:
    target = target_of(template)
    for other in (f"{target}/", f"/{target}", target.upper(), target.replace("/", "//")):
        reply = await client.get(other)
        if other.startswith("/api/catalog/"):  # a form of whatever path is there, or none
            assert reply.status in (404, 422)
        elif other.startswith("/api/internal/"):  # the token comes before the path
            assert reply.status == 401
        else:
            assert (reply.status, reply.body) == (404, b""), other


@pytest.mark.parametrize(
    "template", [one for one in ROUTES if "{execution_id}" in one and not one.startswith("/api/internal/")]
)
async def test_ids_of_every_route_have_one_grammar(client: RawClient, template: str) -> None:
    method = "GET" if "GET" in await allowed(client, template) else min(await allowed(client, template))
    for text in ("abc", "1.5", " ", "9223372036854775808", "1_0", "\u0661", "-", ""):
        target = target_of(template.replace("{execution_id}", quote(text) or "%20"))
        reply = await client.request(method, target, None if method == "GET" else "{}", [JSON])
        assert (reply.status, reply.headers["content-type"]) == (400, "text/plain; charset=utf-8"), (target, reply.text)
        assert reply.text.startswith("Invalid URL: Cannot parse "), target
        assert reply.text.endswith("to a `i64`"), target


@pytest.mark.parametrize("template", ["/api/credentials/{name}", "/api/vars/{execution_id}/{var_name}"])
async def test_names_may_be_any_text_but_broken_utf8(client: RawClient, template: str) -> None:
    start = target_of(template.rpartition("/")[0])
    for name in ("é", "a%2Fb", "%E2%82%AC", "a+b", "a%20b", "%25", "~!$&'()*,;=:@"):
        reply = await client.get(f"{start}/{name}" if name.isascii() else f"{start}/{quote(name)}")
        assert (reply.status, reply.headers["content-type"]) == (404, "application/json"), (name, reply.text)
    reply = await client.get(f"{start}/%ff")
    assert (reply.status, reply.text.partition("`")[0]) == (400, "Invalid URL: Invalid UTF-8 in ")


@pytest.mark.parametrize("line", ["GET /api/vars/77/\u00e9", "BREW /health", "get /health"])
async def test_what_the_grammar_of_http_does_not_know_is_400(client: RawClient, line: str) -> None:
    await client.send(f"{line} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
    assert (await client.receive()).status == 400
