"""Turning decisions into numbered rows: what one batch writes, folds and announces."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from noetl.engine import events
from noetl.engine.events import Event
from noetl.store.events import IssuedCommand
from noetl.store.ledger import BatchRows

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.engine.decisions import CommandDraft, Decision, EventDraft
    from noetl.ledger.cache import ExecutionEntry
    from noetl.observability.spans import Span  # noqa: TC004 (notifications are never encoded)

log = logging.getLogger("noetl.engine")

MAX_ATTEMPTS: Final = 3
_EPOCH: Final = datetime(1970, 1, 1)
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


class Notification(msgspec.Struct, gc=False):
    """A command that workers should hear of (spec 20, section 4)."""

    execution_id: int
    event_id: int
    command_id: str
    step: str
    segment: str
    attempt: int = 1
    span: Span | None = None
    """The operation that issued the command, where traces are made."""


def encode(value: Any) -> str:
    """JSON text for a jsonb column. PostgreSQL cannot hold U+0000, so it is left out (spec 20, section 6.7)."""
    text = orjson.dumps(value).decode()
    # Most texts have no backslash at all, and a single character is found twenty times as fast.
    return _ESCAPED_NUL.sub(r"\1", text) if "\\" in text and "\\u0000" in text else text


class BatchScope:
    """Everything that one transaction will write. One clock reading serves the whole batch."""

    __slots__ = (
        "clock_ns",
        "created_at",
        "entries",
        "issued",
        "mint",
        "moment",
        "moot",
        "notifications",
        "now_us",
        "outcomes",
        "passes",
        "rows",
        "span",
        "turns",
    )

    def __init__(self, clock_ns: int, mint: Callable[[], int]) -> None:
        self.clock_ns = clock_ns
        self.now_us = clock_ns // 1000
        self.created_at = _EPOCH + timedelta(microseconds=self.now_us)
        self.moment = self.created_at.replace(tzinfo=UTC)
        self.mint = mint
        self.rows = BatchRows()
        self.notifications: list[Notification] = []
        self.moot: list[int] = []
        """Commands that were open when their execution ended: nobody needs to hear of them any more."""
        self.issued: list[IssuedCommand] = []
        self.entries: dict[int, ExecutionEntry] = {}
        self.outcomes: list[Any] = []
        """Reply or NoetlError of each operation, in the order of the batch."""
        self.passes: list[float] = []
        """Seconds that the engine took for each event it decided on."""
        self.span: Span | None = None
        """The span of the operation that is being applied, where traces are made."""
        self.turns: list[str] = []
        """``started``, ``completed``, ``failed`` or ``cancelled`` for each execution that began or ended."""

    def new_event_id(self, execution_id: int) -> int:
        """An id for a row of this batch, the first of which tells later whether the batch was committed."""
        event_id = self.mint()
        if self.rows.witness is None:
            self.rows.witness = (execution_id, event_id)
        return event_id

    @property
    def emitted_at(self) -> str:
        """The batch's time with nanoseconds, as ``playbook_started`` carries it."""
        seconds, nanoseconds = divmod(self.clock_ns, 1_000_000_000)
        return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}+00:00"


class ExecutionScope:
    """One execution inside a batch: appends rows and folds them at once, so that the next item sees them."""

    __slots__ = ("batch", "entry", "state")

    def __init__(self, batch: BatchScope, entry: ExecutionEntry) -> None:
        self.batch = batch
        self.entry = entry
        self.state = entry.state

    def append(
        self,
        event_type: str,
        node_name: str,
        status: str,
        *,
        event_id: int | None = None,
        node_id: str | None = None,
        node_type: str | None = None,
        parent_event_id: int | None = None,
        parent_execution_id: int | None = None,
        context: Any = None,
        result: Any = None,
        meta: Any = None,
        error: str | None = None,
        worker_id: str | None = None,
        raw_result: bytes | None = None,
        raw_meta: bytes | None = None,
        raw_context: bytes | None = None,
        created_at: datetime | None = None,
        command_row_id: int | None = None,
        iteration_index: int | None = None,
        context_text: str | None = None,
    ) -> Event:
        """Write one event and fold it. The ``raw_*`` forms are JSON texts, decoded only if the fold reads them."""
        state = self.state
        batch = self.batch
        if event_id is None:
            event_id = batch.new_event_id(state.execution_id)
        if raw_result is not None or raw_meta is not None or raw_context is not None:
            if events.reads_payload(event_type):
                result = orjson.loads(raw_result) if raw_result else None
                meta = orjson.loads(raw_meta) if raw_meta else None
                context = orjson.loads(raw_context) if raw_context else None
            result_text = raw_result.decode() if raw_result else None
            meta_text = raw_meta.decode() if raw_meta else None
            context_text = raw_context.decode() if raw_context else None
        else:
            result_text = None if result is None else encode(result)
            meta_text = None if meta is None else encode(meta)
            if context_text is None and context is not None:
                context_text = encode(context)
        stamp = created_at or batch.created_at
        batch.rows.add_event(
            state.execution_id,
            event_id,
            state.catalog_id,
            event_type,
            node_name,
            status,
            stamp,
            node_id=node_id,
            node_type=node_type,
            parent_event_id=parent_event_id,
            parent_execution_id=parent_execution_id,
            context=context_text,
            result=result_text,
            meta=meta_text,
            error=error,
            worker_id=worker_id,
            command_row_id=command_row_id,
            iteration_index=iteration_index,
        )
        # Numbers given by the database are larger than this one and ascend alike, so comparing the two kinds is safe.
        state.cursor += 1
        event = Event(
            event_id=event_id,
            event_type=event_type,
            node_name=node_name,
            node_type=node_type,
            status=status,
            catalog_id=state.catalog_id,
            parent_event_id=parent_event_id,
            parent_execution_id=parent_execution_id,
            worker_id=worker_id,
            context=context,
            result=result,
            meta=meta,
            error=error,
            created_at_us=batch.now_us,
            log_position=state.cursor,
        )
        had_ended = state.terminal
        open_commands = list(state.outstanding) if event_type in events.TERMINAL else ()
        state.apply(event)
        if state.terminal and not had_ended:
            batch.turns.append(state.run_status.value)
        for command in open_commands:
            self.update_command(command, "CANCELLED", event_id)
            batch.moot.append(command)
        return event

    def write(self, decision: Decision, cause: int, *, first_emitter: str = "orchestrator") -> None:
        """Write a decision's events, commands and end, in this order; ``cause`` is their parent event."""
        for warning in decision.warnings:
            log.warning(warning, extra={"execution_id": self.state.execution_id})
        for draft in decision.events:
            self._write_event(draft, cause, first_emitter)
            first_emitter = "orchestrator"
        for command in decision.commands:
            self._issue(command, cause)
        end = decision.terminal
        if end is not None:
            self.append(
                end.event_type,
                "playbook",
                end.status,
                parent_event_id=cause,
                result=end.result,
                meta=end.meta,
                error=end.error,
            )

    def _write_event(self, draft: EventDraft, cause: int, emitter: str) -> None:
        result: dict[str, Any] = {"status": draft.status}
        if draft.context is not None:
            result["context"] = draft.context
        self.append(
            draft.event_type,
            draft.step,
            draft.status,
            parent_event_id=cause,
            result=result,
            meta={"emitted_by": emitter},
        )

    def _issue(self, draft: CommandDraft, cause: int) -> None:
        state = self.state
        batch = self.batch
        event_id = batch.new_event_id(state.execution_id)
        iteration = draft.iteration
        command_id = f"{state.execution_id}:{draft.step}:{event_id}"
        meta: dict[str, Any] = {
            "command_id": command_id,
            "step": draft.step,
            "tool_kind": draft.tool_kind,
            "attempt": 1,
            "max_attempts": MAX_ATTEMPTS,
            "execution_id": str(state.execution_id),
            "catalog_id": str(state.catalog_id),
            "actionable": True,
        }
        if iteration is not None:
            command_id = meta["command_id"] = f"{command_id}:i{iteration.index}"
            meta["iteration_index"] = iteration.index
            meta["iteration_total"] = iteration.total
            meta["iterator_step"] = draft.step
            meta["item_var"] = iteration.variable
        context = {"tool_config": draft.tool_config, "args": draft.args, "render_context": draft.render_context}
        context_text = encode(context)
        is_first = iteration is not None and iteration.index == 0
        self.append(
            events.COMMAND_ISSUED,
            draft.step,
            "PENDING",
            event_id=event_id,
            node_type=draft.tool_kind,
            parent_event_id=cause,
            context=context if is_first else None,
            context_text=context_text,
            meta=meta,
            command_row_id=batch.mint(),
            iteration_index=None if iteration is None else iteration.index,
        )
        batch.issued.append(
            IssuedCommand(
                execution_id=state.execution_id,
                event_id=event_id,
                step=draft.step,
                tool_kind=draft.tool_kind,
                context=context_text.encode(),
                meta=orjson.dumps(meta),
            )
        )
        self.notify(event_id, command_id, draft.step)

    def notify(self, event_id: int, command_id: str, step: str, attempt: int = 1) -> None:
        """Announce a command once the batch is committed."""
        playbook = self.entry.playbook
        segment = playbook.pool_segment if playbook is not None else "shared"
        self.batch.notifications.append(
            Notification(self.state.execution_id, event_id, command_id, step, segment, attempt, self.batch.span)
        )

    def update_command(
        self, issued_event_id: int, status: str, latest: int | None, *, worker_id: str | None = None,
        error: str | None = None, attempt: int | None = None,
    ) -> None:  # fmt: skip
        """Let the row of a command follow its event ``latest``; None if that is an old one."""
        self.batch.rows.update_command(
            self.state.execution_id,
            issued_event_id,
            status,
            latest,
            self.batch.moment,
            worker_id=worker_id,
            error=error,
            attempt=attempt,
        )
