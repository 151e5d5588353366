"""Our answers on the internal routes beside those recorded from the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden.recording import Names
from tests.golden.scenario import play
from tests.integration.http.golden_comparison import ask, compare, recorded
from tests.integration.http.internal_routes import TOKEN, internal_application
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.http.application import HttpApplication
    from tests.integration.http.rawhttp import RawClient, Serve
    from tests.integration.ledger_harness import LedgerHarness


@pytest.fixture(scope="module")
async def harness(migrated_database_url: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(migrated_database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def application(harness: LedgerHarness) -> HttpApplication:
    return internal_application(harness)


@pytest.fixture
async def client(application: HttpApplication, serve: Serve) -> RawClient:
    return await serve(application)


@pytest.mark.parametrize("name", recorded("internal"))
async def test_scenario_goes_as_with_the_reference(client: RawClient, harness: LedgerHarness, name: str) -> None:
    names = Names(token=TOKEN)
    played = recorded("internal")[name]
    async for step, outcome in play(played, names, harness.database, lambda step: ask(client, step, names)):
        if "sql" in step:
            assert outcome == step["rows"]
        elif outcome is not None:
            compare(outcome, step, names)
