"""The ledger: the only way in for events. Queues each operation for the lanes and awaits its commit."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from time import time
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from noetl._fast.sharding import shard_for
from noetl.engine.decide import start
from noetl.engine.state import ExecutionState
from noetl.errors import (
    ConflictError,
    DatabaseUnavailableError,
    NoetlError,
    NotFoundError,
    UnprocessableError,
)
from noetl.ledger.cache import ByteBoundedCache, ExecutionEntry
from noetl.ledger.items import CommandView, StartedExecution
from noetl.ledger.shard import LedgerShard, minter_of
from noetl.ledger.work import (
    AlreadyCancelledError,
    CancelWork,
    ClaimedElsewhereError,
    ClaimWork,
    FinalizeWork,
    IngestWork,
    RequeueWork,
    StartWork,
)
from noetl.store.ledger import RepeatedKeyError
from noetl.store.shards import first_of, on_each

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noetl.ledger.items import IncomingEvent, StartExecution
    from noetl.ledger.lane import LedgerMetrics
    from noetl.ledger.playbooks import Playbooks
    from noetl.ledger.scope import BatchScope, Notification
    from noetl.ledger.work import Work
    from noetl.observability.spans import Tracer
    from noetl.store.catalog import CatalogEntry, CatalogStore
    from noetl.store.commands import CommandStore
    from noetl.store.database import Database
    from noetl.store.events import IssuedCommand
    from noetl.store.sharded_executions import Executions
    from noetl.store.shards import Databases

KEYS_KEPT: Final = timedelta(days=7)
"""How long an idempotency key is bound to its execution."""


class Minter(Protocol):
    """Source of ids (`noetl._fast.snowflake`)."""

    def mint(self) -> int:
        """A new snowflake."""
        ...


class Announcer(Protocol):
    """Who tells the workers (`noetl.messaging`). Must not block and must not fail."""

    def announce(self, notifications: Sequence[Notification]) -> None:
        """These commands are committed and waiting."""
        ...

    def forget(self, event_id: int) -> None:
        """This command was claimed, or is moot."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """Sizes of the ledger; the names of their variables are in the configuration reference."""

    lanes: int = 4
    queue: int = 2_000
    queue_seconds: float = 0.25
    batch: int = 256
    state_bytes: int = 64 * 2**20
    issued_bytes: int = 16 * 2**20
    claim_lease_seconds: float = 120.0
    worker_silent_seconds: float = 30.0
    unknown_worker_seconds: float = 1800.0
    repair_loop_results: bool = True


class Ledger:
    """Start, ingest, claim, cancel, finalize, requeue: each returns after its rows are committed (promise P1)."""

    def __init__(
        self,
        databases: Databases,
        catalog: CatalogStore,
        executions: Executions,
        commands: CommandStore,
        playbooks: Playbooks,
        minter: Minter,
        announcer: Announcer,
        metrics: LedgerMetrics,
        limits: LedgerLimits,
        can_judge: Callable[[float, Database], bool] = lambda _seconds, _database: True,
        is_reachable: Callable[[Database], bool] = lambda _database: True,
        tracer: Tracer | None = None,
    ) -> None:
        """``can_judge`` says whether heartbeats could reach a database for the last so many seconds.

        While a shard is not reachable, new executions begin on the others.
        """
        self._can_judge = can_judge
        self._is_reachable = is_reachable
        self._tracer = tracer
        self._catalog = catalog
        self._executions = executions
        self._commands = commands
        self._limits = limits
        self._metrics = metrics
        self._playbooks = playbooks
        self._minter = minter
        self._announcer = announcer
        self.states: ByteBoundedCache[int, ExecutionEntry] = ByteBoundedCache(limits.state_bytes)
        self.issued: ByteBoundedCache[int, IssuedCommand] = ByteBoundedCache(limits.issued_bytes)
        self._count = len(databases.shards)
        self._shards = [
            LedgerShard(
                database,
                databases.cluster,
                playbooks,
                self.states,
                minter_of(index, self._count, minter.mint),
                self._committed,
                metrics,
                limits,
                limits.state_bytes // self._count,
                tracer,
            )
            for index, database in enumerate(databases.shards)
        ]

    async def run(self) -> None:
        """Serve the queues until `close`."""
        async with asyncio.TaskGroup() as running:
            for shard in self._shards:
                running.create_task(shard.run())

    async def close(self) -> None:
        """Let the lanes finish what waits; `run` then returns."""
        await on_each(self._shards, LedgerShard.close)

    @property
    def waiting(self) -> int:
        """Operations in the queues."""
        return sum(shard.waiting for shard in self._shards)

    @property
    def room(self) -> int:
        """How many operations may be under way if none is to wait longer than it should."""
        return sum(shard.room for shard in self._shards)

    # -- operations ------------------------------------------------------------------------------------------------

    async def start(self, request: StartExecution) -> StartedExecution:
        """Start an execution of a registered playbook (spec 20, section 3).

        Raises:
            UnprocessableError, NotFoundError, PlaybookSyntaxError: as spec 20 section 3.2 and spec 30 section 4.
            TemplateFailure: the start step cannot be rendered; nothing is written.
            OverloadedError, DatabaseUnavailableError: try again.
        """
        key = request.idempotency_key
        if key is not None:
            known = await self._find_key(key)
            if known is not None:
                return known
        entry = await self._catalog_entry(request)
        source = entry.source
        if not source:
            raise NotFoundError(f"No playbook content found for catalog_id: {entry.catalog_id}")
        playbook = self._playbooks.parse(entry.catalog_id, source)
        execution_id = self._new_execution_id() if key is None else self._shard_of_key(key).mint()
        shard = self._shard(execution_id)
        if shard.catalog_copies.lacks(entry.catalog_id):
            await shard.catalog_copies.copy([entry.catalog_id])
        decision = start(
            playbook, request.payload, execution_id=execution_id, catalog_id=entry.catalog_id, path=entry.path
        )

        def blank() -> ExecutionEntry:
            repair = self._limits.repair_loop_results
            return ExecutionEntry(ExecutionState(execution_id, entry.catalog_id, repair_loop_results=repair), playbook)

        work = StartWork(execution_id, blank, entry.path, decision, request.parent_execution_id, key)
        try:
            generated = await self._submit(work)
        except RepeatedKeyError:
            known = await self._find_key(key or "")
            if known is None:
                raise
            return known
        return StartedExecution(work.execution_id, cast("int", generated))

    async def ingest(self, execution_id: int, incoming: list[IncomingEvent]) -> list[int]:
        """Store events of one execution in order, decide what follows, and return their ids.

        An event that is in the log already is answered as the first time and has no second effect (00-decisions, 24).

        Raises:
            NotFoundError: the execution has no events.
            ConflictError: an event id is taken by another event, or a posted claim lost (spec 20, section 6.6).
            OverloadedError, DatabaseUnavailableError: try again.
        """
        return cast("list[int]", await self._submit(IngestWork(execution_id, incoming)))

    async def claim(self, event_id: int, worker_id: str) -> CommandView:
        """Give a command to a worker and return the work order (spec 20, section 5.2).

        Raises:
            NotFoundError: no such command.
            ConflictError: it is finished, cancelled, or somebody else has it.
            OverloadedError, DatabaseUnavailableError: try again.
        """
        try:
            view = await self._claim(event_id, worker_id)
        except ConflictError:
            self._metrics.observe_claim("conflict")
            raise
        except NotFoundError:
            self._metrics.observe_claim("not_found")
            raise
        except NoetlError:
            self._metrics.observe_claim("error")
            raise
        self._metrics.observe_claim("claimed")
        return view

    async def _claim(self, event_id: int, worker_id: str) -> CommandView:
        issued = await self._find_issued(event_id)
        try:
            await self._submit(ClaimWork(issued.execution_id, event_id, worker_id))
        except ClaimedElsewhereError as elsewhere:
            if not await self._is_lost_by(elsewhere, self._shard(issued.execution_id).database):
                raise
            await self._submit(ClaimWork(issued.execution_id, event_id, worker_id, elsewhere.worker_id))
        self.issued.discard(event_id)
        self._announcer.forget(event_id)
        return _view(issued)

    async def command(self, event_id: int) -> CommandView:
        """An issued command, whatever became of it; raises NotFoundError."""
        return _view(await self._find_issued(event_id))

    async def cancel(self, execution_id: int, reason: str | None = None, *, cascade: bool = False) -> list[int]:
        """Cancel an execution, and with ``cascade`` its unfinished descendants; returns the ids, this one first.

        Raises:
            NotFoundError: unknown execution.
            UnprocessableError: it has ended already.
        """
        cancelled = [execution_id]
        try:
            await self._submit(CancelWork(execution_id, reason))
        except AlreadyCancelledError:
            if not cascade:
                raise
        if cascade:
            for child in await self._executions.unfinished_descendants(execution_id):
                try:
                    await self._submit(CancelWork(child, reason))
                except (UnprocessableError, NotFoundError):
                    continue
                cancelled.append(child)
        return cancelled

    async def finalize(self, execution_id: int, status: str, error: str | None) -> None:
        """End an execution with ``COMPLETED`` or ``FAILED`` (spec 10, section 6.7).

        Raises:
            UnprocessableError: another status, or the execution ended otherwise.
            NotFoundError: unknown execution.
        """
        if status not in ("COMPLETED", "FAILED"):
            raise UnprocessableError(f"Invalid finalization status: {status}")
        await self._submit(FinalizeWork(execution_id, status, error))

    async def requeue(
        self, execution_id: int, event_id: int, worker_id: str | None, max_attempts: int, silent_seconds: float
    ) -> str:
        """Take a command from a worker that was silent for so long; see `RequeueWork` for the reply."""
        return cast(
            "str", await self._submit(RequeueWork(execution_id, event_id, worker_id, max_attempts, silent_seconds))
        )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _shard(self, execution_id: int) -> LedgerShard:
        """Where an execution is."""
        return self._shards[shard_for(execution_id, self._count)]

    def _new_execution_id(self) -> int:
        """An id on a shard that is there, if chance finds one."""
        execution_id = self._minter.mint()
        for _ in range(8 * (self._count - 1)):
            if self._is_reachable(self._shard(execution_id).database):
                break
            execution_id = self._minter.mint()
        return execution_id

    def _shard_of_key(self, key: str) -> LedgerShard:
        """Where an idempotency key is kept: its execution gets an id of the same shard, so both commit together."""
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        return self._shard(int.from_bytes(digest, "little", signed=True))

    async def _submit(self, work: Work) -> Any:
        shard = self._shard(work.execution_id)
        if self._tracer is None or work.span is not None:
            return await shard.submit(work)
        execution = {"execution_id": work.execution_id}
        self._tracer.current().set(execution)
        with self._tracer.span(work.operation, execution) as work.span:
            return await shard.submit(work)

    def _committed(self, scope: BatchScope) -> None:
        for issued in scope.issued:
            size = len(issued.context or b"") + len(issued.meta or b"") + 300
            self.issued.put(issued.event_id, issued, size)
        for seconds in scope.passes:
            self._metrics.observe_pass(seconds)
        for turn in scope.turns:
            self._metrics.observe_execution(turn)
        for notification in scope.notifications:
            self._metrics.observe_announcement(notification.segment, is_repeated=notification.attempt > 1)
        if scope.notifications:
            self._announcer.announce(scope.notifications)
        for event_id in scope.moot:
            self._announcer.forget(event_id)

    async def _find_issued(self, event_id: int) -> IssuedCommand:
        issued = self.issued.get(event_id) or await self._look_for_issued(event_id)
        if issued is None:
            raise NotFoundError(f"command.issued event not found: {event_id}")
        return issued

    async def _look_for_issued(self, event_id: int) -> IssuedCommand | None:
        """Ask the shard that the id itself tells; only a command of another server can be on another one."""
        home = self._shard(event_id)
        if self._count == 1:
            return await home.find_issued(event_id)
        failure: DatabaseUnavailableError | None = None
        try:
            issued = await home.find_issued(event_id)
        except DatabaseUnavailableError as error:
            issued, failure = None, error
        if issued is None:
            others = [shard for shard in self._shards if shard is not home]
            issued = await first_of(others, lambda shard: shard.find_issued(event_id))
        if issued is None and failure is not None:
            raise failure
        return issued

    async def _is_lost_by(self, claim: ClaimedElsewhereError, database: Database) -> bool:
        """Whether the present owner may be replaced: its claim is old and it shows no life (spec 20, section 5.3)."""
        limits = self._limits
        silence = time() - claim.heard_at_us / 1e6
        if silence < limits.claim_lease_seconds or not self._can_judge(limits.worker_silent_seconds, database):
            return False
        silent = await self._commands.is_silent(claim.worker_id, limits.worker_silent_seconds)
        return silence > limits.unknown_worker_seconds if silent is None else silent

    async def forget_keys(self) -> None:
        """Drop idempotency keys that are older than any client's retry."""
        await on_each(self._shards, lambda shard: shard.forget_keys(KEYS_KEPT))

    async def _find_key(self, key: str) -> StartedExecution | None:
        known = await self._shard_of_key(key).find_key(key)
        return None if known is None else StartedExecution(*known)

    async def _catalog_entry(self, request: StartExecution) -> CatalogEntry:
        if request.catalog_id is not None:
            entry = await self._catalog.get_entry(request.catalog_id)
            missing = f"Catalog entry not found: {request.catalog_id}"
        elif request.path is not None:
            if request.version is None:
                entry = await self._catalog.latest(request.path)
            else:
                entry = await self._catalog.by_version(request.path, request.version)
            missing = f"Playbook not found: {request.path}"
        else:
            raise UnprocessableError("Either 'path' or 'catalog_id' must be provided")
        if entry is None:
            raise NotFoundError(missing)
        return entry


def _view(issued: IssuedCommand) -> CommandView:
    return CommandView(
        execution_id=issued.execution_id,
        event_id=issued.event_id,
        step=issued.step,
        tool_kind=issued.tool_kind,
        context=issued.context,
        meta=issued.meta,
    )
