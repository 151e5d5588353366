"""The state of one execution: a fold over its events, in commit order (spec 30, section 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from noetl.engine import events
from noetl.engine.context import user_data
from noetl.engine.loops import LoopState
from noetl.engine.reading import as_count, as_object, as_text, weight, worker_of
from noetl.engine.records import CommandState, CommandStatus, RunStatus, StepState, StepStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from noetl.engine.events import Event

__all__ = ["CommandState", "CommandStatus", "ExecutionState", "RunStatus", "StepState", "StepStatus"]

_STATE_BYTES: Final = 2_000
_STEP_BYTES: Final = 600
_COMMAND_BYTES: Final = 450


class ExecutionState:
    """What the log of one execution says. ``apply`` is the only way to change it.

    ``running``, ``failed``, ``partial_loops`` and ``outstanding`` (commands that are not final) are indexes over
    ``steps`` and ``commands``. ``open_sources`` are the completed steps whose arcs may still lead somewhere; the
    decision takes those out of which it has proved the opposite. ``user_data`` and ``envelopes`` hold the parts of the
    render context per step; their values are shared and never changed.
    """

    __slots__ = (
        "_aliases", "_folded", "approximate_bytes", "catalog_id", "commands", "cursor", "ended_at_us", "envelopes",
        "error", "event_count", "execution_id", "failed", "open_sources", "outstanding", "parent_execution_id",
        "partial_loops", "path", "repair_loop_results", "run_status", "running", "started_at_us", "started_event_id",
        "steps", "user_data", "version", "workload",
    )  # fmt: skip

    def __init__(self, execution_id: int, catalog_id: int = 0, *, repair_loop_results: bool = True) -> None:
        self.execution_id = execution_id
        self.catalog_id = catalog_id
        self.repair_loop_results = repair_loop_results
        self.run_status = RunStatus.INITIAL
        self.workload: Any = None
        self.path: str | None = None
        self.version: str | None = None
        self.parent_execution_id: int | None = None
        self.started_event_id: int | None = None
        self.started_at_us = 0
        self.ended_at_us = 0
        self.error: str | None = None
        self.steps: dict[str, StepState] = {}
        self.commands: dict[int, CommandState] = {}
        self.running: dict[str, None] = {}
        self.failed: set[str] = set()
        self.open_sources: dict[str, None] = {}
        self.partial_loops: dict[str, None] = {}
        self.outstanding: dict[int, None] = {}
        self.user_data: dict[str, Any] = {}
        self.envelopes: dict[str, Any] = {}
        self.cursor = 0
        self.event_count = 0
        self.approximate_bytes = _STATE_BYTES
        self._folded = 0
        self._aliases: dict[str, int] = {}

    @property
    def terminal(self) -> bool:
        """Whether the execution has ended, however."""
        return self.run_status in _ENDED

    def apply(self, event: Event) -> None:
        """Fold the next event. Costs the same wherever in the log it stands; never raises on odd content.

        Events must come in commit order. One that was folded already (by its log position) changes nothing, and a
        command ends only once, whatever else is said about it later.
        """
        position = event.log_position
        if position > 0:
            if position <= self._folded:
                return
            self._folded = position
            self.cursor = max(self.cursor, position)
        self.event_count += 1
        if self.catalog_id <= 0 and event.catalog_id is not None:
            self.catalog_id = event.catalog_id
        handler = self._FOLD.get(event.event_type)
        if handler is not None:
            handler(self, event)

    def command_of(self, event: Event) -> CommandState | None:
        """The command that an event of a step talks about, or None if it names none that this step was given."""
        text = events.command_id_of(event)
        if text is None:
            return None
        key = self._aliases.get(text)
        if key is None:
            key = events.issued_event_id(text)
        command = None if key is None else self.commands.get(key)
        return command if command is not None and command.step == event.node_name else None

    def open_command_of(self, name: str) -> CommandState | None:
        """The open command of a plain step: what an end without a (known) command id is about."""
        step = self.steps.get(name)
        if step is None or step.loop is not None or step.last_command not in self.outstanding:
            return None
        return self.commands[step.last_command]

    # -- the run ---------------------------------------------------------------------------------------------------

    def _start(self, event: Event) -> None:
        if self.run_status is RunStatus.INITIAL:
            self.run_status = RunStatus.RUNNING
            self.started_event_id = event.event_id
            self.started_at_us = event.created_at_us
            self.parent_execution_id = event.parent_execution_id
        context = as_object(event.context)
        if self.workload is None and context.get("workload") is not None:
            self.workload = context["workload"]
            self.approximate_bytes += weight(self.workload)
        if self.path is None:
            self.path = as_text(context.get("path"))
        if self.version is None:
            self.version = as_text(context.get("version"))

    def _end(self, event: Event) -> None:
        # The reference writes further ends after a cancel; cancelled stays cancelled. Otherwise the newest end counts.
        if self.run_status is RunStatus.CANCELLED:
            return
        self.ended_at_us = event.created_at_us
        if event.event_type in events.PLAYBOOK_COMPLETED:
            self.run_status = RunStatus.COMPLETED
        elif event.event_type in events.PLAYBOOK_FAILED:
            self.run_status = RunStatus.FAILED
            result = as_object(event.result)
            self.error = (
                event.error
                or as_text(as_object(event.meta).get("error"))
                or as_text(as_object(result.get("context")).get("error"))
                or as_text(result.get("error"))
            )
        else:
            self.run_status = RunStatus.CANCELLED
            for event_id in list(self.outstanding):
                self._finish(self.commands[event_id], CommandStatus.CANCELLED)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _step(self, name: str) -> StepState:
        step = self.steps.get(name)
        if step is None:
            step = self.steps[name] = StepState()
            self.approximate_bytes += _STEP_BYTES + len(name)
        return step

    def _move(self, name: str, step: StepState, status: StepStatus) -> None:
        step.status = status
        if step.is_running:
            self.running[name] = None
        else:
            self.running.pop(name, None)
        if status is StepStatus.COMPLETED:
            step.completed_at = self.event_count
            self.open_sources[name] = None
        else:
            self.open_sources.pop(name, None)
        if status is StepStatus.FAILED or step.error is not None:
            self.failed.add(name)
        else:
            self.failed.discard(name)
        if step.is_final and step.loop is not None:
            self._release_entry(name, step.loop)
            step.loop.drop_results()
            self.approximate_bytes -= step.loop.held_bytes
            step.loop.held_bytes = 0

    def _progress(self, name: str, step: StepState, status: StepStatus) -> None:
        """Follow a claim or a start, unless the step is past that."""
        if not step.is_final and step.status is not StepStatus.SKIPPED:
            self._move(name, step, status)

    def _set_result(self, name: str, step: StepState, result: Any) -> None:
        size = weight(result)
        self.approximate_bytes += size - step.result_bytes
        step.result_bytes = size
        step.result = result
        if result is None:
            self.envelopes.pop(name, None)
            self.user_data.pop(name, None)
        else:
            self.envelopes[name] = result
            self.user_data[name] = user_data(result)

    def _enter(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        step = self._step(name)
        expected = as_count(as_object(as_object(event.result).get("context")).get("iterations_expected"))
        if expected is None:
            expected = as_count(as_object(event.context).get("iterations_expected"))
        if expected is not None:
            if step.loop is None:
                step.loop = LoopState(expected)
            step.loop.expected = expected
        self._move(name, step, StepStatus.ENTERED)

    def _skip(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        step = self._step(name)
        if not step.is_final and not step.is_running:
            step.skipped_at = self.event_count
            self._move(name, step, StepStatus.SKIPPED)

    # -- commands --------------------------------------------------------------------------------------------------

    def _issue(self, event: Event) -> None:
        name = event.node_name
        if name is None or event.event_id in self.commands:
            return
        step = self._step(name)
        meta = as_object(event.meta)
        loop = step.loop
        index = as_count(meta.get("iteration_index"))
        if index is None and loop is not None:
            index = loop.dispatched
        command = CommandState(
            execution_id=self.execution_id,
            event_id=event.event_id,
            step=name,
            attempt=as_count(meta.get("attempt")) or 1,
            tool_kind=event.node_type,
            iteration_index=index,
            issued_at_us=event.created_at_us,
        )
        text = as_text(meta.get("command_id"))
        if text is not None and text != command.command_id:
            command.custom_id = text
            self._aliases[text] = event.event_id
            self.approximate_bytes += 2 * len(text) + 100
        self.commands[event.event_id] = command
        self.outstanding[event.event_id] = None
        self.approximate_bytes += _COMMAND_BYTES
        step.last_command = event.event_id
        self._move(name, step, StepStatus.COMMAND_ISSUED)
        if loop is not None:
            loop.dispatched += 1
            if loop.is_partly_issued:
                self.partial_loops[name] = None
                if index == 0 and loop.entry is None:
                    self._keep_entry(loop, as_object(event.context).get("render_context"))
            else:
                self._release_entry(name, loop)

    def _keep_entry(self, loop: LoopState, render_context: Any) -> None:
        if isinstance(render_context, dict):
            loop.entry = cast("dict[str, Any]", render_context)
            loop.entry_bytes = weight(loop.entry)
            self.approximate_bytes += loop.entry_bytes

    def _release_entry(self, name: str, loop: LoopState) -> None:
        self.partial_loops.pop(name, None)
        self.approximate_bytes -= loop.entry_bytes
        loop.entry, loop.entry_bytes, loop.items = None, 0, None

    def _finish(self, command: CommandState, status: CommandStatus) -> None:
        command.status = status
        command.worker_id = None
        command.issued_at_us = command.claimed_at_us = command.heartbeat_at_us = 0
        self.outstanding.pop(command.event_id, None)

    def _claim(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        command = self.command_of(event)
        if command is not None:
            if command.is_final:
                return
            command.status = CommandStatus.CLAIMED
            command.worker_id = worker_of(event)
            command.claimed_at_us = event.created_at_us
            command.heartbeat_at_us = 0
            command.started = False
        self._progress(name, self._step(name), StepStatus.COMMAND_CLAIMED)

    def _begin(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        command = self.command_of(event)
        if command is not None:
            if command.is_final or not _is_by_owner(command, event):
                return
            command.status = CommandStatus.RUNNING
            command.started = True
        step = self._step(name)
        step.attempt = as_count(as_object(event.meta).get("attempt")) or step.attempt
        self._progress(name, step, StepStatus.COMMAND_STARTED)

    def _heartbeat(self, event: Event) -> None:
        command = self.command_of(event)
        if command is not None and not command.is_final and _is_by_owner(command, event):
            command.heartbeat_at_us = max(command.heartbeat_at_us, event.created_at_us)

    def _requeue(self, event: Event) -> None:
        command = self.command_of(event)
        if command is None or command.is_final:
            return
        command.status = CommandStatus.PENDING
        command.attempt = as_count(as_object(event.meta).get("attempt")) or command.attempt + 1
        command.worker_id = None
        command.claimed_at_us = command.heartbeat_at_us = 0
        command.started = False
        self._progress(command.step, self._step(command.step), StepStatus.COMMAND_ISSUED)

    def _report(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        step = self._step(name)
        command = self.command_of(event)
        if command is not None:
            if command.is_final and command.reported:
                return
            command.reported = True
        if step.loop is None:
            self._set_result(name, step, event.result)
        elif command is not None and not step.is_final and self.repair_loop_results:
            step.loop.report(command.event_id, event.result)
            self._hold(step.loop, event.result)

    def _complete(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        step = self._step(name)
        command = self.command_of(event)
        loop = step.loop
        if command is None:
            command = self.open_command_of(name)
        if command is not None:
            if command.is_final:
                return
            self._finish(command, CommandStatus.COMPLETED)
        if step.is_final:
            return
        if loop is None:
            if step.result is None:
                self._set_result(name, step, event.result)
            self._move(name, step, StepStatus.COMPLETED)
            return
        if command is not None:
            loop.complete(command.event_id, event.result, is_repaired=self.repair_loop_results)
            self._hold(loop, event.result)
        if loop.completed >= loop.expected:
            self._set_result(name, step, loop.collect(self._index_of if self.repair_loop_results else None))
            self._move(name, step, StepStatus.COMPLETED)

    def _hold(self, loop: LoopState, result: Any) -> None:
        """Account for a part of the results of a loop that has not ended."""
        size = weight(result)
        loop.held_bytes += size
        self.approximate_bytes += size

    def _fail(self, event: Event) -> None:
        name = event.node_name
        if name is None:
            return
        step = self._step(name)
        command = self.command_of(event)
        if command is None:
            command = self.open_command_of(name)
        if command is not None:
            if command.is_final:
                return
            self._finish(command, CommandStatus.FAILED)
        if step.is_final:
            return
        result = as_object(event.result)
        error = as_text(result.get("error")) or as_text(as_object(result.get("context")).get("error"))
        step.error = error or step.error
        self._move(name, step, StepStatus.FAILED)

    def _index_of(self, command: int) -> int:
        return self.commands[command].iteration_index or 0

    _FOLD: ClassVar[Mapping[str, Callable[..., None]]] = {
        **dict.fromkeys(events.START, _start),
        **dict.fromkeys(events.TERMINAL, _end),
        **dict.fromkeys(events.STEP_ENTERED, _enter),
        **dict.fromkeys(events.STEP_SKIPPED, _skip),
        events.COMMAND_ISSUED: _issue,
        events.COMMAND_CLAIMED: _claim,
        events.COMMAND_HEARTBEAT: _heartbeat,
        events.COMMAND_REQUEUED: _requeue,
        **dict.fromkeys(events.COMMAND_STARTED, _begin),
        **dict.fromkeys(events.CALL_DONE, _report),
        **dict.fromkeys(events.STEP_COMPLETED, _complete),
        **dict.fromkeys(events.STEP_FAILED, _fail),
    }
    """What each event type does (spec 30, section 9.1); the others do nothing."""


_ENDED: Final = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)


def _is_by_owner(command: CommandState, event: Event) -> bool:
    """Whether an event may speak for a command: not after the command was taken from its sender."""
    if command.worker_id is None:
        return command.attempt <= 1
    worker = worker_of(event)
    return worker is None or worker == command.worker_id
