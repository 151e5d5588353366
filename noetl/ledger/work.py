"""The operations of the ledger: each reads one execution's state and appends what follows from it.

``apply`` runs inside a batch, synchronously. It raises a NoetlError before it appends any event (only its sender is
refused), or appends everything and returns the reply.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar

import orjson

from noetl.engine import events
from noetl.engine.decide import advance
from noetl.engine.reading import as_object, as_text
from noetl.engine.state import CommandStatus, RunStatus
from noetl.errors import ConflictError, NotFoundError, UnprocessableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.engine.decide import StartDecision
    from noetl.engine.events import Event
    from noetl.engine.state import CommandState, ExecutionState
    from noetl.ledger.cache import ExecutionEntry
    from noetl.ledger.items import IncomingEvent
    from noetl.ledger.scope import ExecutionScope
    from noetl.observability.spans import Span

_COMMAND_STATUS = {
    events.COMMAND_CLAIMED: "CLAIMED",
    "command.started": "RUNNING",
    "action_started": "RUNNING",
    "command.completed": "COMPLETED",
    "action_completed": "COMPLETED",
    "step.exit": "COMPLETED",
    "step_completed": "COMPLETED",
    "command.failed": "FAILED",
    "action_failed": "FAILED",
    "step_failed": "FAILED",
}
_OWNED = (CommandStatus.CLAIMED, CommandStatus.RUNNING)


class Work(ABC):
    """One operation on one execution, waiting for its lane."""

    __slots__ = ("enqueued_at", "entry", "execution_id", "future", "is_alone", "reloads", "span")

    operation: ClassVar[str]
    """Its name in traces (spec 60, section 12)."""

    def __init__(self, execution_id: int) -> None:
        self.execution_id = execution_id
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.enqueued_at = 0.0
        self.reloads = 0
        self.entry: ExecutionEntry | None = None
        """The state as it was loaded for this operation, in case the cache has dropped it meanwhile."""
        self.is_alone = False
        """Was in a batch that failed as a whole: is committed by itself now."""
        self.span: Span | None = None
        """The span of the operation, where traces are made."""

    @property
    def creates_execution(self) -> bool:
        """Whether the execution begins with this operation."""
        return False

    def new_entry(self) -> ExecutionEntry | None:
        """A fresh entry for the execution that this operation creates; None when it works on an existing one."""
        return None

    @abstractmethod
    def apply(self, scope: ExecutionScope) -> Any:
        """Append the consequences and return the reply."""


class StartWork(Work):
    """Write a new execution: its start event, the first commands, or the end of an execution without work.

    ``blank`` builds the entry: each attempt to commit begins with a new one.
    """

    operation = "playbook.execute"
    __slots__ = ("_blank", "decision", "idempotency_key", "parent_execution_id", "path")

    def __init__(
        self,
        execution_id: int,
        blank: Callable[[], ExecutionEntry],
        path: str,
        decision: StartDecision,
        parent_execution_id: int | None,
        idempotency_key: str | None,
    ) -> None:
        super().__init__(execution_id)
        self._blank = blank
        self.path = path
        self.decision = decision
        self.parent_execution_id = parent_execution_id
        self.idempotency_key = idempotency_key

    @property
    def creates_execution(self) -> bool:
        return True

    def new_entry(self) -> ExecutionEntry:
        return self._blank()

    def apply(self, scope: ExecutionScope) -> int:
        batch = scope.batch
        started = scope.append(
            "playbook_started",
            self.path,
            "STARTED",
            node_id="playbook",
            node_type="execution",
            parent_execution_id=self.parent_execution_id,
            context={
                "catalog_id": str(scope.state.catalog_id),
                "execution_id": str(self.execution_id),
                "path": self.path,
                "workload": self.decision.workload,
            },
            meta={"emitted_at": batch.emitted_at, "emitter": "control_plane"},
        )
        batch.turns.append("started")
        scope.write(self.decision.decision, started.event_id, first_emitter="execute_handler")
        if self.idempotency_key is not None:
            batch.rows.remember_key(self.idempotency_key, self.execution_id, self.decision.generated)
        return self.decision.generated


class IngestWork(Work):
    """Store events of workers and other clients, and decide once for each that completes or fails a command."""

    operation = "event.ingest"
    __slots__ = ("incoming", "repeated")

    def __init__(self, execution_id: int, incoming: list[IncomingEvent]) -> None:
        super().__init__(execution_id)
        self.incoming = incoming
        self.repeated: set[int] = set()
        """Indexes of events that turned out to be in the log already, with the same content."""

    def apply(self, scope: ExecutionScope) -> list[int]:
        replies: list[int] = []
        triggers: list[Event] = []
        entry = scope.entry
        for index, item in enumerate(self.incoming):
            digest = 0
            if item.event_id is not None:
                digest = hash((item.event_type, item.step, item.status, item.result))
                known = digest if index in self.repeated else entry.recent.get(item.event_id)
                if known == digest:
                    entry.remember(item.event_id, digest)
                    replies.append(item.event_id)
                    continue
                if known is not None:
                    raise repeated_with_other_content(item.event_id)
            if item.event_type == events.COMMAND_CLAIMED:
                owner = _owner_of_posted_claim(scope.state, item)
                if owner is not None:
                    if owner[0] != owner[1]:
                        raise ConflictError(f"Command already claimed by {owner[0]}")
                    replies.append(0)
                    continue
            event = self._store(scope, item)
            if item.event_id is not None:
                entry.remember(item.event_id, digest)
            replies.append(event.event_id)
            if item.event_type in events.TRIGGERS:
                triggers.append(event)
        for event in triggers:
            _decide(scope, event)
        return replies

    def _store(self, scope: ExecutionScope, item: IncomingEvent) -> Event:
        status = _COMMAND_STATUS.get(item.event_type)
        unnamed = scope.state.open_command_of(item.step)
        event = scope.append(
            item.event_type,
            item.step,
            item.status,
            event_id=item.event_id,
            node_type=item.node_type,
            raw_result=item.result,
            raw_meta=item.meta,
            raw_context=item.context,
            created_at=item.created_at,
            worker_id=item.worker_id,
        )
        if status is not None:
            command = scope.state.command_of(event) or unnamed
            # The fold has the last word: a late start by a replaced worker, say, does not move the command.
            if command is not None and command.status.name == status:
                scope.update_command(
                    command.event_id,
                    status,
                    event.event_id,
                    worker_id=command.worker_id,
                    error=_error_of(event) if status == "FAILED" else None,
                )
        return event


class ClaimedElsewhereError(ConflictError):
    """Another worker has the command and last said so at ``heard_at_us`` (Unix time, microseconds)."""

    def __init__(self, worker_id: str, heard_at_us: int) -> None:
        super().__init__(f"Command already claimed by {worker_id}")
        self.worker_id = worker_id
        self.heard_at_us = heard_at_us


class ClaimWork(Work):
    """Give a command to a worker, unless somebody else has it (spec 20, section 5.2).

    ``instead_of`` is an owner who has been found silent: if it still has the command, it loses it.
    """

    operation = "command.claim"
    __slots__ = ("event_id", "instead_of", "worker_id")

    def __init__(self, execution_id: int, event_id: int, worker_id: str, instead_of: str | None = None) -> None:
        super().__init__(execution_id)
        self.event_id = event_id
        self.worker_id = worker_id
        self.instead_of = instead_of

    def apply(self, scope: ExecutionScope) -> bool:
        """Whether a claim was written; False when this worker already has the command."""
        state = scope.state
        command = state.commands.get(self.event_id)
        if command is None:
            raise NotFoundError(f"command.issued event not found: {self.event_id}")
        if command.status in (CommandStatus.COMPLETED, CommandStatus.FAILED):
            # A row that another server has left PENDING would be announced again until it says so too.
            scope.update_command(self.event_id, command.status.name, None)
            raise ConflictError("Command already reached terminal state")
        if state.run_status is RunStatus.CANCELLED or command.status is CommandStatus.CANCELLED:
            raise ConflictError("Execution has been cancelled")
        if command.status in _OWNED:
            if command.worker_id == self.worker_id:
                return False
            if command.worker_id is not None and command.worker_id != self.instead_of:
                raise ClaimedElsewhereError(command.worker_id, max(command.claimed_at_us, command.heartbeat_at_us))
        worker = {"command_id": command.command_id, "worker_id": self.worker_id}
        event = scope.append(
            events.COMMAND_CLAIMED,
            command.step,
            "RUNNING",
            result={"status": "RUNNING", "context": worker},
            meta={**worker, "actionable": False, "informative": True},
            worker_id=self.worker_id,
        )
        scope.update_command(self.event_id, "CLAIMED", event.event_id, worker_id=self.worker_id)
        return True


class AlreadyCancelledError(UnprocessableError):
    """The execution was cancelled before; a cascade still looks for what it started."""


class CancelWork(Work):
    """End an execution as cancelled: no command is issued or claimable afterwards (spec 10, section 6.5)."""

    operation = "execution.cancel"
    __slots__ = ("reason",)

    def __init__(self, execution_id: int, reason: str | None) -> None:
        super().__init__(execution_id)
        self.reason = reason

    def apply(self, scope: ExecutionScope) -> None:
        state = scope.state
        if state.terminal:
            kind = AlreadyCancelledError if state.run_status is RunStatus.CANCELLED else UnprocessableError
            raise kind(f"Cannot cancel execution in {_status_name(state)} state")
        meta = None if self.reason is None else {"reason": self.reason}
        scope.append("playbook_cancelled", "playbook", "CANCELLED", meta=meta)


class FinalizeWork(Work):
    """End an execution as an operator says (spec 10, section 6.7)."""

    operation = "execution.finalize"
    __slots__ = ("error", "status")

    def __init__(self, execution_id: int, status: str, error: str | None) -> None:
        super().__init__(execution_id)
        self.status = status
        self.error = error

    def apply(self, scope: ExecutionScope) -> None:
        state = scope.state
        if state.terminal:
            if _status_name(state) == self.status:
                return
            raise UnprocessableError(f"Cannot finalize execution in {_status_name(state)} state")
        scope.append(f"playbook_{self.status.lower()}", "playbook", self.status, error=self.error)


class RequeueWork(Work):
    """Take a command from a worker that went silent; past the attempt limit the command fails (design.md, P3)."""

    operation = "command.requeue"
    __slots__ = ("event_id", "max_attempts", "silent_us", "worker_id")

    def __init__(
        self, execution_id: int, event_id: int, worker_id: str | None, max_attempts: int, silent_seconds: float
    ) -> None:
        super().__init__(execution_id)
        self.event_id = event_id
        self.worker_id = worker_id
        self.max_attempts = max_attempts
        self.silent_us = int(silent_seconds * 1e6)

    def apply(self, scope: ExecutionScope) -> str:
        """What happened: ``requeued``, ``failed`` or ``moot`` (somebody else was faster, or the execution ended)."""
        state = scope.state
        command = state.commands.get(self.event_id)
        if (
            command is None
            or state.terminal
            or command.status not in _OWNED
            or command.worker_id != self.worker_id
            or command.heartbeat_at_us > scope.batch.now_us - self.silent_us
        ):  # fmt: skip
            return "moot"
        if command.attempt >= self.max_attempts:
            self._fail(scope, command)
            return "failed"
        attempt = command.attempt + 1
        event = scope.append(
            events.COMMAND_REQUEUED,
            command.step,
            "PENDING",
            result={"status": "PENDING", "context": {"command_id": command.command_id}},
            meta={
                "command_id": command.command_id,
                "attempt": attempt,
                "previous_worker": self.worker_id,
                "reason": "worker_silent",
            },
        )
        scope.update_command(self.event_id, "PENDING", event.event_id, attempt=attempt)
        scope.notify(self.event_id, command.command_id, command.step, attempt)
        return "requeued"

    def _fail(self, scope: ExecutionScope, command: CommandState) -> None:
        error = (
            f"Worker '{self.worker_id}' went silent while it ran the command; attempt {command.attempt} of"
            f" {self.max_attempts} was the last"
        )
        event = scope.append(
            "command.failed",
            command.step,
            "FAILED",
            result={"status": "FAILED", "context": {"command_id": command.command_id, "error": error}},
            meta={"command_id": command.command_id, "attempt": command.attempt, "reason": "attempts_exhausted"},
        )
        scope.update_command(self.event_id, "FAILED", event.event_id, error=error)
        _decide(scope, event)


def _decide(scope: ExecutionScope, event: Event) -> None:
    """Write what follows from an event that is folded already; without a readable playbook nothing does."""
    playbook = scope.entry.playbook
    if playbook is not None:
        begin = perf_counter()
        scope.write(advance(playbook, scope.state, event), event.event_id)
        seconds = perf_counter() - begin
        scope.batch.passes.append(seconds)
        if scope.batch.span is not None:
            scope.batch.span.add(
                "orchestrator.evaluate",
                seconds,
                {"execution_id": scope.state.execution_id, "event_id": event.event_id},
            )


def repeated_with_other_content(event_id: int) -> ConflictError:
    """An id that is taken by another event (00-decisions, 24)."""
    return ConflictError(f"Event {event_id} already exists")


def _status_name(state: ExecutionState) -> str:
    return state.run_status.name


def _owner_of_posted_claim(state: ExecutionState, item: IncomingEvent) -> tuple[str, str] | None:
    """Present owner and sender of a claim that came as an event, when both are known (spec 20, section 6.6)."""
    meta = as_object(orjson.loads(item.meta))
    context = as_object(as_object(orjson.loads(item.result)).get("context"))
    command_id = as_text(context.get("command_id")) or as_text(meta.get("command_id"))
    sender = item.worker_id or as_text(meta.get("worker_id"))
    issued = None if command_id is None else events.issued_event_id(command_id)
    command = None if issued is None else state.commands.get(issued)
    if command is None or command.worker_id is None or sender is None:
        return None
    return command.worker_id, sender


def _error_of(event: Event) -> str | None:
    return as_text(as_object(as_object(event.result).get("context")).get("error"))
