"""Our answers on the internal routes beside those recorded from the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.http.internal_routes import TOKEN, internal_application
from tests.integration.http.test_golden import comparable_text
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.http.application import HttpApplication
    from tests.integration.http.rawhttp import RawClient, Reply, Serve
    from tests.integration.ledger_harness import LedgerHarness

FOLDER = Path(__file__).parents[2] / "golden" / "internal"


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


@pytest.mark.parametrize(
    "scenario",
    [pytest.param(json.loads(file.read_text()), id=file.stem) for file in sorted(FOLDER.glob("*.json"))],
)
async def test_scenario_goes_as_with_the_reference(
    client: RawClient, harness: LedgerHarness, scenario: dict[str, Any]
) -> None:
    for statement in scenario["prepare"]:
        await harness.database.execute(statement)
    for step in scenario["steps"]:
        if "sql" in step:
            assert json.loads(await harness.database.fetchval(step["sql"])) == step["rows"]
        elif "execute" in step:
            await harness.database.execute(step["execute"])
        else:
            compare(await ask(client, step), step)
    for statement in scenario["clean"]:
        await harness.database.execute(statement)


async def ask(client: RawClient, step: dict[str, Any]) -> Reply:
    headers: list[tuple[str, str]] = []
    if "body" in step:
        headers.append(("content-type", "application/json"))
    if "authorization" in step:
        headers.append(("authorization", step["authorization"].replace("{token}", TOKEN)))
    return await client.request(step["method"], step["target"], step.get("body"), headers)


def compare(reply: Reply, step: dict[str, Any]) -> None:
    answer = step["answer"]
    about = f"{step} {reply.text}"
    if "deviation" in step:
        assert reply.status == step["deviation"]["status"], about
        if "body" in step["deviation"]:
            assert reply.json == step["deviation"]["body"], about
    elif answer["status"] == 403:
        # The reference forbids where the deployment specification wants 401 (00-decisions, 7).
        assert (reply.status, reply.json) == (401, {"error": answer["body"], "status": 401}), about
    else:
        assert (reply.status, reply.headers.get("content-type")) == (answer["status"], answer["content_type"]), about
        assert comparable_text(reply.text) == comparable_text(answer["body"]), about
