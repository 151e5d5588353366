"""A ledger on a real database, with a scripted worker that drives executions through it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from noetl._fast.snowflake import SnowflakeGenerator
from noetl.config import load_settings
from noetl.errors import ConflictError
from noetl.http.catalog import read_resource
from noetl.ledger.items import IncomingEvent, StartExecution
from noetl.ledger.ledger import Ledger, LedgerLimits
from noetl.ledger.playbooks import Playbooks
from noetl.store.catalog import CatalogStore
from noetl.store.commands import CommandStore
from noetl.store.database import Database
from noetl.store.executions import ExecutionStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from noetl.ledger.scope import Notification


class CollectingAnnouncer:
    """Keeps the notifications in the order of their commits."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Notification] = asyncio.Queue()
        self.count = 0

    def announce(self, notifications: Sequence[Notification]) -> None:
        for item in notifications:
            self.count += 1
            self.queue.put_nowait(item)

    def forget(self, event_id: int) -> None:
        """Nothing is remembered."""


class SilentMetrics:
    """Takes the lanes' measurements."""

    def observe_batch(self, size: int) -> None:
        """Ignored."""

    def observe_phase(self, phase: str, seconds: float) -> None:
        """Ignored."""

    def observe_pass(self, seconds: float) -> None:
        """Ignored."""

    def observe_claim(self, outcome: str) -> None:
        """Ignored."""

    def observe_announcement(self, segment: str, *, is_repeated: bool) -> None:
        """Ignored."""

    def observe_execution(self, status: str) -> None:
        """Ignored."""


class LedgerHarness:
    """One server process's ledger, and what a test needs around it."""

    def __init__(
        self, database: Database, ledger: Ledger, catalog: CatalogStore, announcer: CollectingAnnouncer
    ) -> None:
        self.database = database
        self.ledger = ledger
        self.catalog = catalog
        self.announcer = announcer

    async def register(self, text: str) -> str:
        """Register a playbook; returns its path."""
        entry = read_resource(text, "Playbook")
        await self.catalog.register(entry)
        return entry.path

    async def start(self, path: str, **payload: Any) -> int:
        """Start an execution."""
        return (await self.ledger.start(StartExecution(path=path, payload=payload))).execution_id

    async def claim(self, item: Notification, worker: str = "w1") -> dict[str, Any]:
        """Claim as a worker does; returns the context."""
        view = await self.ledger.claim(item.event_id, worker)
        return orjson.loads(view.context or b"null")

    async def post(
        self, item: Notification, event_type: str, status: str, payload: dict[str, Any], event_id: int | None = None
    ) -> int:
        """One event of a command."""
        context = {"command_id": item.command_id, **payload}
        event = incoming(event_type, item.step, status, context, event_id)
        return (await self.ledger.ingest(item.execution_id, [event]))[0]

    async def work(self, item: Notification, data: Any = None, worker: str = "w1", *, fail: str | None = None) -> None:
        """Claim, start and finish one command like the real worker."""
        try:
            await self.claim(item, worker)
        except ConflictError:
            return
        await self.post(item, "command.started", "STARTED", {})
        if fail is not None:
            await self.post(item, "call.error", "FAILED", {"call_index": 0, "error": fail})
            await self.post(item, "command.failed", "FAILED", {"error": fail})
            return
        result = {"status": "success", "context": {"status": "success", "data": data}}
        await self.post(item, "call.done", "COMPLETED", {"call_index": 0, "result": result})
        await self.post(item, "command.completed", "success", {"status": "success"})

    async def run_workers(
        self, result_of: Callable[[Notification], Any], workers: int = 1, idle_seconds: float = 0.3
    ) -> int:
        """Let workers serve the announcements until nothing is announced for a while; returns the commands done."""
        done = 0

        async def serve(name: str) -> None:
            nonlocal done
            while True:
                try:
                    item = await asyncio.wait_for(self.announcer.queue.get(), idle_seconds)
                except TimeoutError:
                    return
                await self.work(item, result_of(item), name)
                done += 1

        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(serve(f"w{number}"))
        return done

    async def log(self, execution_id: int) -> list[tuple[str, str, str]]:
        """Type, node and status of the events in commit order."""
        records = await self.database.fetch(
            "SELECT event_type, node_name, status FROM noetl.event WHERE execution_id = $1 ORDER BY log_position",
            execution_id,
        )
        return [(record["event_type"], record["node_name"], record["status"]) for record in records]


def incoming(
    event_type: str, step: str, status: str, context: dict[str, Any], event_id: int | None = None
) -> IncomingEvent:
    """An event as the HTTP layer hands it over."""
    return IncomingEvent(
        event_type=event_type,
        step=step,
        status=status,
        result=orjson.dumps({"status": status, "context": context}),
        meta=b'{"attempts":0,"actionable":true,"informative":true,"worker_id":"w1"}',
        event_id=event_id,
    )


@asynccontextmanager
async def open_ledger(
    database_url: str,
    *,
    machine_id: int = 1,
    limits: LedgerLimits | None = None,
    announcer: CollectingAnnouncer | None = None,
) -> AsyncGenerator[LedgerHarness]:
    """A running ledger as one server process has it."""
    settings = load_settings({"DATABASE_URL": database_url, "NOETL_SERVER_MACHINE_ID": str(machine_id)})
    database = await Database.connect(settings.database)
    catalog = CatalogStore(database)
    announcer = announcer or CollectingAnnouncer()
    ledger = Ledger(
        database,
        catalog,
        ExecutionStore(database),
        CommandStore(database),
        Playbooks(catalog, 2**20),
        SnowflakeGenerator(machine_id),
        announcer,
        SilentMetrics(),
        limits or LedgerLimits(),
    )
    running = asyncio.create_task(ledger.run())
    try:
        yield LedgerHarness(database, ledger, catalog, announcer)
    finally:
        await ledger.close()
        await running
        await database.close()


async def rows(database_url: str, sql: str, *arguments: Any) -> list[Any]:
    """Look at the database past the server."""
    connection: Any = await asyncpg.connect(database_url)
    try:
        return [tuple(record) for record in await connection.fetch(sql, *arguments)]
    finally:
        await connection.close()
