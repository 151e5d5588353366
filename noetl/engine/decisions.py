"""What the engine decides: drafts without ids, which the ledger numbers, stores and announces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class EventDraft:
    """A pure event (``step.enter``, ``step.skipped``, ``step.exit``). ``context`` goes into ``result.context``."""

    event_type: str
    step: str
    status: str
    context: dict[str, Any] | None = None


@dataclass(slots=True)
class Iteration:
    """Place of a command in its loop."""

    index: int
    total: int
    variable: str


@dataclass(slots=True)
class CommandDraft:
    """A command to issue: its rendered tool config, the unrendered step args and the render context (spec 30, 8.4)."""

    step: str
    tool_kind: str
    tool_config: Any
    args: Any
    render_context: dict[str, Any]
    iteration: Iteration | None = None


@dataclass(slots=True)
class TerminalDraft:
    """The end of the execution (spec 30, section 11.4)."""

    event_type: str
    status: str
    result: dict[str, Any]
    meta: dict[str, Any]
    error: str | None = None


@dataclass(slots=True)
class Decision:
    """Consequences of one event, in the order in which they are written: events, commands, terminal."""

    events: list[EventDraft] = field(default_factory=list[EventDraft])
    commands: list[CommandDraft] = field(default_factory=list[CommandDraft])
    terminal: TerminalDraft | None = None
    warnings: list[str] = field(default_factory=list[str])
    """For the log of the server: what the author of the playbook should know, without any values."""
