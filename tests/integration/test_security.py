"""docs/security.md is what a running server does, and the server warns when it is open to more than it should be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from noetl.config import load_settings
from noetl.server import Server
from noetl.store.database import Database
from tests.integration.http.rawhttp import RawClient
from tests.integration.security_table import BEGIN, END, PAGE, security_table

if TYPE_CHECKING:
    from tests.conftest import MakeServer


async def registered_routes(database_url: str) -> list[tuple[str, str]]:
    """Method and template of every route, but HEAD and the refusals that close the internal prefix."""
    settings = load_settings({"DATABASE_URL": database_url})
    database = await Database.connect(settings.database)
    try:
        return [
            (method, route.template)
            for route in Server(settings, database).application.routes
            for method in route.endpoints
            if method != "HEAD"
        ]
    finally:
        await database.close()


async def test_table_of_routes_and_tokens_is_that_of_the_server(make_server: MakeServer, database_url: str) -> None:
    server = await make_server(nats_url="")
    client = RawClient("127.0.0.1", server.port)
    table = await security_table(client, await registered_routes(database_url))
    client.close()
    before, _, rest = PAGE.read_text().partition(BEGIN)
    documented, _, after = rest.partition(END)
    if "NOETL_UPDATE_SECURITY_TABLE" in os.environ:
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}")
        documented = table
    assert documented == table, "NOETL_UPDATE_SECURITY_TABLE=1 pytest tests/integration/test_security.py writes it"


@pytest.mark.parametrize(
    ("host", "sql_api", "warned"),
    [
        ("0.0.0.0", "open", True),
        ("192.0.2.1", "open", True),
        ("127.0.0.1", "open", False),
        ("localhost", "open", False),
        ("::1", "open", False),
        ("0.0.0.0", "token", False),
        ("0.0.0.0", "off", False),
    ],
)
def test_open_sql_route_beyond_loopback_is_warned_of(host: str, sql_api: str, warned: bool) -> None:
    settings = load_settings({"NOETL_HOST": host, "NOETL_SQL_API": sql_api})
    warnings = [notice.message for notice in settings.notices if "NOETL_SQL_API" in notice.message]
    assert bool(warnings) == warned
