"""Our answers to malformed and refused requests beside those recorded from the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl.config import load_settings
from noetl.errors import NotFoundError
from noetl.http.application import HttpApplication
from noetl.http.commands import CommandRoutes
from noetl.http.events import EventRoutes
from noetl.http.executions_start import ExecuteRoutes
from noetl.http.health import DatabaseState, HealthRoutes, NatsState, Phase
from noetl.http.metrics import MetricsRoutes
from noetl.http.runtime import RuntimeRoutes
from noetl.store.database import Database, PoolStatistics
from noetl.store.runtime import RuntimeStore
from tests.golden.recording import Names
from tests.integration.http.golden_comparison import ask, compare, recorded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.ledger.items import CommandView, IncomingEvent, StartedExecution, StartExecution
    from tests.integration.http.rawhttp import RawClient, Serve


class EmptyLedger:
    """A ledger of a server that has no playbook, no execution and no command."""

    async def ingest(self, execution_id: int, _events: list[IncomingEvent]) -> list[int]:
        raise NotFoundError(f"Execution not found: {execution_id}")

    async def command(self, event_id: int) -> CommandView:
        raise NotFoundError(f"command.issued event not found: {event_id}")

    async def claim(self, event_id: int, _worker_id: str) -> CommandView:
        raise NotFoundError(f"command.issued event not found: {event_id}")

    async def start(self, start: StartExecution) -> StartedExecution:
        if start.catalog_id is not None:
            raise NotFoundError(f"Catalog entry not found: {start.catalog_id}")
        raise NotFoundError(f"Playbook not found: {start.path}")


class Healthy:
    phase = Phase.RUNNING
    database = DatabaseState.OK
    nats = NatsState.CONNECTED
    pool = PoolStatistics(0, 2, 2, 2, 0)
    uptime_seconds = 1.0
    version = "0"
    server_name = "s"

    def render(self) -> bytes:
        return b""


@pytest.fixture(scope="module")
async def client(serve: Serve, migrated_database_url: str) -> AsyncIterator[RawClient]:
    database = await Database.connect(load_settings({"DATABASE_URL": migrated_database_url}).database)
    application = HttpApplication()
    ledger = EmptyLedger()
    for routes in (
        EventRoutes(ledger), CommandRoutes(ledger), ExecuteRoutes(ledger), HealthRoutes(Healthy()),
        MetricsRoutes(Healthy()), RuntimeRoutes(RuntimeStore(database), lambda: 1),
    ):  # fmt: skip
        routes.register(application)
    yield await serve(application)
    await database.close()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, id=f"{group}-{index}-{step['method']} {step['target']} {step.get('body', '')}"[:90])
        for group, steps in recorded("http").items()
        for index, step in enumerate(steps)
    ],
)
async def test_answer_is_that_of_the_reference(client: RawClient, step: dict[str, Any]) -> None:
    names = Names()
    compare(await ask(client, step, names), step, names)
