"""Repeating requests that a service could not serve just now."""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from noetl.secrets.web import HttpCall

ATTEMPTS: Final = 3
FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 2.0


class RetryingCall:
    """Repeats after 429, 5xx and failed connections, with full jitter: a random pause up to a doubling bound.

    A request that timed out is not repeated: whoever asked is about to give up. ``jitter`` gives 0 to 1, ``sleep``
    takes seconds.
    """

    def __init__(
        self,
        call: HttpCall,
        *,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._call = call
        self._jitter = jitter
        self._sleep = sleep

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        trust: ssl.SSLContext | None = None,
    ) -> tuple[int, bytes]:
        """See `HttpCall`; ``timeout_seconds`` is for each attempt."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, answer = await self._call(
                    method, url, headers=headers, body=body, timeout_seconds=timeout_seconds, trust=trust
                )
            except (TimeoutError, ssl.SSLError):
                raise
            except OSError:
                if attempt == ATTEMPTS:
                    raise
            else:
                if attempt == ATTEMPTS or (status != 429 and status < 500):
                    return status, answer
            bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
            await self._sleep(self._jitter() * bound)
        raise AssertionError("the last attempt returns or raises")
