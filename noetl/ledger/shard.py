"""What the ledger has for each database: the queue with its lanes, the states of its executions, its commands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from noetl._fast.sharding import shard_for
from noetl.errors import OverloadedError
from noetl.ledger.lane import Lane, LaneServices
from noetl.ledger.loader import StateLoader
from noetl.ledger.queue import WorkQueue
from noetl.store.catalog_copies import CatalogCopies
from noetl.store.events import EventStore
from noetl.store.ledger import LedgerConnection, LedgerStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from noetl.ledger.cache import ByteBoundedCache, ExecutionEntry
    from noetl.ledger.lane import LedgerMetrics
    from noetl.ledger.ledger import LedgerLimits
    from noetl.ledger.playbooks import Playbooks
    from noetl.ledger.scope import BatchScope
    from noetl.ledger.work import Work
    from noetl.observability.spans import Tracer
    from noetl.store.database import Database
    from noetl.store.events import IssuedCommand

RELOADS: Final = 5
"""How often the state of one operation's execution is loaded again before the operation is refused."""


class LedgerShard:
    """The writers of one database.

    Args:
        database: where the executions of this shard are.
        cluster: where the catalog is; the same database if there is only one.
        playbooks, states: shared by all shards.
        mint: gives ids of events; `minter_of` tells why not every minter does.
        committed: called after each commit with what to announce; must not block.
        load_bytes: what states that are being loaded may hold together.
    """

    def __init__(
        self,
        database: Database,
        cluster: Database,
        playbooks: Playbooks,
        states: ByteBoundedCache[int, ExecutionEntry],
        mint: Callable[[], int],
        committed: Callable[[BatchScope], None],
        metrics: LedgerMetrics,
        limits: LedgerLimits,
        load_bytes: int,
        tracer: Tracer | None = None,
    ) -> None:
        self.database = database
        self.mint = mint
        self.catalog_copies = CatalogCopies(cluster, database)
        self._store = LedgerStore(database.quoted_schema, database.generic_plans)
        self._events = EventStore(database.quoted_schema)
        self._loader = StateLoader(
            database,
            self._events,
            playbooks,
            states,
            load_bytes=load_bytes,
            repair_loop_results=limits.repair_loop_results,
        )
        services = LaneServices(
            store=self._store,
            event_store=self._events,
            cache=states,
            mint=mint,
            committed=committed,
            missing=self._load_and_resubmit,
            metrics=metrics,
            tracer=tracer,
        )
        lanes = [Lane(services, LedgerConnection(database.connect_dedicated)) for _ in range(limits.lanes)]
        self._queue = WorkQueue(lanes, limit=limits.queue, seconds=limits.queue_seconds, batch_limit=limits.batch)
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve the queue until `close`."""
        await self._queue.run()

    async def close(self) -> None:
        """Let the lanes finish what waits; `run` then returns."""
        while self._reloads:
            await asyncio.wait(self._reloads)
        self._queue.close()
        await self._loader.close()

    @property
    def waiting(self) -> int:
        """Operations in the queue."""
        return self._queue.depth

    @property
    def room(self) -> int:
        """How many operations are done in the time that one may wait."""
        return self._queue.room

    async def submit(self, work: Work) -> Any:
        """Commit one operation and return its reply; raises what the operation or the database refuses."""
        if not work.creates_execution:
            work.entry = await self._loader.load(work.execution_id)
        self._queue.submit(work)
        return await work.future

    async def find_issued(self, event_id: int) -> IssuedCommand | None:
        """The issued command with this event id, or None when it is not on this shard."""
        return await self.database.read_one(lambda connection: self._events.issued(connection, event_id))

    async def find_key(self, key: str) -> tuple[int, int] | None:
        """The execution that an idempotency key started, and its number of commands."""
        async with self.database.acquire() as connection:
            return await self._store.find_key(connection, key)

    async def forget_keys(self, older_than: timedelta) -> None:
        """Drop idempotency keys of that age."""
        async with self.database.acquire() as connection:
            await self._store.purge_keys(connection, older_than)

    def _load_and_resubmit(self, work: Work) -> None:
        task = asyncio.create_task(self._reload(work))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self, work: Work) -> None:
        work.reloads += 1
        try:
            if work.reloads > RELOADS:
                raise OverloadedError("The server is overloaded, try again", detail="state cache is thrashing")
            work.entry = await self._loader.load(work.execution_id)
            self._queue.submit(work)
        except Exception as error:  # whoever waits for the work must hear of it, whatever it is
            if not work.future.done():
                work.future.set_exception(error)


def minter_of(shard: int, shards: int, mint: Callable[[], int]) -> Callable[[], int]:
    """A minter whose ids belong to a shard themselves.

    Workers name a command by the id of its event alone. With such ids its database is known, and no other is asked; it
    costs as many attempts as there are shards, a tenth of a microsecond each.
    """
    if shards == 1:
        return mint

    def mint_here() -> int:
        while shard_for(identity := mint(), shards) != shard:
            pass
        return identity

    return mint_here
