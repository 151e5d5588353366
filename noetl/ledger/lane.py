"""A lane: one database connection, one transaction for a whole batch (design.md, "The ledger")."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Final, Protocol

from noetl.errors import DatabaseUnavailableError, InternalError, NoetlError, OverloadedError
from noetl.ledger.scope import BatchScope, ExecutionScope
from noetl.ledger.work import IngestWork, repeated_with_other_content
from noetl.store.database import ConnectionLostError
from noetl.store.ledger import RepeatedEventError, StaleStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from noetl.ledger.cache import ByteBoundedCache, ExecutionEntry
    from noetl.ledger.work import Work
    from noetl.observability.spans import Attribute, Span, Tracer
    from noetl.store.connection import Connection
    from noetl.store.events import EventStore
    from noetl.store.ledger import LedgerConnection, LedgerStore

log = logging.getLogger("noetl.ledger")

RECONNECT_SECONDS: Final = 5.0
"""How long a lane tries to get a lost connection back before it refuses the work that waits."""
SHARED_LIMIT: Final = 10_000
"""How many executions are remembered as also written by other processes."""
WRITE_SECONDS: Final = 20.0
"""Longest time of one batch in the database; workers give up a claim after 30 s."""
ATTEMPTS: Final = 8
"""How often a batch is decided again because other processes appended in between."""


class LedgerMetrics(Protocol):
    """What the ledger tells about itself."""

    def observe_batch(self, size: int) -> None:
        """One batch of so many operations was committed."""
        ...

    def observe_phase(self, phase: str, seconds: float) -> None:
        """Time of one batch in ``wait`` (oldest operation in the queue), ``decide`` or ``write``."""
        ...

    def observe_pass(self, seconds: float) -> None:
        """The engine decided what follows from one event."""
        ...

    def observe_claim(self, outcome: str) -> None:
        """A claim ended with ``claimed``, ``conflict``, ``not_found`` or ``error``."""
        ...

    def observe_announcement(self, segment: str, *, is_repeated: bool) -> None:
        """A command was issued for a pool segment, or taken back from a silent worker."""
        ...

    def observe_execution(self, status: str) -> None:
        """An execution ``started``, or ended ``completed``, ``failed`` or ``cancelled``."""
        ...


@dataclass(frozen=True, slots=True)
class LaneServices:
    """What the lanes of one database share."""

    store: LedgerStore
    event_store: EventStore
    cache: ByteBoundedCache[int, ExecutionEntry]
    mint: Callable[[], int]
    committed: Callable[[BatchScope], None]
    """Called after each commit, with what to announce; must not block."""
    missing: Callable[[Work], None]
    """Called for work whose execution is not in the cache: load it elsewhere, then submit the work again."""
    metrics: LedgerMetrics
    tracer: Tracer | None = None
    shared: OrderedDict[int, None] = field(default_factory=OrderedDict[int, None])
    """Executions that other processes were seen to write as well, the latest last."""


class Lane:
    """One writer: decides for a batch and commits it."""

    def __init__(self, services: LaneServices, connection: LedgerConnection) -> None:
        self._services = services
        self._connection = connection

    async def close(self) -> None:
        """Close the connection in good order."""
        await self._connection.close()

    async def process(self, batch: list[Work]) -> None:
        """Commit a batch; if it fails as a whole, each operation alone, so that one bad one hurts only its sender."""
        self._services.metrics.observe_phase("wait", perf_counter() - batch[0].enqueued_at)
        try:
            await self._commit(batch)
        except DatabaseUnavailableError as error:
            _refuse(batch, error)
        except Exception as error:  # the boundary of a batch: nothing may end the lane
            if len(batch) > 1:
                for work in batch:
                    work.is_alone = True
                for work in batch:
                    await self.process([work])
                return
            if isinstance(error, NoetlError):
                _refuse(batch, error)
                return
            log.exception("Operation failed", extra={"execution_id": batch[0].execution_id})
            failure = InternalError("Internal error", detail=repr(error))
            failure.__cause__ = error
            _refuse(batch, failure)

    async def _commit(self, batch: list[Work]) -> None:
        for _ in range(ATTEMPTS):
            batch = self._loaded(batch)
            if not batch:
                return
            scope = BatchScope(time_ns(), self._services.mint)
            try:
                if self._services.tracer is None:
                    await self._attempt(batch, scope)
                else:
                    with batch_span(self._services.tracer, batch):
                        await self._attempt(batch, scope)
            except StaleStateError as stale:
                self._forget(scope)
                _accept_own_starts(batch, scope, stale.executions)
                for execution_id in stale.executions:
                    self._services.shared[execution_id] = None
                while len(self._services.shared) > SHARED_LIMIT:
                    self._services.shared.popitem(last=False)
            except RepeatedEventError:
                self._forget(scope)
                if not await self._mark_repeated(batch):
                    raise
            except ConnectionLostError:
                self._forget(scope)
                if await self._was_committed(scope):
                    self._resolve(batch, scope)
                    return
            except BaseException:
                self._forget(scope)
                raise
            else:
                self._resolve(batch, scope)
                return
        raise OverloadedError("The execution is busy in other processes, try again", detail="stale state")

    def _loaded(self, batch: list[Work]) -> list[Work]:
        """Those whose execution is in memory; the others go to be loaded, off the lane, and come back."""
        ready: list[Work] = []
        for work in batch:
            if work.future.done():
                continue
            if not work.creates_execution:
                present = self._services.cache.peek(work.execution_id)
                if present is not None:
                    work.entry = present
                elif work.entry is None or work.entry.is_void:
                    self._services.missing(work)
                    continue
            ready.append(work)
        return ready

    async def _attempt(self, batch: Sequence[Work], scope: BatchScope) -> None:
        """Decide for all and write once. Afterwards the outcomes stand in ``scope.outcomes``."""
        services = self._services
        for work in batch:
            if work.execution_id in scope.entries:
                continue
            entry = work.new_entry() or services.cache.get(work.execution_id) or work.entry
            if entry is None:
                raise InternalError("Internal error", detail="execution state was evicted within its own batch")
            scope.entries[work.execution_id] = entry
        try:
            async with asyncio.timeout(WRITE_SECONDS), self._connection.use() as connection:
                await self._write(connection, batch, scope)
        except TimeoutError as error:
            self._connection.discard()
            raise ConnectionLostError("Database error: the database is unreachable", detail="no answer") from error
        services.metrics.observe_batch(len(batch))

    async def _write(self, connection: Connection, batch: Sequence[Work], scope: BatchScope) -> None:
        services = self._services
        if not services.shared:
            await self._decide_and_append(connection, batch, scope)
            return
        # Other processes write to this database as well: look first, under the locks. One execution that is found to be
        # stale afterwards costs the states of the whole batch, and in time each is written by two processes.
        async with connection.transaction():
            held = sorted(scope.entries)
            await services.store.lock(connection, held)
            for execution_id, position in await services.store.positions(connection, held):
                entry = scope.entries[execution_id]
                if position != entry.state.cursor:
                    await self._fold_tail(connection, entry)
            await self._decide_and_append(connection, batch, scope)

    async def _fold_tail(self, connection: Connection, entry: ExecutionEntry) -> None:
        state = entry.state
        for event in await self._services.event_store.tail(connection, state.execution_id, state.cursor):
            state.apply(event)
            state.cursor = event.log_position

    async def _decide_and_append(self, connection: Connection, batch: Sequence[Work], scope: BatchScope) -> None:
        services = self._services
        begin = perf_counter()
        held = sorted((execution_id, entry.state.cursor) for execution_id, entry in scope.entries.items())
        views = {execution_id: ExecutionScope(scope, entry) for execution_id, entry in scope.entries.items()}
        for work in batch:
            written = len(scope.rows.events)
            scope.span = work.span
            try:
                scope.outcomes.append(work.apply(views[work.execution_id]))
            except NoetlError as error:
                if len(scope.rows.events) != written:
                    raise
                scope.outcomes.append(error)
        decided = perf_counter()
        services.metrics.observe_phase("decide", decided - begin)
        positions = await services.store.append(connection, held, scope.rows)
        services.metrics.observe_phase("write", perf_counter() - decided)
        for execution_id, position in positions.items():
            scope.entries[execution_id].state.cursor = position
        for execution_id, entry in scope.entries.items():
            services.cache.put(execution_id, entry, entry.approximate_bytes, is_spent=entry.is_spent)

    def _resolve(self, batch: Sequence[Work], scope: BatchScope) -> None:
        for work, outcome in zip(batch, scope.outcomes, strict=True):
            if work.future.done():
                continue
            if isinstance(outcome, NoetlError):
                work.future.set_exception(outcome)
            else:
                work.future.set_result(outcome)
        self._services.committed(scope)

    def _forget(self, scope: BatchScope) -> None:
        """Throw away every state that a transaction without a commit has touched."""
        if not scope.outcomes:
            return
        for execution_id, entry in scope.entries.items():
            entry.is_void = True
            self._services.cache.discard(execution_id)

    async def _mark_repeated(self, batch: Sequence[Work]) -> bool:
        """Find the events of the batch that are in the log already. False when there is none: no repetition then."""
        found = False
        async with self._connection.use() as connection:
            for work in batch:
                if isinstance(work, IngestWork) and not work.future.done():
                    found |= await self._mark_repeated_events(connection, work)
        return found

    async def _mark_repeated_events(self, connection: Connection, work: IngestWork) -> bool:
        found = False
        for index, item in enumerate(work.incoming):
            if item.event_id is None or index in work.repeated:
                continue
            stored = await self._services.event_store.stored(
                connection, work.execution_id, item.event_id, item.result.decode()
            )
            if stored is None:
                continue
            found = True
            content = (item.event_type, item.step, item.status)
            if (stored.event_type, stored.node_name, stored.status) != content or not stored.same_result:
                work.future.set_exception(repeated_with_other_content(item.event_id))
                break
            work.repeated.add(index)
        return found

    async def _was_committed(self, scope: BatchScope) -> bool:
        """After a lost connection: whether the batch took effect nevertheless.

        One without a witness holds only what clients named: it is sent again, and what is in the log is recognised.

        Raises:
            DatabaseUnavailableError: the database does not come back in time.
        """
        await self._connection.reconnect(RECONNECT_SECONDS)
        witness = scope.rows.witness
        if witness is None:
            return False
        async with self._connection.use() as connection, connection.transaction():
            return await self._services.store.was_committed(connection, *witness)


def _accept_own_starts(batch: Sequence[Work], scope: BatchScope, executions: Sequence[int]) -> None:
    """Answer the starts whose execution is in the log already.

    Their ids were minted for them, so it was an earlier attempt of ours: its connection broke, and it got its lock only
    after `_was_committed` had looked. What it announced nowhere the re-announcer finds.
    """
    for work, outcome in zip(batch, scope.outcomes, strict=True):
        if work.creates_execution and work.execution_id in executions and not work.future.done():
            work.future.set_result(outcome)


def batch_span(tracer: Tracer, batch: Sequence[Work]) -> AbstractContextManager[Span]:
    """A child of the first operation's span, linked to those of the others."""
    spans = [work.span for work in batch if work.span is not None]
    executions = {work.execution_id for work in batch}
    attributes: dict[str, Attribute] = {"size": len(batch)}
    if len(executions) == 1:
        attributes["execution_id"] = executions.pop()
    return tracer.span("ledger.batch", attributes, parent=spans[0] if spans else None, links=spans[1:])


def _refuse(batch: Sequence[Work], error: NoetlError) -> None:
    for work in batch:
        if not work.future.done():
            work.future.set_exception(error)
