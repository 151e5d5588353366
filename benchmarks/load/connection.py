"""A keep-alive HTTP/1.1 connection that costs the load generator little, so that the server is what is measured."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httptools
import orjson

GIVE_UP_SECONDS: Final = 60.0


class Answer:
    """Status, lower-case headers and body of one response."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The decoded body."""
        return orjson.loads(self.body)


class Connection(asyncio.Protocol):
    """One connection with at most one request under way; it opens itself, again when the server has closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: Any = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser: Any = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    async def send(self, request: bytes) -> Answer:
        """Send a request that `encode` made, and wait for its answer.

        Raises:
            OSError: no connection, or it ended before the answer was complete (also TimeoutError).
        """
        if self._transport is None:
            self._parser = httptools.HttpResponseParser(self)
            await asyncio.get_running_loop().create_connection(lambda: self, self._host, self._port)
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            return await self._waiting

    async def call(self, method: str, path: str, body: object = None) -> Answer:
        """`encode` and `send`."""
        return await self.send(encode(method, path, body))

    def close(self) -> None:
        """Give the connection up."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("connection closed before the answer"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # -- httptools ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = {}
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._body)))


def encode(method: str, path: str, body: object = None) -> bytes:
    """The bytes of a request; ``body`` is JSON text, or what becomes it."""
    text = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if text:
        head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return head.encode() + b"\r\n" + text
