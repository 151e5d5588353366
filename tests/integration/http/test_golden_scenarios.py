"""Catalog, executions, commands and workers on the real server, beside what the reference answered to the same."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.golden.recording import Names
from tests.golden.scenario import play
from tests.integration.http.golden_comparison import ask, compare, recorded
from tests.integration.http.rawhttp import RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeServer

RECORDED = recorded("scenarios")


@pytest.fixture(scope="module")
async def server(make_server: MakeServer, database_url: str) -> AsyncIterator[tuple[RawClient, Any]]:
    running = await make_server()
    client = RawClient("127.0.0.1", running.port)
    database: Any = await asyncpg.connect(database_url, server_settings={"TimeZone": "UTC"})
    yield client, database
    await database.close()
    client.close()


@pytest.mark.parametrize("name", RECORDED)
async def test_scenario_goes_as_with_the_reference(server: tuple[RawClient, Any], name: str) -> None:
    client, database = server
    names = Names(run=time.time_ns())
    differing: list[str] = []
    async for step, outcome in play(RECORDED[name], names, database, lambda step: ask(client, step, names)):
        try:
            if "sql" in step:
                assert outcome == step["rows"]
            elif outcome is not None:
                compare(outcome, step, names)
        except AssertionError as difference:
            differing.append(str(difference))
    assert not differing, "\n\n".join(differing)
