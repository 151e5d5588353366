"""The event as the engine folds it, and the names that mean something to it (spec 30, section 9.1)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from noetl.engine.reading import as_object, as_text


class Event(msgspec.Struct, gc=False):
    """One row of the log, reduced to what the fold reads.

    ``result``, ``context`` and ``meta`` are decoded JSON; they may be None where ``reads_payload(event_type)`` is
    false, because then nothing looks at them. ``log_position`` orders the events of one execution by commit.
    """

    event_id: int
    event_type: str
    node_name: str | None = None
    node_type: str | None = None
    status: str | None = None
    catalog_id: int | None = None
    parent_event_id: int | None = None
    parent_execution_id: int | None = None
    worker_id: str | None = None
    context: Any = None
    result: Any = None
    meta: Any = None
    error: str | None = None
    created_at_us: int = 0
    log_position: int = 0


START: Final = frozenset({"playbook_started", "playbook.initialized", "playbook.started"})
PLAYBOOK_COMPLETED: Final = frozenset({"playbook.completed", "playbook_completed"})
PLAYBOOK_FAILED: Final = frozenset({"playbook.failed", "playbook_failed"})
PLAYBOOK_CANCELLED: Final = frozenset({"playbook.cancelled", "playbook_cancelled", "execution.cancelled"})
TERMINAL: Final = PLAYBOOK_COMPLETED | PLAYBOOK_FAILED | PLAYBOOK_CANCELLED

STEP_ENTERED: Final = frozenset({"step.enter", "step_enter", "step_started"})
STEP_SKIPPED: Final = frozenset({"step.skipped", "step_skipped"})
COMMAND_ISSUED: Final = "command.issued"
COMMAND_CLAIMED: Final = "command.claimed"
COMMAND_HEARTBEAT: Final = "command.heartbeat"
COMMAND_REQUEUED: Final = "command.requeued"
"""Written by the sweeper when the owner of a command went silent; unknown to the reference, which ignores it."""
COMMAND_STARTED: Final = frozenset({"command.started", "action_started"})
CALL_DONE: Final = frozenset({"call.done", "action_done"})
STEP_COMPLETED: Final = frozenset({"command.completed", "action_completed", "step.exit", "step_completed"})
STEP_FAILED: Final = frozenset({"command.failed", "action_failed", "step_failed"})

TRIGGERS: Final = frozenset({"command.completed", "command.failed"})
"""The only event types whose arrival makes the engine decide (spec 30, section 1.1)."""

_READING_PAYLOAD: Final = (
    START
    | STEP_ENTERED
    | CALL_DONE
    | STEP_COMPLETED
    | STEP_FAILED
    | PLAYBOOK_FAILED
    | frozenset({COMMAND_ISSUED, COMMAND_CLAIMED, COMMAND_REQUEUED, COMMAND_HEARTBEAT})
    | COMMAND_STARTED
)


def reads_payload(event_type: str) -> bool:
    """Whether folding this type looks into ``context``, ``result`` or ``meta``."""
    return event_type in _READING_PAYLOAD


def command_id_of(event: Event) -> str | None:
    """The textual command id: first string of meta, result.context, result.data (spec 30, section 9.3)."""
    found = as_text(as_object(event.meta).get("command_id"))
    if found is not None:
        return found
    result = as_object(event.result)
    for member in ("context", "data"):
        found = as_text(as_object(result.get(member)).get("command_id"))
        if found is not None:
            return found
    return None


def issued_event_id(command_id: str) -> int | None:
    """The id of the ``command.issued`` event inside a textual command id, or None if it has another form.

    The form is ``<execution>:<step>:<event>`` with ``:i<index>`` behind it for iterations; the step may hold colons.
    """
    head, _, last = command_id.rpartition(":")
    if last.startswith("i") and last[1:].isdecimal():
        last = head.rpartition(":")[2]
    return int(last) if len(last) <= 19 and last.isascii() and last.isdecimal() else None
