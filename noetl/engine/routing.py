"""Where a workflow may go: arcs, what steps wait for, what can still be reached (spec 30, sections 10.5 and 10.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from noetl.engine.conditions import evaluate_condition
from noetl.engine.playbook.model import NextMode
from noetl.engine.records import StepStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from noetl.engine.playbook.model import Arc, Playbook, Step
    from noetl.engine.state import ExecutionState

END: Final = "end"
"""The step with rules of its own: not entered once it was skipped, and not through a skip chain (V1, V2)."""


class Routes(NamedTuple):
    """Outcome of the arcs of one step: those that match, and the targets of those that do not, in document order."""

    matched: list[Arc]
    unmatched: list[str]


def holds(step: Step, context: dict[str, Any]) -> bool:
    """Whether the step's own condition, if it has one, lets pass; raises TemplateError."""
    return step.when is None or evaluate_condition(step.when, context, step.limits)


def evaluate_arcs(
    step: Step, context: Callable[[], dict[str, Any]], is_open: Callable[[str], bool] | None = None
) -> Routes:
    """Evaluate the arcs of a step (spec 30, section 10.5).

    With ``is_open``, conditions that only decide about targets which are not open are left alone. ``context`` is called
    only if there is a condition to evaluate. Raises TemplateError.
    """
    matched: list[Arc] = []
    unmatched: list[str] = []
    if step.next is None:
        return Routes(matched, unmatched)
    is_exclusive = step.next.mode is NextMode.EXCLUSIVE
    for arc in step.next.arcs:
        if is_exclusive and matched:
            unmatched.append(arc.target)
        elif is_exclusive or is_open is None or is_open(arc.target):
            if arc.when is None or evaluate_condition(arc.when, context(), step.limits):
                matched.append(arc)
            else:
                unmatched.append(arc.target)
    return Routes(matched, unmatched)


class Standing:
    """Where each step of the playbook stands in the middle of a pass: the folded state plus what the pass has decided.

    ``dispatched`` are the steps entered in this pass; ``skipped`` and ``completed`` (loops without items) map a step to
    the ordinal that its event will have; ``unrouted`` are those of ``completed`` whose arcs were not looked at yet.
    Steps that the playbook does not have are never asked for (H6).
    """

    __slots__ = ("completed", "dispatched", "playbook", "skipped", "state", "unrouted")

    def __init__(self, playbook: Playbook, state: ExecutionState) -> None:
        self.playbook = playbook
        self.state = state
        self.dispatched: dict[str, None] = {}
        self.skipped: dict[str, int] = {}
        self.completed: dict[str, int] = {}
        self.unrouted: set[str] = set()

    def is_final(self, name: str) -> bool:
        """Completed or failed."""
        if name in self.completed:
            return True
        step = self.state.steps.get(name)
        return step is not None and step.status >= StepStatus.COMPLETED

    def is_running(self, name: str) -> bool:
        """Under way since before this pass."""
        return name in self.state.running

    def is_completed(self, name: str) -> bool:
        """Completed, now or before."""
        if name in self.completed:
            return True
        step = self.state.steps.get(name)
        return step is not None and step.status is StepStatus.COMPLETED

    def skipped_at(self, name: str) -> int:
        """Ordinal of the event that skipped the step, if skipped is what it is; else 0."""
        if name in self.skipped:
            return self.skipped[name]
        step = self.state.steps.get(name)
        return step.skipped_at if step is not None and step.status is StepStatus.SKIPPED else 0

    def completed_at(self, name: str) -> int:
        """Ordinal of the event that completed the step; 0 if none did."""
        if name in self.completed:
            return self.completed[name]
        step = self.state.steps.get(name)
        return 0 if step is None else step.completed_at

    def is_taken(self, name: str) -> bool:
        """Final, running, or entered in this pass: an arc to it changes nothing any more."""
        return name in self.dispatched or self.is_running(name) or self.is_final(name)

    def can_enter(self, source: str, target: str) -> bool:
        """Whether an arc of a completed step may still lead into its target (H2, V1)."""
        if self.is_taken(target):
            return False
        skipped_at = self.skipped_at(target)
        if skipped_at == 0:
            return True
        return target != END and self.completed_at(source) > skipped_at

    def running_steps(self) -> Iterator[str]:
        """Steps of the playbook that are under way since before this pass."""
        return (name for name in self.state.running if name in self.playbook.steps)

    def is_anything_running(self) -> bool:
        """Whether a step of the playbook is under way since before this pass."""
        return any(True for _ in self.running_steps())

    def is_satisfied(self, target: str, wanted: Iterable[str]) -> bool:
        """Whether ``target`` need not wait for any of its upstream steps.

        ``wanted`` are the targets that matched arcs of this round may still enter. Steps with a single upstream never
        wait (spec 30, section 10.4 D).
        """
        upstream = self.playbook.upstream[target]
        if len(upstream) <= 1:
            return True
        untouched: list[str] = []
        for name in upstream:
            if name == target or self.is_final(name):
                continue  # a step does not wait for itself
            if name in self.dispatched or self.is_running(name):
                return False
            if self.skipped_at(name):
                continue
            if target == END:
                return False
            untouched.append(name)
        if not untouched:
            return True
        alive = self._alive(target, wanted)
        return not any(name in alive for name in untouched)

    def _alive(self, target: str, wanted: Iterable[str]) -> set[str]:
        """Steps that what is under way can still reach, conditions ignored, without passing through ``target``."""
        under_way = (*self.running_steps(), *self.dispatched, *wanted)
        waiting = [name for name in under_way if name in self.unrouted or not self.is_final(name)]
        alive = set(waiting)
        while waiting:
            name = waiting.pop()
            if name == target:
                continue
            for successor in self.playbook.downstream[name]:
                if successor not in alive and not self.is_final(successor):
                    alive.add(successor)
                    waiting.append(successor)
        return alive

    def can_reach(self, origin: str, target: str) -> bool:
        """Whether the graph has a way, conditions ignored, from one step to another."""
        seen = {origin}
        waiting = [origin]
        while waiting:
            name = waiting.pop()
            if name == target:
                return True
            for successor in self.playbook.downstream[name]:
                if successor not in seen:
                    seen.add(successor)
                    waiting.append(successor)
        return False
