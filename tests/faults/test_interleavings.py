"""Random workflows under random interleavings, against the model that knows what each must issue (promises P2, P3).

Two ledgers work on one database. One of them keeps no state in memory, so that it rebuilds everything all the time.
Notifications are delivered late, twice or never; events are repeated, at the same time and later, through either
ledger; connections of the lanes break; workers are replaced and report all the same.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from noetl._fast.snowflake import SnowflakeGenerator
from noetl.errors import ConflictError, DatabaseUnavailableError, OverloadedError
from noetl.ledger.items import StartExecution
from noetl.ledger.ledger import LedgerLimits
from noetl.ledger.scope import Notification
from noetl.store.commands import CommandStore
from tests.faults.checker import open_check, query, unfinished, violations
from tests.faults.history import History
from tests.faults.workflows import Workflow, random_workflow
from tests.integration.ledger_harness import incoming, open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase
    from tests.integration.ledger_harness import LedgerHarness

pytestmark = pytest.mark.faults

EXAMPLES = int(os.environ.get("NOETL_FAULT_EXAMPLES", "12"))
WORKERS = 6
ATTEMPTS = 1_000
PATIENCE_SECONDS = 30


class Pair:
    """Two ledgers on one database, which share the place where their notifications arrive."""

    def __init__(self, database_url: str, ledgers: list[LedgerHarness]) -> None:
        self.database_url = database_url
        self.ledgers = ledgers
        self.examples = 0
        self.mint = SnowflakeGenerator(900).mint


@pytest.fixture(scope="module")
async def pair(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[Pair]:
    url = await make_database(schema_template)
    async with (
        open_ledger(url, machine_id=1) as first,
        open_ledger(url, machine_id=2, announcer=first.announcer, limits=LedgerLimits(state_bytes=1)) as second,
    ):
        yield Pair(url, [first, second])


class Play:
    """One example: some executions, the workers that serve them, and everything that goes wrong."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.pair = pair
        self.chance = random.Random(seed)
        self.queue = pair.ledgers[0].announcer.queue
        self.history = History()
        self.plans: dict[int, Workflow] = {}

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    async def through_any(self, action: Any) -> Any:
        """Call one of the ledgers, and again when it cannot answer now, as clients do."""
        while True:
            try:
                return await action(self.chance.choice(self.pair.ledgers))
            except (DatabaseUnavailableError, OverloadedError):
                await asyncio.sleep(0.01)

    async def run(self, workflows: list[Workflow]) -> None:
        for workflow in workflows:
            await self.pair.ledgers[0].register(workflow.text)
        async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
            workers = [group.create_task(self.serve(f"w{number}")) for number in range(WORKERS)]
            breaking = group.create_task(self.break_connections())
            await asyncio.gather(*(self.start(workflow) for workflow in workflows))
            # what was lost is announced again until nothing is open
            while await self.remind():  # noqa: ASYNC110 (only the database knows)
                await asyncio.sleep(0.05)
            for task in (*workers, breaking):
                task.cancel()

    async def start(self, workflow: Workflow) -> None:
        """Several times under one key: the answers name one execution."""
        request = StartExecution(path=workflow.path, idempotency_key=f"{workflow.path}-{self.pair.examples}")
        times = self.chance.choice((1, 1, 2))
        started = await asyncio.gather(
            *(self.through_any(lambda side: side.ledger.start(request)) for _ in range(times))
        )
        assert len({answer.execution_id for answer in started}) == 1
        self.plans[started[0].execution_id] = workflow

    async def serve(self, name: str) -> None:
        while True:
            item = await self.queue.get()
            if self.happens(0.1):
                continue  # lost
            if self.happens(0.15):
                self.queue.put_nowait(item)  # and delivered again
            await self.work(item, name)

    async def work(self, item: Notification, name: str) -> None:
        try:
            await self.through_any(lambda side: side.claim(item, name))
        except ConflictError:
            return
        if self.happens(0.1) and await self.replaced(item, name) and self.happens(0.5):
            return  # never heard of again; otherwise it reports although somebody else has the command
        await self.tell(item, name, "command.started", "STARTED", {})
        if self.happens(0.9):
            await self.tell(item, name, "call.done", "COMPLETED", {"result": {"status": "success", "context": {}}})
        await self.tell(item, name, "command.completed", "success", {"status": "success"})

    async def replaced(self, item: Notification, name: str) -> bool:
        """The sweep takes the command back."""
        outcome = await self.through_any(
            lambda side: side.ledger.requeue(item.execution_id, item.event_id, name, ATTEMPTS, 0)
        )
        return outcome == "requeued"

    async def tell(self, item: Notification, name: str, event_type: str, status: str, payload: dict[str, Any]) -> None:
        """Post one event, sometimes several times, at once or one after the other."""
        event_id = self.pair.mint()

        async def post() -> None:
            event = incoming(event_type, item.step, status, {"command_id": item.command_id, **payload}, event_id)
            event.meta = event.meta.replace(b'"w1"', f'"{name}"'.encode())
            answer = await self.through_any(lambda side: side.ledger.ingest(item.execution_id, [event]))
            assert answer == [event_id]
            self.history.stored(item.execution_id, event_id)

        await asyncio.gather(*(post() for _ in range(self.chance.choice((1, 1, 1, 2, 3)))))
        if self.happens(0.1):
            await post()

    async def remind(self) -> bool:
        """Announce what waits, past the ledgers; False when all executions have ended."""
        if not await unfinished(self.pair.database_url):
            return False
        if self.queue.empty():
            for command in await CommandStore(self.pair.ledgers[0].database).waiting(0, 100):
                self.queue.put_nowait(
                    Notification(command.execution_id, command.event_id, command.command_id, command.step, "shared")
                )
        return True

    async def break_connections(self) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(0.02, 0.3))
            await query(
                self.pair.database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND query LIKE '%ledger_append%' ORDER BY random() LIMIT 2",
            )


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an interleaving cannot be made smaller by repeating it
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32 - 1))
async def test_every_workflow_does_what_its_model_says_exactly_once(pair: Pair, seed: int) -> None:
    pair.examples += 1
    chance = random.Random(seed)
    workflows = [random_workflow(chance, f"faults/example/{pair.examples}/{number}") for number in range(4)]
    play = Play(pair, seed)
    try:
        await play.run(workflows)
    except TimeoutError:
        pytest.fail(f"not finished: {await violations(pair.database_url, nobody_is_late=False)}")
    finally:
        while not play.queue.empty():
            play.queue.get_nowait()
    async with open_check(pair.database_url, play.plans) as check:
        await check.log(nobody_is_late=False)
        await check.models(play.plans)
        await check.history(play.history)
        assert check.broken == {}
