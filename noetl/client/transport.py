"""Requests to one server: connections kept and used again, limits of time, and repetition where it does no harm.

No proxy, no redirects. A request that is not marked repeatable is sent once, because starting work twice is worse than
an error.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.parse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from noetl.client.connection import Body, Connection
from noetl.client.errors import LostConnectionError, NoAnswerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

IDLE_SECONDS: Final = 15.0
"""How long a connection is kept for the next request; servers and proxies keep theirs for longer."""
LONGEST_PAUSE_SECONDS: Final = 10.0
"""A server that wants a longer pause is not waited for."""
_SAFE_IN_TARGET: Final = "/:?#[]@!$&'()*+,;=%"


class Answer(NamedTuple):
    """What the server said; names of ``headers`` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds of ``Retry-After``; None without it, or when it is a date."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isdecimal() else None


class StreamedAnswer(NamedTuple):
    """An answer whose body is still coming."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class Transport:
    """Exchanges with the server at ``url``.

    Args:
        url: ``http`` or ``https``, perhaps with a path in front of all others.
        headers: sent with every request.
        seconds: for one exchange, connecting included; of a streamed one, for its beginning and for each piece.
        retries: how often a repeatable request is sent again after 503 with ``Retry-After``.
        connections: open at most so many at once; further requests wait.
        tls: for ``https``, instead of the system's authorities.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        seconds: float,
        retries: int,
        connections: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._parts = urllib.parse.urlsplit(self.url)
        self._headers = dict(headers)
        self._seconds = seconds
        self._retries = retries
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[Connection] = []
        self._is_closed = False
        self._tls = tls

    async def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool = False,
        seconds: float | None = None,
    ) -> Answer:
        """One exchange, the body of the answer included; ``seconds`` instead of the usual limit.

        Raises:
            NoAnswerError: no connection, no complete HTTP answer, or not in time.
        """
        attempt = 0
        while True:
            answer = await self._whole(method, path, body, headers or {}, repeatable, seconds or self._seconds)
            pause = self._pause(answer, attempt) if repeatable else None
            if pause is None:
                return answer
            attempt += 1
            await asyncio.sleep(pause)

    @asynccontextmanager
    async def stream(self, method: str, path: str) -> AsyncGenerator[StreamedAnswer]:
        """One exchange whose answer is taken piece by piece, inside the block. Raises NoAnswerError like `request`."""
        attempt = 0
        while True:
            async with self._exchange(method, path, None, {}, repeatable=True, seconds=self._seconds) as exchange:
                connection, status, headers = exchange
                pause = self._pause(Answer(status, headers, b""), attempt)
                if pause is None:
                    yield StreamedAnswer(status, headers, self._timed(connection.pieces()))
                    return
            attempt += 1
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Close the kept connections, and each one in use as soon as its exchange ends."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _pause(self, answer: Answer, attempt: int) -> float | None:
        """Seconds after which a repeatable request is sent again; None when this answer to it is the last."""
        pause = answer.retry_after
        is_final = answer.status != 503 or attempt == self._retries
        return None if is_final or pause is None or pause > LONGEST_PAUSE_SECONDS else pause

    async def _whole(
        self, method: str, path: str, body: Body, headers: Mapping[str, str], repeatable: bool, seconds: float
    ) -> Answer:
        try:
            async with (
                asyncio.timeout(seconds),
                self._exchange(method, path, body, headers, repeatable) as (connection, status, received),
            ):
                return Answer(status, received, b"".join([piece async for piece in connection.pieces()]))
        except TimeoutError:
            raise self._late(seconds) from None

    async def _timed(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    piece = await anext(pieces, None)
            except TimeoutError:
                raise self._late(self._seconds) from None
            if piece is None:
                return
            yield piece

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        path: str,
        body: Body,
        headers: Mapping[str, str],
        repeatable: bool,
        seconds: float | None = None,
    ) -> AsyncGenerator[tuple[Connection, int, Mapping[str, str]]]:
        """The connection, and the head of the answer, for which there are so many seconds."""
        head = self._head(method, path, body, headers)
        async with self._slots:
            try:
                async with asyncio.timeout(seconds):
                    connection, status, received = await self._begun(head, body, repeatable)
            except TimeoutError:
                raise self._late(seconds or 0) from None
            try:
                yield connection, status, received
            finally:
                self._give_back(connection)

    async def _begun(self, head: bytes, body: Body, repeatable: bool) -> tuple[Connection, int, Mapping[str, str]]:
        while True:
            connection = await self._connection()
            try:
                return connection, *await connection.begin(head, body)
            except LostConnectionError:
                connection.close()
                if not repeatable:
                    raise
            except BaseException:
                connection.close()
                raise

    async def _connection(self) -> Connection:
        """The kept connection that was used last, else a new one."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable and now - connection.idle_since <= IDLE_SECONDS:
                return connection
            connection.close()
        try:
            host, port = self._parts.hostname, self._parts.port
        except ValueError as error:  # the port is no number
            raise NoAnswerError(f"no answer from {self._origin}: {error}") from error
        if self._parts.scheme not in ("http", "https") or host is None:
            raise NoAnswerError(f"{self.url} is not an http or https URL")
        is_secure = self._parts.scheme == "https"
        if is_secure and self._tls is None:
            self._tls = ssl.create_default_context()
        tls = self._tls if is_secure else None
        return await Connection.open(self._origin, host, port or (443 if is_secure else 80), tls)

    def _give_back(self, connection: Connection) -> None:
        connection.end_sending()
        if self._is_closed or not connection.is_reusable:
            connection.close()
            return
        connection.rest(asyncio.get_running_loop().time())
        self._idle.append(connection)

    def _head(self, method: str, path: str, body: Body, headers: Mapping[str, str]) -> bytes:
        target = urllib.parse.quote(self._parts.path + path, safe=_SAFE_IN_TARGET)
        fields = {"Host": self._parts.netloc.rpartition("@")[2], "Accept": "application/json", **self._headers}
        if body is not None:
            fields["Content-Type"] = "application/json"
            if isinstance(body, bytes):
                fields["Content-Length"] = str(len(body))
            elif "Content-Length" not in headers:
                fields["Transfer-Encoding"] = "chunked"
        fields.update(headers)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        for line in lines:
            if "\r" in line or "\n" in line:
                raise ValueError(f"a line break cannot be part of a header: {line!r}")
        return "\r\n".join([*lines, "", ""]).encode()

    @property
    def _origin(self) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}"

    def _late(self, seconds: float) -> NoAnswerError:
        return NoAnswerError(f"no answer from {self._origin} within {seconds:g} s")
