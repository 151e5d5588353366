"""What the deployment specification says of a starting server, and what it does when told not to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

if TYPE_CHECKING:
    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeServer


def lines(server: ServerProcess, message: str) -> list[dict[str, Any]]:
    found = [json.loads(line)["fields"] for line in server.log_text().splitlines()]
    return [fields for fields in found if fields["message"] == message]


@pytest.mark.parametrize(
    ("variables", "machine_id", "source"),
    [
        ({"NOETL_SERVER_MACHINE_ID": "7"}, 7, "NOETL_SERVER_MACHINE_ID"),
        ({"NOETL_SERVER_MACHINE_ID": "", "HOSTNAME": "noetl-server-1"}, 273, "derived from HOSTNAME"),
    ],
)
async def test_machine_id_and_its_source_are_logged_once(
    make_server: MakeServer, variables: dict[str, str], machine_id: int, source: str
) -> None:
    server = await make_server(variables)
    (fields,) = lines(server, "Snowflake generator initialized")
    assert (fields["machine_id"], fields["source"]) == (machine_id, source)


async def test_server_does_not_register_itself_when_told_so(make_server: MakeServer, database_url: str) -> None:
    await make_server({"NOETL_AUTO_RECREATE_RUNTIME": "false", "HOSTNAME": "managed"})
    connection: Any = await asyncpg.connect(database_url)
    try:
        assert await connection.fetch("SELECT name FROM noetl.runtime WHERE name LIKE '%managed%'") == []
    finally:
        await connection.close()
