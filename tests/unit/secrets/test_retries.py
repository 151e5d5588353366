"""Requests are repeated when a service could not serve them, and only then."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from noetl.secrets.providers.retries import RetryingCall


class Script:
    """Answers with statuses, or raises; keeps the pauses between."""

    def __init__(self, *outcomes: int | Exception) -> None:
        self._outcomes = list(outcomes)
        self.calls = 0
        self.pauses: list[float] = []

    async def __call__(self, *_: Any, **__: Any) -> tuple[int, bytes]:
        self.calls += 1
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome, b""

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def run(self, jitter: float = 0.5) -> int:
        call = RetryingCall(self, jitter=lambda: jitter, sleep=self.sleep)
        return (await call("GET", "http://x/", headers={}, body=None, timeout_seconds=1))[0]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_busy_service_is_asked_again(status: int) -> None:
    script = Script(status, ConnectionRefusedError(), 200)
    assert await script.run() == 200
    assert script.pauses == [0.125, 0.25]


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404])
async def test_a_decided_answer_is_final(status: int) -> None:
    script = Script(status)
    assert await script.run() == status
    assert script.pauses == []


async def test_pauses_are_random_from_nothing_to_the_bound() -> None:
    for jitter, pauses in ((0.0, [0.0, 0.0]), (1.0, [0.25, 0.5])):
        script = Script(503, 503, 503)
        assert await script.run(jitter) == 503
        assert script.pauses == pauses


@pytest.mark.parametrize("error", [TimeoutError(), ssl.SSLCertVerificationError()])
async def test_what_would_fail_again_is_not_repeated(error: Exception) -> None:
    script = Script(error)
    with pytest.raises(type(error)):
        await script.run()
    assert script.calls == 1


async def test_the_last_failure_is_the_answer() -> None:
    script = Script(ConnectionRefusedError(), 503, ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await script.run()
    assert script.calls == 3
