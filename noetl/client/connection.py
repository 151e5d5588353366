"""One HTTP/1.1 connection, one exchange after the other; an answer is read in pieces, and never more than asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import httptools

from noetl.client.errors import LostConnectionError, NoAnswerError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

READ_BYTES: Final = 65_536

Body: TypeAlias = bytes | AsyncIterable[bytes] | None


class Connection:
    """A connection to ``origin`` (scheme and authority, for error texts).

    What goes wrong is a NoAnswerError, or a LostConnectionError when it was used before and nothing came this time.
    """

    def __init__(self, origin: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._origin = origin
        self._reader = reader
        self._writer = writer
        self._answer = _Answer()
        self._sending: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[bytes] | None = None
        self._exchanges = 0
        self.idle_since = 0.0

    @classmethod
    async def open(cls, origin: str, host: str, port: int, tls: ssl.SSLContext | None) -> Self:
        """Connect."""
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"no answer from {origin}: {_reason(error)}") from error
        return cls(origin, reader, writer)

    @property
    def is_reusable(self) -> bool:
        """Whether the last answer was read to its end, and the peer has neither closed nor said more since."""
        is_quiet = self._ahead is None or not self._ahead.done()
        return self._answer.is_reusable and is_quiet and not self._writer.is_closing()

    def rest(self, now: float) -> None:
        """Wait for the next exchange; what comes before it ends the connection's use."""
        self.idle_since = now
        self._ahead = asyncio.create_task(self._reader.read(READ_BYTES))

    async def begin(self, head: bytes, body: Body) -> tuple[int, dict[str, str]]:
        """Send a request; returns status and headers (names in lower case) of the answer.

        A body in pieces must have a head that says ``chunked`` or their length; it is sent while the answer is awaited,
        because a server may refuse before it has read everything.
        """
        self._exchanges += 1
        self._answer = answer = _Answer()
        if isinstance(body, AsyncIterable):
            self._writer.write(head)
            self._sending = asyncio.create_task(self._send(body, is_chunked=b"Transfer-Encoding: chunked" in head))
        else:
            self._writer.write(head + (body or b""))
        while not answer.has_head:
            await self._receive()
        return answer.status, answer.headers

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body of the answer as it comes."""
        answer = self._answer
        while True:
            if answer.body:
                piece = b"".join(answer.body)
                answer.body.clear()
                yield piece
            elif answer.is_complete:
                return
            else:
                await self._receive()

    def close(self) -> None:
        """End the connection, and whatever is still being sent."""
        self.end_sending()
        if self._ahead is not None:
            _drop(self._ahead)
        self._writer.close()

    def end_sending(self) -> None:
        """Stop sending a body whose answer is there; the connection is of no use then."""
        sending, self._sending = self._sending, None
        if sending is None:
            return
        if not sending.done():
            self._answer.keeps_alive = False
        _drop(sending)

    async def _send(self, body: AsyncIterable[bytes], *, is_chunked: bool) -> None:
        """Send a body; fails only where its source does, a broken connection is noticed by who reads."""
        async for piece in body:
            if piece and not await self._sent(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece):
                return
        if is_chunked:
            await self._sent(b"0\r\n\r\n")

    async def _sent(self, data: bytes) -> bool:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            return False
        return True

    async def _receive(self) -> None:
        """Take in what has come. A failure of the body's source is raised here, to whom it concerns."""
        reading = self._ahead or self._reader.read(READ_BYTES)
        self._ahead = None
        if self._sending is not None:
            reading = await self._beside(self._sending, asyncio.ensure_future(reading))
        answer = self._answer
        try:
            data = await reading
        except OSError as error:
            raise self._lost(_reason(error)) from error
        if not data:
            if not answer.ends_with_connection:
                raise self._lost("the connection was closed before the end of the answer")
            answer.is_complete = True
            return
        try:
            answer.parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise NoAnswerError(f"no HTTP answer from {self._origin}: {error}") from error

    async def _beside(self, sending: asyncio.Task[None], reading: asyncio.Future[bytes]) -> asyncio.Future[bytes]:
        """Wait for either, or for the failure of what is sent; afterwards only ``reading`` is left to wait for."""
        try:
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                self._sending = None
                sending.result()
        except BaseException:
            reading.cancel()
            raise
        return reading

    def _lost(self, reason: str) -> NoAnswerError:
        kind = LostConnectionError if self._exchanges > 1 and not self._answer.has_begun else NoAnswerError
        return kind(f"no answer from {self._origin}: {reason}")


class _Answer:
    """One answer as far as it has come; the parser calls it."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body: list[bytes] = []
        self.has_begun = False
        self.has_head = False
        self.is_complete = False
        self.keeps_alive = False

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the answer, as without a stated length."""
        return self.has_head and not {"content-length", "transfer-encoding"} & self.headers.keys()

    @property
    def is_reusable(self) -> bool:
        """Whether another answer may follow on this connection."""
        return self.is_complete and self.keeps_alive and not self.body

    def on_message_begin(self) -> None:
        self.has_begun = True
        if self.is_complete:
            self.keeps_alive = False  # nobody asked for more
        else:
            self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status >= 200 and not self.is_complete:  # else it is an interim answer; the real one follows
            self.status = status
            self.has_head = True
            self.keeps_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self.is_complete:
            self.body.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = self.has_head


def _drop(task: asyncio.Task[Any]) -> None:
    """Cancel a task, or forget how it ended."""
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()


def _reason(error: Exception) -> str:
    """The system's words for it, without asyncio's list of all addresses that were tried."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
