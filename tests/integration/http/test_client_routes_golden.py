"""Our answers about results, variables, forms, SQL and more beside those recorded from the reference."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.golden.record_client_routes import GROUPS
from tests.golden.recording import Names
from tests.integration.http.client_application import client_application
from tests.integration.http.golden_comparison import ask, compare, recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Serve

RECORDED = recorded("client_routes")


@pytest.fixture(scope="module")
async def client(serve: Serve, migrated_database_url: str) -> AsyncIterator[RawClient]:
    async with client_application(migrated_database_url) as opened:
        yield await serve(opened.application)


@pytest.mark.parametrize("group", GROUPS)
async def test_every_answer_is_the_recorded_one(client: RawClient, group: str) -> None:
    names = Names(run=time.time_ns())
    for step in RECORDED[group]:
        compare(await ask(client, step, names), step, names)
