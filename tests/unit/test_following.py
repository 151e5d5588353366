"""`run` outlives a server that is away for a moment, and leaves no execution behind when it gives up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from rich.console import Console

from noetl.cli.development import _execute
from noetl.cli.follow import TOLERATED_FAILURES
from noetl.client import ApiError, NoAnswerError, NoetlClientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Executions:
    """An execution of two events whose polls fail with these errors first."""

    def __init__(self, *failures: NoetlClientError) -> None:
        self._failures = list(failures)
        self.polls = 0
        self.cancelled: list[int] = []

    async def start(self, *_: object, **__: object) -> Any:
        return SimpleNamespace(execution_id=7)

    async def follow(self, execution_id: int, *, poll_seconds: float) -> AsyncIterator[Any]:
        self.polls += 1
        yield event(1, "command.issued")
        if self._failures:
            raise self._failures.pop(0)
        yield event(2, "command.completed")

    async def status(self, execution_id: int) -> Any:
        return SimpleNamespace(status="COMPLETED")

    async def cancel(self, execution_id: int, reason: str) -> None:
        self.cancelled.append(execution_id)


def event(number: int, kind: str) -> Any:
    return SimpleNamespace(event_id=number, event_type=kind, node_name="a", created_at=None, result=None, error=None)


async def run(executions: Executions) -> Any:
    async def register(text: str) -> Any:
        return SimpleNamespace(path="p", version=1)

    client = SimpleNamespace(catalog=SimpleNamespace(register=register), executions=executions)
    return await _execute(cast("Any", client), "", {}, Console(quiet=True), show=False, seconds=None)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl.cli.follow.FAILURE_PAUSE_SECONDS", 0.0)


async def test_some_failed_polls_are_tolerated_and_no_event_is_read_twice() -> None:
    executions = Executions(NoAnswerError("restarting"), ApiError(503, "busy"))
    view = await run(executions)
    assert (view.status, executions.polls, executions.cancelled) == ("COMPLETED", 3, [])
    assert (view.steps["a"].issued, view.steps["a"].finished) == (1, 1)


@pytest.mark.parametrize(
    ("failure", "polls"), [(NoAnswerError("gone"), TOLERATED_FAILURES + 1), (ApiError(404, "unknown"), 1)]
)
async def test_an_execution_that_cannot_be_followed_is_cancelled(failure: NoetlClientError, polls: int) -> None:
    executions = Executions(*[failure] * (TOLERATED_FAILURES + 1))
    with pytest.raises(type(failure)):
        await run(executions)
    assert (executions.polls, executions.cancelled) == (polls, [7])
