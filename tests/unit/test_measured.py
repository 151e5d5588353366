"""What is counted of a call: its status, and nothing where nobody got an answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, cast

import pytest
from blacksheep import Response

from noetl.errors import NotFoundError, RejectedRequestError
from noetl.http.bodies import ClientDisconnectedError
from noetl.http.measured import measured

if TYPE_CHECKING:
    from blacksheep import Request


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [
        (Response(201), [201]),
        (NotFoundError("x"), [404]),
        (ZeroDivisionError(), [500]),
        (RejectedRequestError(400, "x"), []),
        (ClientDisconnectedError(), []),
        (asyncio.CancelledError(), []),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
async def test_a_call_is_counted_by_its_status(outcome: Any, counted: list[int]) -> None:
    async def handler(request: Request) -> Response:
        if isinstance(outcome, BaseException):
            raise outcome
        return cast("Response", outcome)

    seen: list[int] = []
    with contextlib.suppress(BaseException):
        await measured(handler, lambda status, seconds: seen.append(status))(cast("Any", None))
    assert seen == counted
