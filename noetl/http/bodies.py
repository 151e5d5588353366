"""Reads request bodies within bounds: size of one body, bytes of all bodies together, time (spec 60, section 13)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from blacksheep import Content

from noetl.errors import OverloadedError, RejectedRequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]

TOO_LARGE: Final = "Failed to buffer the request body: length limit exceeded"


class ClientDisconnectedError(Exception):
    """The client went away before its request was complete; nobody reads an answer."""


class BodyBudget:
    """Bytes that all request bodies in flight may hold together, so that memory stays bounded (promise P5).

    Bodies that arrive in one piece (at most the read buffer of the server, 64 KiB) are not counted: the limit of
    requests in flight bounds those.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, amount: int) -> None:
        """Reserve ``amount`` bytes or raise OverloadedError."""
        if self.used + amount > self.limit:
            raise OverloadedError("Too many large request bodies in flight")
        self.used += amount

    def give(self, amount: int) -> None:
        """Return ``amount`` bytes."""
        self.used -= amount


class RequestBody(Content):
    """The body of one incoming request, read at most once from the connection and at most ``limit`` bytes of it."""

    def __init__(
        self, receive: Receive, declared: int | None, limit: int, budget: BodyBudget, timeout_seconds: float
    ) -> None:
        super().__init__(b"", b"")
        self._receive = receive
        self._declared = declared
        self._budget = budget
        self._timeout = timeout_seconds
        self._taken = 0
        self._read: bytes | None = None
        self.limit = limit

    async def read(self) -> bytes:
        """The whole body.

        Raises RejectedRequestError 413 beyond ``limit`` (also for chunked bodies) and 408 when the pieces after the
        first do not arrive in time, OverloadedError when the budget of all bodies is used up, ClientDisconnectedError.
        """
        if self._read is None:
            if self._declared is not None and self._declared > self.limit:
                raise RejectedRequestError(413, TOO_LARGE)
            self._read = b"" if self._declared == 0 else await self._receive_all()
        return self._read

    async def _receive_all(self) -> bytes:
        message = await self._receive()
        first: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body"):
            if len(first) > self.limit:
                raise RejectedRequestError(413, TOO_LARGE)
            return first
        try:
            async with asyncio.timeout(self._timeout):
                return await self._receive_rest(message)
        except TimeoutError:
            raise RejectedRequestError(408, "The request body did not arrive in time") from None

    async def _receive_rest(self, message: dict[str, Any]) -> bytes:
        """All pieces, ``message`` being the first of several."""
        pieces = bytearray()
        while True:
            if message["type"] == "http.disconnect":
                raise ClientDisconnectedError
            piece: bytes = message.get("body", b"")
            if len(pieces) + len(piece) > self.limit:
                raise RejectedRequestError(413, TOO_LARGE)
            self._budget.take(len(piece))
            self._taken += len(piece)
            pieces += piece
            if not message.get("more_body"):
                return bytes(pieces)
            message = await self._receive()

    def release(self) -> None:
        """Forget the body and return its bytes to the budget."""
        self._budget.give(self._taken)
        self._taken = 0
        self._read = b""
