"""The table of docs/secrets.md is true: which routes need the token (spec 40, section 19; 00-decisions, 6 and 7)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import INTERNAL_TOKEN
from tests.integration.http.rawhttp import JSON, RawClient
from tests.integration.leaks.routes import registered_routes

if TYPE_CHECKING:
    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeServer

PAGE = Path(__file__).parents[2] / "docs" / "secrets.md"
SQL_ROUTES = {"POST /api/postgres/execute", "POST /api/db/init"}


@pytest.fixture(scope="module")
async def server(make_server: MakeServer) -> ServerProcess:
    return await make_server()


def documented_as_guarded() -> tuple[str, set[str]]:
    """The prefix and the routes of the rows that demand the internal token."""
    rows = PAGE.read_text().partition("## Access and audit")[2].split("\n\n")[1].splitlines()[2:]
    internal, sql = (set(re.findall(r"`([A-Z]+ /[^`]+|/[^`]+)`", row.split("|")[1])) for row in rows[:2])
    (prefix,) = internal
    return prefix.removesuffix("*"), sql


async def test_exactly_the_documented_routes_need_the_token(server: ServerProcess, database_url: str) -> None:
    prefix, sql_routes = documented_as_guarded()
    assert (prefix, sql_routes) == ("/api/internal/", SQL_ROUTES)
    client = RawClient("127.0.0.1", server.port)
    guarded = 0
    for method, template in await registered_routes(database_url):
        target = "/".join("1" if segment.startswith("{") else segment for segment in template.split("/"))
        body = "{}" if method in {"POST", "PUT", "PATCH"} else None
        wanted = template.startswith(prefix) or f"{method} {template}" in sql_routes
        for authorization in (None, f"Bearer {INTERNAL_TOKEN}x", f"Bearer {INTERNAL_TOKEN[:-1]}", INTERNAL_TOKEN):
            headers = [JSON] if authorization is None else [JSON, ("authorization", authorization)]
            reply = await client.request(method, target, body, headers)
            assert (reply.status == 401) == wanted, f"{method} {template} {authorization} {reply.status}"
        guarded += wanted
    assert guarded > 20
    client.close()
