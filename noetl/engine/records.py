"""What the fold keeps of a command and of a step, and the statuses of run, step and command."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from noetl.engine.loops import LoopState


class RunStatus(Enum):
    """Status of an execution."""

    INITIAL = "initial"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class CommandStatus(Enum):
    """Status of a command; the last three are final."""

    PENDING = "pending"
    CLAIMED = "claimed"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(IntEnum):
    """Status of a step. From ENTERED to COMMAND_STARTED it is running, from COMPLETED on final."""

    PENDING = 0
    SKIPPED = 1
    ENTERED = 2
    COMMAND_ISSUED = 3
    COMMAND_CLAIMED = 4
    COMMAND_STARTED = 5
    COMPLETED = 6
    FAILED = 7


class CommandState(msgspec.Struct, gc=False):
    """One issued command. Times are Unix microseconds, 0 = not yet (or, once it is final, no longer of interest)."""

    execution_id: int
    event_id: int
    step: str
    attempt: int = 1
    tool_kind: str | None = None
    iteration_index: int | None = None
    status: CommandStatus = CommandStatus.PENDING
    worker_id: str | None = None
    issued_at_us: int = 0
    claimed_at_us: int = 0
    heartbeat_at_us: int = 0
    started: bool = False
    reported: bool = False
    """Whether its ``call.done`` is in."""
    custom_id: str | None = None
    """The textual id if it has not the form of spec 30, section 8.3."""

    @property
    def command_id(self) -> str:
        """The textual id that workers echo (spec 30, section 8.3)."""
        if self.custom_id is not None:
            return self.custom_id
        text = f"{self.execution_id}:{self.step}:{self.event_id}"
        return text if self.iteration_index is None else f"{text}:i{self.iteration_index}"

    @property
    def is_final(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.status in _FINAL_COMMAND


_FINAL_COMMAND: Final = (CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.CANCELLED)


class StepState:
    """One step, by name; the playbook need not have it.

    ``skipped_at`` and ``completed_at`` are the ordinals of the step's last skip and of its completion among the events
    of the execution (0 = never). ``loop`` is None for plain steps.
    """

    __slots__ = (
        "attempt", "completed_at", "error", "last_command", "loop", "result", "result_bytes", "skipped_at", "status",
    )  # fmt: skip

    def __init__(self) -> None:
        self.status = StepStatus.PENDING
        self.result: Any = None
        self.result_bytes = 0
        self.error: str | None = None
        self.attempt: int | None = None
        self.loop: LoopState | None = None
        self.last_command: int | None = None
        self.skipped_at = 0
        self.completed_at = 0

    @property
    def is_running(self) -> bool:
        """Whether a command of the step is under way."""
        return StepStatus.ENTERED <= self.status <= StepStatus.COMMAND_STARTED

    @property
    def is_final(self) -> bool:
        """Whether the step completed or failed."""
        return self.status >= StepStatus.COMPLETED

    @property
    def expected(self) -> int | None:
        """Number of iterations; None for a plain step."""
        return None if self.loop is None else self.loop.expected

    @property
    def dispatched(self) -> int:
        """Number of iterations issued."""
        return 0 if self.loop is None else self.loop.dispatched
