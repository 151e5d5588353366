"""Following one execution: what its events say about the steps, as a live table or as one document at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

from rich.live import Live
from rich.text import Text

from noetl.cli.session import table
from noetl.client import ApiError, NoetlClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from noetl.client import ExecutionDetail, ExecutionEvent, NoetlClient

REFRESH_SECONDS: Final = 0.1
POLL_SECONDS: Final = 0.15
TOLERATED_FAILURES: Final = 4
"""So many failures in a row are taken for a restart of the server, not for its end."""
FAILURE_PAUSE_SECONDS: Final = 1.0
"""Pause after the first failure; the others are so many times as long."""
FORGIVEN_SECONDS: Final = 120.0
"""A failure so long after another begins a new row."""
_COLOURS: Final = {
    "waiting": "dim", "running": "cyan", "done": "green", "error": "yellow", "failed": "red", "skipped": "dim",
}  # fmt: skip


@dataclass(slots=True)
class StepView:
    """One step as the events tell it."""

    name: str
    state: str = "waiting"
    issued: int = 0
    finished: int = 0
    total: int | None = None
    began: datetime | None = None
    ended: datetime | None = None
    error: str | None = None
    result: Any = None

    @property
    def seconds(self) -> float | None:
        """From the first command issued to the last one ended; None while none ended."""
        if self.began is None or self.ended is None:
            return None
        return max(0.0, (self.ended - self.began).total_seconds())


@dataclass(slots=True)
class ExecutionView:
    """The steps of an execution in the order in which they appeared."""

    execution_id: str
    status: str = "RUNNING"
    steps: dict[str, StepView] = field(default_factory=dict[str, StepView])
    error: str | None = None

    @property
    def result(self) -> Any:
        """Data of the step that finished last."""
        done = [step for step in self.steps.values() if step.ended is not None and step.result is not None]
        return max(done, key=lambda step: cast("datetime", step.ended)).result if done else None

    def read(self, event: ExecutionEvent) -> None:
        """Take in the next event."""
        kind, name, context = event.event_type, event.node_name, _context(event)
        if kind.startswith(("playbook", "execution.")):
            if kind.endswith("failed"):
                self.error = _text(context.get("error")) or event.error or self.error
        elif name is not None:
            _read_step(self.steps.setdefault(name, StepView(name)), event, context)

    def document(self) -> dict[str, Any]:
        """The view as JSON members."""
        return {
            "execution_id": self.execution_id,
            "status": self.status,
            "steps": [
                {"step": step.name, "state": step.state, "seconds": step.seconds, "error": step.error}
                for step in self.steps.values()
            ],
            "result": self.result,
            "error": self.error,
        }


def view_of(detail: ExecutionDetail) -> ExecutionView:
    """Read the events of an execution."""
    view = ExecutionView(str(detail.execution_id), detail.status)
    for event in detail.events:
        view.read(event)
    return view


def table_of(view: ExecutionView, now: datetime) -> Table:
    """The view as a table for the terminal; the time of a step that runs is counted up to ``now``."""
    rows: list[tuple[object, ...]] = []
    for step in view.steps.values():
        state = step.state
        if step.total is not None and step.total > 1:
            state += f" {step.finished}/{step.total}"
        seconds = step.seconds
        if step.state == "running" and step.began is not None:
            seconds = max(0.0, (now - step.began).total_seconds())
        time = "" if seconds is None else f"{seconds:.2f} s"
        rows.append((step.name, Text(state, style=_COLOURS[step.state]), time, Text(step.error or "", style="red")))
    return table(("step", "state", "time", ""), rows, right=("time",))


async def follow(client: NoetlClient, execution_id: int, console: Console | None) -> ExecutionView:
    """Wait for the end of an execution; with a console, show its steps: live on a terminal, else at the end."""
    view = ExecutionView(str(execution_id))
    if console is not None and console.is_terminal:
        await _show_live(view, client, execution_id, console)
        return view
    await _fill(view, client, execution_id)
    if console is not None:
        console.print(table_of(view, datetime.now(UTC)))
    return view


async def _show_live(view: ExecutionView, client: NoetlClient, execution_id: int, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:

        def draw() -> None:
            if view.steps:
                live.update(table_of(view, datetime.now(UTC)), refresh=True)

        drawing = asyncio.create_task(_keep_drawing(draw))
        try:
            await _fill(view, client, execution_id)
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)
            draw()


async def _fill(view: ExecutionView, client: NoetlClient, execution_id: int) -> None:
    """Read the events to the end; a server that does not answer for a moment is asked again."""
    seen: set[int] = set()
    failures, failed_at = 0, 0.0
    while True:
        try:
            async for event in client.executions.follow(execution_id, poll_seconds=POLL_SECONDS):
                if event.event_id not in seen:
                    seen.add(event.event_id)
                    view.read(event)
            view.status = (await client.executions.status(execution_id)).status
        except NoetlClientError as error:
            now = monotonic()
            failures = failures + 1 if now - failed_at < FORGIVEN_SECONDS else 1
            failed_at = now
            if failures > TOLERATED_FAILURES or (isinstance(error, ApiError) and error.status < 500):
                raise
            await asyncio.sleep(failures * FAILURE_PAUSE_SECONDS)
        else:
            return


async def _keep_drawing(draw: Callable[[], None]) -> None:
    while True:
        draw()
        await asyncio.sleep(REFRESH_SECONDS)


def _read_step(step: StepView, event: ExecutionEvent, context: dict[str, Any]) -> None:
    kind, when = event.event_type, event.created_at
    if kind == "step.enter":
        total = context.get("iterations_expected")
        step.total = total if isinstance(total, int) else None
    elif kind == "step.skipped":
        step.state = "skipped"
    elif kind == "command.issued":
        step.issued += 1
        step.began = step.began or when
        step.state = "waiting" if step.state == "skipped" else step.state
    elif kind in ("command.claimed", "command.started"):
        step.state = "running" if step.state == "waiting" else step.state
    elif kind == "call.done":
        _take_result(step, context)
    elif kind in ("command.completed", "command.failed"):
        _finish(step, event, context, when)


def _take_result(step: StepView, context: dict[str, Any]) -> None:
    result = _object(context.get("result"))
    inner = _object(result.get("context"))
    data = inner.get("data", result.get("reference"))
    if step.total is None:
        step.result = data
    else:
        step.result = [*(step.result or []), data]
    step.error = _text(inner.get("error")) or step.error


def _finish(step: StepView, event: ExecutionEvent, context: dict[str, Any], when: datetime) -> None:
    step.finished += 1
    step.ended = when
    if event.event_type == "command.failed":
        step.state = "failed"
        step.error = _text(context.get("error")) or step.error
    elif step.state != "failed" and (step.total is None or step.finished >= step.total):
        step.state = "error" if step.error else "done"


def _context(event: ExecutionEvent) -> dict[str, Any]:
    return _object(_object(event.result).get("context"))


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
