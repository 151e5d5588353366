"""The table of docs/secrets.md is true: which routes need the token (spec 40, section 19; 00-decisions, 6 and 7)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncpg
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
async def server(make_server: MakeServer, migrated_database_url: str) -> ServerProcess:
    """A server on a database with records of the audit from before the retention and after."""
    await on_database(
        migrated_database_url,
        "INSERT INTO noetl.secret_audit (audit_id, occurred_at, credential, operation, outcome)"
        " SELECT days, now() - make_interval(days => days), 'c', 'get_credential', 'ok'"
        " FROM unnest('{9,11}'::integer[]) AS days",
    )
    return await make_server({"NOETL_SECRET_AUDIT_RETENTION_DAYS": "10"}, database_url=migrated_database_url)


async def on_database(url: str, query: str) -> list[Any]:
    """The first column of a query's rows."""
    connection = cast("Any", await asyncpg.connect(url))
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


def documented_as_guarded() -> tuple[str, set[str]]:
    """The prefix and the routes of the rows that demand the internal token."""
    rows = PAGE.read_text().partition("## Access and audit")[2].split("\n\n")[1].splitlines()[2:]
    internal, sql = (set(re.findall(r"`([A-Z]+ /[^`]+|/[^`]+)`", row.split("|")[1])) for row in rows[:2])
    (prefix,) = internal
    return prefix.removesuffix("*"), sql


async def test_exactly_the_documented_routes_need_the_token(server: ServerProcess, migrated_database_url: str) -> None:
    prefix, sql_routes = documented_as_guarded()
    assert (prefix, sql_routes) == ("/api/internal/", SQL_ROUTES)
    client = RawClient("127.0.0.1", server.port)
    guarded = 0
    for method, template in await registered_routes(migrated_database_url):
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


async def test_a_server_deletes_records_of_the_audit_past_their_retention(
    server: ServerProcess, migrated_database_url: str
) -> None:
    left = [9, 11]
    async with asyncio.timeout(20):
        while left != [9]:  # the sweep runs in the server
            left = await on_database(
                migrated_database_url, "SELECT audit_id FROM noetl.secret_audit WHERE credential = 'c'"
            )
            await asyncio.sleep(0.05)
