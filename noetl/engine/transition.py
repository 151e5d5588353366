"""One pass over the workflow after a completion: continue loops, follow arcs, enter steps (spec 30, section 10.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.commands import in_flight_limit, iteration_commands, plain_command
from noetl.engine.conditions import loop_items
from noetl.engine.context import build_context, context_of_arc, without_iteration
from noetl.engine.decisions import Decision, EventDraft
from noetl.engine.routing import END, Routes, Standing, evaluate_arcs, holds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from noetl.engine.loops import LoopState
    from noetl.engine.playbook.model import Arc, Loop, Playbook, Step
    from noetl.engine.state import ExecutionState


class LoopChangedError(Exception):
    """The collection of a loop, found again for its further iterations, is smaller than on entry."""

    def __init__(self, step: str, expected: int, found: int) -> None:
        super().__init__(
            f"Validation error: Loop of step '{step}' was entered with {expected} items, and {found} are left"
        )


def loop_entry(name: str, loop: Loop, total: int, parameters: Mapping[str, Any] | None) -> list[EventDraft]:
    """The events of entering a loop: ``step.enter``, and without items ``step.exit`` as well (section 10.4.1)."""
    entered = {**(parameters or {}), "iterations_expected": total, "iterator_var": loop.iterator}
    drafts = [EventDraft("step.enter", name, "ENTERED", entered)]
    if total == 0:
        drafts.append(EventDraft("step.exit", name, "COMPLETED"))
    return drafts


class Transition:
    """Collects the decision of one pass. Its methods raise TemplateError, NotIterableError, LoopChangedError."""

    __slots__ = ("_context", "_is_end_reached", "_passed_by", "decision", "playbook", "standing", "state")

    def __init__(self, playbook: Playbook, state: ExecutionState) -> None:
        self.playbook = playbook
        self.state = state
        self.decision = Decision()
        self.standing = Standing(playbook, state)
        self._is_end_reached = False
        self._passed_by: set[str] = set()
        """Skipped in this pass because no arc of theirs matched; a skip chain may still lead into them, once."""
        self._context: dict[str, Any] | None = None

    @property
    def context(self) -> dict[str, Any]:
        """The context that all of the pass shares; built once, and again after a loop without items."""
        if self._context is None:
            self._context = build_context(self.state, {name: [] for name in self.standing.completed})
        return self._context

    # -- loops -----------------------------------------------------------------------------------------------------

    def continue_loops(self) -> None:
        """Issue the next iterations of loops that have not issued all: as many as their limit lets."""
        names = (name for name in self.state.partial_loops if name in self.playbook.steps)
        for name in sorted(names, key=self.playbook.step_index.__getitem__):
            step = self.playbook.steps[name]
            progress = self.state.steps[name].loop
            if step.loop is None or progress is None or progress.completed == 0:
                continue
            limit = in_flight_limit(step.loop)
            first = progress.dispatched
            last = progress.expected if limit is None else min(progress.expected, progress.completed + limit)
            if first < last:
                entry, items = self._loop_entry_of(step, step.loop, progress)
                if len(items) < last:
                    raise LoopChangedError(name, progress.expected, len(items))
                self.decision.commands += iteration_commands(
                    step, step.loop, entry, items, range(first, last), progress.expected
                )

    def _loop_entry_of(self, step: Step, loop: Loop, progress: LoopState) -> tuple[dict[str, Any], list[Any]]:
        """Context and items with which a loop was entered (V9); from the present context if the log has lost them."""
        if progress.entry is None:
            return self.context, loop_items(loop.collection, self.context, step.limits)
        if progress.items is None:
            entered = without_iteration(progress.entry, loop.iterator, self.context)
            progress.items = loop_items(loop.collection, entered, step.limits)
        return progress.entry, progress.items

    # -- arcs ------------------------------------------------------------------------------------------------------

    def follow_arcs(self) -> None:
        """Evaluate the arcs of the completed steps, skip and enter their targets; again after loops without items."""
        while True:
            rounds = len(self.standing.completed)
            self._follow_arcs_once()
            if len(self.standing.completed) == rounds:
                return
            self._context = None

    def _follow_arcs_once(self) -> None:
        standing = self.standing
        routes = self._routes()
        standing.unrouted.clear()
        matched = {arc.target for result in routes.values() for arc in result.matched}
        for result in routes.values():
            for target in result.unmatched:
                is_wanted = target in matched and target != END  # V1: an arc that matches does not save the end
                if not is_wanted and not standing.is_taken(target) and not standing.skipped_at(target):
                    self._skip(target, None)
                    self._passed_by.add(target)
        wanted = {
            arc.target: None
            for source, result in routes.items()
            for arc in result.matched
            if standing.can_enter(source, arc.target)
        }
        blocked: dict[str, tuple[int, int]] = {}
        for source, result in routes.items():
            for arc in result.matched:
                self._follow(source, arc, wanted, blocked)

    def _routes(self) -> dict[str, Routes]:
        """Results of the completed steps whose arcs may still lead somewhere, in workflow order."""
        standing = self.standing
        routes: dict[str, Routes] = {}
        sources = [name for name in self.state.open_sources if name in self.playbook.steps]
        sources += standing.completed
        for source in sorted(sources, key=self.playbook.step_index.__getitem__):
            if any(standing.can_enter(source, target) for target in self.playbook.downstream[source]):
                routes[source] = evaluate_arcs(
                    self.playbook.steps[source],
                    lambda: self.context,
                    lambda target, source=source: standing.can_enter(source, target),
                )
            elif not standing.dispatched:
                # Settled by the folded state alone, for good: later passes need not look at it again.
                self.state.open_sources.pop(source, None)
        return routes

    def _follow(
        self, source: str, arc: Arc, wanted: Iterable[str], blocked: dict[str, tuple[int, int]]
    ) -> None:  # fmt: skip
        """Take one matched arc, if its target may be entered now."""
        standing = self.standing
        target = arc.target
        if target == END:
            self._is_end_reached = True
        if not standing.can_enter(source, target):
            return
        # Between two arcs to the same target the answer changes only with what was skipped or entered in between.
        present = (len(standing.skipped), len(standing.dispatched))
        if blocked.get(target) == present:
            return
        if not standing.is_satisfied(target, wanted):
            blocked[target] = present
            return
        context = context_of_arc(arc, self.context, self.decision.warnings, self.playbook.steps[source].limits)
        parameters = arc.arguments
        while not holds(self.playbook.steps[target], context):
            self._skip(target, parameters)
            onward = evaluate_arcs(self.playbook.steps[target], lambda context=context: context).matched
            if not onward:
                return
            arc = onward[0]
            if arc.target == END:
                self._is_end_reached = True
                return
            if standing.is_taken(arc.target):
                return
            if standing.skipped_at(arc.target) and arc.target not in self._passed_by:
                return
            self._passed_by.discard(arc.target)
            context = context_of_arc(arc, context, self.decision.warnings, self.playbook.steps[target].limits)
            parameters = arc.arguments
            target = arc.target
        self.enter(target, context, parameters)

    def _skip(self, name: str, parameters: Mapping[str, Any] | None) -> None:
        if name not in self.standing.skipped:
            self.decision.events.append(EventDraft("step.skipped", name, "SKIPPED", _copy(parameters)))
            self.standing.skipped[name] = self._ordinal()

    def _ordinal(self) -> int:
        """The number that the last event of the decision will have in the log of the execution."""
        return self.state.event_count + len(self.decision.events)

    # -- steps -----------------------------------------------------------------------------------------------------

    def enter(self, name: str, context: dict[str, Any], parameters: Mapping[str, Any] | None) -> None:
        """Enter a step in its context: a plain one with its command, a loop with as many as it may have under way."""
        step = self.playbook.steps[name]
        self.standing.dispatched[name] = None
        if step.loop is None:
            self.decision.events.append(EventDraft("step.enter", name, "ENTERED", _copy(parameters)))
            self.decision.commands.append(plain_command(step, context))
            return
        self._enter_loop(step, step.loop, context, parameters)

    def _enter_loop(
        self, step: Step, loop: Loop, context: dict[str, Any], parameters: Mapping[str, Any] | None
    ) -> None:  # fmt: skip
        items = loop_items(loop.collection, context, step.limits)
        total = len(items)
        self.decision.events += loop_entry(step.name, loop, total, parameters)
        if total == 0:
            self.standing.completed[step.name] = self._ordinal()
            self.standing.unrouted.add(step.name)
            return
        indexes = range(min(total, in_flight_limit(loop) or total))
        self.decision.commands += iteration_commands(step, loop, context, items, indexes, total)

    # -- the end ---------------------------------------------------------------------------------------------------

    def stall_behind(self, name: str | None) -> str | None:
        """Why the workflow ends without having come to its end, if that is so: an arc back to a completed step (H5).

        Looks at the step whose completion caused the pass, and at the loops without items that it entered.
        """
        if self._is_end_reached or (END in self.playbook.steps and self.standing.is_final(END)):
            return None
        causes = [] if name is None or name not in self.playbook.steps else [name]
        for source in (*causes, *self.standing.completed):
            if not self.standing.is_completed(source):
                continue
            for arc in evaluate_arcs(self.playbook.steps[source], lambda: self.context).matched:
                if arc.target == END:
                    return None
                if self.standing.is_completed(arc.target) and self.standing.can_reach(arc.target, source):
                    return (
                        f"Workflow stalled: step '{source}' routes back to completed step '{arc.target}';"
                        " re-entry is not supported"
                    )
        return None


def _copy(parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if parameters is None else dict(parameters)
