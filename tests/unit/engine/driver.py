"""Runs a playbook in memory with a scripted worker: numbers events, folds them, decides, numbers the decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from noetl.engine import events
from noetl.engine.decide import advance, start
from noetl.engine.events import Event
from noetl.engine.playbook.parser import parse_playbook
from noetl.engine.state import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from noetl.engine.decisions import CommandDraft, Decision
    from noetl.engine.playbook.model import Playbook

EXECUTION = 900
CATALOG = 77
ENGINE_ROWS = frozenset(
    {"playbook_started", "step.enter", "step.skipped", "step.exit", "command.issued"} | set(events.TERMINAL)
)


@dataclass
class Issued:
    """A command that waits for the worker."""

    event_id: int
    command_id: str
    draft: CommandDraft

    @property
    def step(self) -> str:
        return self.draft.step

    @property
    def index(self) -> int | None:
        return None if self.draft.iteration is None else self.draft.iteration.index


class Driver:
    """One execution. Event ids are the line numbers of the log; ``decisions`` holds what each trigger led to."""

    def __init__(
        self,
        playbook: Playbook | str,
        payload: Mapping[str, Any] | None = None,
        *,
        repair_loop_results: bool = True,
        path: str = "t/flow",
    ) -> None:
        self.playbook = parse_playbook(playbook) if isinstance(playbook, str) else playbook
        self.state = ExecutionState(EXECUTION, CATALOG, repair_loop_results=repair_loop_results)
        self.log: list[Event] = []
        self.open: list[Issued] = []
        self.issued: list[Issued] = []
        self.decisions: list[Decision] = []
        self.observe: Callable[[Driver], None] = lambda _: None
        begun = start(self.playbook, payload or {}, execution_id=EXECUTION, catalog_id=CATALOG, path=path)
        self.generated = begun.generated
        context = {
            "catalog_id": str(CATALOG), "execution_id": str(EXECUTION), "path": path, "workload": begun.workload
        }  # fmt: skip
        self.append("playbook_started", path, "STARTED", node_type="execution", context=context)
        self.write(begun.decision, 1)

    # -- the log ---------------------------------------------------------------------------------------------------

    def append(self, event_type: str, node: str | None, status: str | None = None, **columns: Any) -> Event:
        number = len(self.log) + 1
        event = Event(
            event_id=columns.pop("event_id", number),
            event_type=event_type,
            node_name=node,
            status=status,
            catalog_id=CATALOG,
            created_at_us=1_000 * number,
            log_position=number,
            **columns,
        )
        self.log.append(event)
        self.state.apply(event)
        self.observe(self)
        return event

    def write(self, decision: Decision, cause: int) -> None:
        self.decisions.append(decision)
        for draft in decision.events:
            result: dict[str, Any] = {"status": draft.status}
            if draft.context is not None:
                result["context"] = draft.context
            self.append(draft.event_type, draft.step, draft.status, parent_event_id=cause, result=result)
        for draft in decision.commands:
            number = len(self.log) + 1
            command_id = f"{EXECUTION}:{draft.step}:{number}"
            meta: dict[str, Any] = {"step": draft.step, "tool_kind": draft.tool_kind, "attempt": 1}
            if draft.iteration is not None:
                command_id += f":i{draft.iteration.index}"
                meta["iteration_index"] = draft.iteration.index
                meta["iteration_total"] = draft.iteration.total
            meta["command_id"] = command_id
            context = {"tool_config": draft.tool_config, "args": draft.args, "render_context": draft.render_context}
            self.append(
                "command.issued", draft.step, "PENDING",
                node_type=draft.tool_kind, parent_event_id=cause, context=context, meta=meta,
            )  # fmt: skip
            command = Issued(number, command_id, draft)
            self.open.append(command)
            self.issued.append(command)
        if decision.terminal is not None:
            end = decision.terminal
            self.append(end.event_type, "playbook", end.status, parent_event_id=cause, result=end.result, meta=end.meta)

    def trigger(self, event: Event) -> Decision:
        decision = advance(self.playbook, self.state, event)
        self.write(decision, event.event_id)
        return decision

    # -- the worker ------------------------------------------------------------------------------------------------

    def find(self, which: str | Issued, index: int | None = None) -> Issued:
        """The open command of a step (of one of its iterations)."""
        if isinstance(which, Issued):
            return which
        return next(command for command in self.open if command.step == which and index in (None, command.index))

    def claim(self, which: str | Issued, index: int | None = None, worker: str = "w1") -> Issued:
        command = self.find(which, index)
        payload = {"worker_id": worker, "command_id": command.command_id}
        self.append(
            "command.claimed", command.step, "RUNNING",
            result={"status": "RUNNING", "context": payload}, meta=payload,
        )  # fmt: skip
        payload = {"command_id": command.command_id}
        self.append(
            "command.started", command.step, "STARTED",
            result={"status": "STARTED", "context": payload}, meta={"attempts": 0, "worker_id": worker},
        )  # fmt: skip
        return command

    def report(self, command: Issued, data: Any, status: str = "success") -> Event:
        payload = {
            "call_index": 0,
            "command_id": command.command_id,
            "result": {"status": status, "context": {"data": data, "status": status}},
        }
        return self.append("call.done", command.step, "COMPLETED", result={"status": "COMPLETED", "context": payload})

    def done(self, command: Issued, status: str = "success") -> Decision:
        """Post ``command.completed`` and decide."""
        if command in self.open:
            self.open.remove(command)
        result = {"status": status, "context": {"status": status, "command_id": command.command_id}}
        return self.trigger(self.append("command.completed", command.step, status, result=result))

    def complete(
        self, which: str | Issued, data: Any = None, *, index: int | None = None, status: str = "success"
    ) -> Decision:
        """All four events of a command that ran; returns what follows."""
        command = self.claim(which, index)
        self.report(command, data, status)
        return self.done(command, status)

    def fail(self, which: str | Issued, error: str | None = "boom", *, index: int | None = None) -> Decision:
        """The four events of a command that could not be run."""
        command = self.claim(which, index)
        self.open.remove(command)
        payload = {"command_id": command.command_id, **({} if error is None else {"error": error})}
        failure = {"status": "FAILED", "context": payload}
        self.append("call.error", command.step, "FAILED", result=failure)
        return self.trigger(self.append("command.failed", command.step, "FAILED", result=failure))

    def run(self, script: Mapping[str, Any] | None = None, choose: Callable[[int], int] = lambda _: 0) -> Driver:
        """Complete all commands until none is left; ``script`` has data per step, ``choose`` picks the next command."""
        script = script or {}
        while self.open:
            command = self.open[choose(len(self.open))]
            data = script.get(command.step, {"ok": command.step})
            self.complete(command, data(command) if callable(data) else data)
        return self

    # -- looking at it ---------------------------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """The log without the worker's rows: ``<number> <type> <node>[ i<index>] [<parent>]``; triggers as ``T``."""
        lines: list[str] = []
        for event in self.log:
            name = "T" if event.event_type in events.TRIGGERS else event.event_type
            if name != "T" and name not in ENGINE_ROWS:
                continue
            line = f"{event.event_id} {name} {event.node_name}"
            index = event.meta.get("iteration_index") if isinstance(event.meta, dict) else None
            if index is not None:
                line += f" i{index}"
            if event.parent_event_id is not None:
                line += f" [{event.parent_event_id}]"
            lines.append(line)
        return lines

    def flow(self) -> list[str]:
        """The rows of the engine: ``+a`` entered, ``-a`` skipped, ``=a`` left, ``a`` or ``a.0`` issued, and the end."""
        marks = {"step.enter": "+", "step.skipped": "-", "step.exit": "=", "command.issued": ""}
        rows: list[str] = []
        for event in self.log:
            if event.event_type in marks:
                index = event.meta.get("iteration_index") if isinstance(event.meta, dict) else None
                rows.append(f"{marks[event.event_type]}{event.node_name}{'' if index is None else f'.{index}'}")
            elif event.event_type in events.TERMINAL:
                rows.append(event.event_type.rpartition(".")[2].upper())
        return rows

    def command(self, step: str, index: int | None = None) -> CommandDraft:
        return next(c.draft for c in self.issued if c.step == step and index in (None, c.index))

    def ends(self) -> list[Event]:
        return [event for event in self.log if event.event_type in events.TERMINAL]


def stored(event: Event) -> Event:
    """The event as it comes back from the database: through JSON, and without what the fold does not read."""
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    for column in ("context", "result", "meta"):
        value = values[column] if events.reads_payload(event.event_type) else None
        values[column] = None if value is None else orjson.loads(orjson.dumps(value))
    meta = event.meta if isinstance(event.meta, dict) else {}
    if event.event_type == "command.issued" and meta.get("iteration_index") != 0:
        values["context"] = None
    return Event(**values)


def folded(log: list[Event], like: ExecutionState) -> ExecutionState:
    state = ExecutionState(EXECUTION, CATALOG, repair_loop_results=like.repair_loop_results)
    for event in log:
        state.apply(stored(event))
    return state


def snapshot(state: ExecutionState) -> dict[str, Any]:
    """All that a state says, for comparison; without what decisions remember in it."""

    def plain(value: Any) -> Any:
        names = getattr(type(value), "__struct_fields__", None) or getattr(type(value), "__slots__", None)
        if names and not isinstance(value, (str, int)):
            return {name: plain(getattr(value, name)) for name in names if name not in ("items", "open_sources")}
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, set):
            return set(value)
        return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return plain(state)
