"""HTTP requests to key managers and secret stores, over the standard library in a thread."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_LIMIT: Final = 4 * 2**20


async def http_call(
    method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_seconds: float
) -> tuple[int, bytes]:
    """One request; returns status and body whatever the status is.

    Raises:
        OSError, TimeoutError: no answer.
    """
    request = urllib.request.Request(  # noqa: S310 (the URL comes from the operator's settings)
        url, data=body, headers=dict(headers), method=method
    )
    return await asyncio.to_thread(_send, request, timeout_seconds)


def _send(request: urllib.request.Request, timeout_seconds: float) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            return answer.status, answer.read(ANSWER_LIMIT)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(ANSWER_LIMIT)
