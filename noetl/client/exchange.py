"""One HTTP request on a connection of its own: no proxy, no repetition, and ended at once when its caller is cancelled.

Requests are never repeated here, because starting an execution twice is worse than an error; whoever knows that a
request may be repeated does so.
"""

from __future__ import annotations

import asyncio
import ssl
import urllib.parse
from typing import TYPE_CHECKING, Final, NamedTuple

import httptools

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_BYTES: Final = 65_536
_SAFE_IN_TARGET: Final = "/:?#[]@!$&'()*+,;=%"


class NoAnswerError(OSError):
    """The server cannot be reached, or what answers there is no NoETL server."""


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: bytes


async def exchange(method: str, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> Answer:
    """Send a request and read the answer to its end.

    Args:
        method: HTTP method.
        url: absolute ``http`` or ``https`` URL; what may not stand in a request line is quoted.
        body: bytes of the body, None for a request without one.
        headers: further headers.
        seconds: for the whole exchange, connecting included.

    Raises:
        NoAnswerError: no connection, no complete HTTP answer, or not in time.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise NoAnswerError(f"{url} is not an http or https URL")
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if parts.scheme == "https" else 80),
                ssl=ssl.create_default_context() if parts.scheme == "https" else None,
            )
            try:
                writer.write(_request(method, parts, body, headers))
                return await _read_answer(reader)
            finally:
                writer.close()
    except TimeoutError:
        raise NoAnswerError(f"no answer from {origin} within {seconds:g} s") from None
    except (OSError, ValueError) as error:  # ValueError: the port is no number
        raise NoAnswerError(f"no answer from {origin}: {_reason(error)}") from error
    except httptools.HttpParserError as error:
        raise NoAnswerError(f"no HTTP answer from {origin}: {error}") from error


def _request(method: str, parts: urllib.parse.SplitResult, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    target = urllib.parse.quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_SAFE_IN_TARGET)
    fields = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close", "Accept": "application/json", **headers}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


async def _read_answer(reader: asyncio.StreamReader) -> Answer:
    collector = _Collector()
    parser = httptools.HttpResponseParser(collector)
    while not collector.is_complete:
        data = await reader.read(READ_BYTES)
        if not data:
            if not collector.ends_with_connection:
                raise ConnectionResetError("the connection was closed before the end of the answer")
            break
        parser.feed_data(data)
        if parser.get_status_code() < 200:  # an interim answer; the real one follows
            collector.is_complete = False
    return Answer(parser.get_status_code(), b"".join(collector.body))


class _Collector:
    """Collects one answer; the parser calls it."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.is_complete = False
        self._has_head = False
        self._has_length = False

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the answer, as without a stated length."""
        return self._has_head and not self._has_length

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._has_length = self._has_length or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.is_complete = True


def _reason(error: Exception) -> str:
    """The system's words for it, without asyncio's list of all addresses that were tried."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return getattr(error, "strerror", None) or str(error)
