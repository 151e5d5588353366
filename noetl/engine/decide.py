"""From an execution's state to what happens next: events, commands, the end (spec 30, section 10).

Pure: no ids, no clock, no change of the state. Steps are examined in workflow order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from noetl.engine import events
from noetl.engine.commands import in_flight_limit, iteration_commands, plain_command
from noetl.engine.conditions import NotIterableError, start_loop_items
from noetl.engine.context import start_context, start_workload
from noetl.engine.decisions import Decision, TerminalDraft
from noetl.engine.events import Event
from noetl.engine.records import StepStatus
from noetl.engine.state import ExecutionState
from noetl.engine.template import TemplateError
from noetl.engine.transition import LoopChangedError, Transition, loop_entry
from noetl.errors import TemplateFailure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noetl.engine.playbook.model import Playbook

START_STEP: Final = "start"
_COMPLETIONS: Final = events.STEP_COMPLETED | {"iterator_completed"}


@dataclass(frozen=True, slots=True)
class StartDecision:
    """How an execution begins. ``generated`` counts all items of a looped start step (spec 30, section 1.1)."""

    workload: dict[str, Any]
    decision: Decision
    generated: int


def start(
    playbook: Playbook, payload: Mapping[str, Any], *, execution_id: int, catalog_id: int, path: str
) -> StartDecision:
    """Begin an execution: everything is rendered here, before anything is written (spec 30, sections 10.1 and 7.1).

    The ids and the catalog path are for the steps behind a start loop without items, which follow in this decision.

    Raises:
        TemplateFailure: the start step cannot be rendered; the message is the answer's.
        UnprocessableError: its loop does not go over a list.
    """
    workload = start_workload(playbook.workload_defaults, payload)
    context = start_context(workload)
    step = playbook.steps[START_STEP]
    try:
        if step.loop is None:
            return StartDecision(workload, Decision(commands=[plain_command(step, context)]), 1)
        items = start_loop_items(step.loop.collection, context, step.limits)
        total = len(items)
        decision = Decision(events=loop_entry(step.name, step.loop, total, None))
        indexes = range(min(total, in_flight_limit(step.loop) or total))
        decision.commands = iteration_commands(step, step.loop, context, items, indexes, total)
    except TemplateError as error:
        raise TemplateFailure(str(error)) from error
    if total == 0:
        begun = _begun(execution_id, catalog_id, path, workload, decision)
        following = advance(playbook, begun, Event(0, "step.exit", START_STEP))
        decision.events += following.events
        decision.commands = following.commands
        decision.terminal = following.terminal
        decision.warnings = following.warnings
    return StartDecision(workload, decision, total)


def advance(playbook: Playbook, state: ExecutionState, trigger: Event) -> Decision:
    """What follows from an event that the state has folded already (spec 30, sections 10.2, 10.3 and 10.8).

    A template that fails, or a loop over something that is no collection, ends the execution: the decision is then the
    one event of section 10.7. The cost does not depend on how many events or iterations came before.
    """
    if state.terminal:
        return Decision()
    try:
        if not any(name in playbook.steps for name in state.steps):
            return _after_loss(playbook, state)
        if trigger.event_type in events.STEP_FAILED:
            return _after_failure(playbook, state)
        if trigger.event_type not in _COMPLETIONS:
            return Decision()
        return _after_completion(playbook, state, trigger.node_name)
    except TemplateError as error:
        return _broken(f"Template error: {error}")
    except (NotIterableError, LoopChangedError) as error:
        return _broken(str(error))


def _after_loss(playbook: Playbook, state: ExecutionState) -> Decision:
    """Nothing of the workflow has happened, though something was reported: begin (spec 30, section 10.2, gate 3)."""
    transition = Transition(playbook, state)
    transition.enter(START_STEP, transition.context, None)
    if transition.decision.commands:
        return transition.decision
    return _conclude(transition, START_STEP)


def _after_failure(playbook: Playbook, state: ExecutionState) -> Decision:
    failed = [
        name for name in state.failed if name in playbook.steps and state.steps[name].status is StepStatus.FAILED
    ]  # fmt: skip
    if not failed or any(name in playbook.steps for name in state.running):
        return Decision()
    return Decision(terminal=_failed_steps(playbook, failed))


def _after_completion(playbook: Playbook, state: ExecutionState, name: str | None) -> Decision:
    transition = Transition(playbook, state)
    transition.continue_loops()
    return _conclude(transition, name)


def _conclude(transition: Transition, name: str | None) -> Decision:
    """Follow the arcs, and end the execution if nothing is under way afterwards (spec 30, section 10.8, E')."""
    transition.follow_arcs()
    decision = transition.decision
    if not decision.commands and not transition.standing.is_anything_running():
        playbook = transition.playbook
        failed = [step for step in transition.state.failed if step in playbook.steps]
        if failed:
            decision.terminal = _failed_steps(playbook, failed)
        else:
            stall = transition.stall_behind(name)
            decision.terminal = _completed() if stall is None else _failure(stall, [])
    return decision


def _begun(
    execution_id: int, catalog_id: int, path: str, workload: dict[str, Any], decision: Decision
) -> ExecutionState:  # fmt: skip
    """The state after a start whose loop has no items."""
    state = ExecutionState(execution_id, catalog_id)
    state.apply(Event(0, "playbook_started", path, context={"workload": workload, "path": path}))
    for draft in decision.events:
        state.apply(Event(0, draft.event_type, draft.step, result={"status": draft.status, "context": draft.context}))
    return state


def _completed() -> TerminalDraft:
    return TerminalDraft("playbook.completed", "COMPLETED", {"status": "COMPLETED"}, {"status": "COMPLETED"})


def _failed_steps(playbook: Playbook, names: list[str]) -> TerminalDraft:
    ordered = sorted(names, key=playbook.step_index.__getitem__)
    return _failure(f"Failed steps: {', '.join(ordered)}", ordered)


def _failure(error: str, failed_steps: list[str]) -> TerminalDraft:
    meta = {"status": "FAILED", "error": error, "failed_steps": failed_steps}
    return TerminalDraft("playbook.failed", "FAILED", {"status": "FAILED"}, meta)


def _broken(reason: str) -> Decision:
    """The end of a run that cannot go on, whatever else is under way (spec 30, section 10.7)."""
    error = f"Orchestrator evaluate failed: {reason}"
    result = {"status": "FAILED", "context": {"error": error}}
    meta = {"emitted_by": "orchestrator", "reason": "evaluate_error", "error": error}
    return Decision(terminal=TerminalDraft("playbook.failed", "FAILED", result, meta))
