"""One call of the API: JSON out, a typed object or an error back."""

from __future__ import annotations

import urllib.parse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import orjson

from noetl.client.errors import NoAnswerError, error_class
from noetl.client.transport import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from noetl.client.connection import Body
    from noetl.client.transport import StreamedAnswer, Transport

T = TypeVar("T")


class Calls:
    """Calls over one transport; they raise ApiError when the server refuses, NoAnswerError when there is no answer."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def call(
        self,
        kind: type[T],
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        seconds: float | None = None,
    ) -> T:
        """One call.

        Args:
            kind: what the answer is decoded to.
            body: sent as JSON; None for none.
            query: parameters; those that are None are left out.
            repeatable: whether the call may be sent twice without harm; by default if it is a GET.
        """
        content = None if body is None else orjson.dumps(body)
        return await self.send(
            kind, method, path + query_text(query), content, headers=headers, repeatable=repeatable, seconds=seconds
        )

    async def send(
        self,
        kind: type[T],
        method: str,
        path: str,
        content: Body,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        seconds: float | None = None,
    ) -> T:
        """As `call`, with a body that is JSON text already."""
        may_repeat = method == "GET" if repeatable is None else repeatable
        answer = await self._transport.request(method, path, content, headers, repeatable=may_repeat, seconds=seconds)
        _refuse(answer)
        try:
            # not strict: an id is an integer, also where it comes as text
            return msgspec.json.decode(answer.body or b"null", type=kind, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoAnswerError(f"{self._transport.url}{path} does not answer as a NoETL server: {error}") from error

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, Any]) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The body of a GET, piece by piece."""
        async with self._transport.stream("GET", path + query_text(query)) as answer:
            if not 200 <= answer.status < 300:
                _refuse(await _read(answer))
            yield answer.pieces


def segment(text: object) -> str:
    """A text or number as one segment of a path."""
    return urllib.parse.quote(str(text), safe="")


def query_text(query: Mapping[str, Any] | None) -> str:
    """``?name=value&...``, or nothing."""
    given = {name: value for name, value in (query or {}).items() if value is not None}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    return f"?{urllib.parse.urlencode(texts)}" if texts else ""


async def _read(answer: StreamedAnswer) -> Answer:
    return Answer(answer.status, answer.headers, b"".join([piece async for piece in answer.pieces]))


def _refuse(answer: Answer) -> None:
    """Raise the error that an answer is, if it is one."""
    if 200 <= answer.status < 300:
        return
    raise error_class(answer.status)(
        answer.status,
        _message(answer.body) or f"HTTP status {answer.status}",
        request_id=answer.headers.get("x-request-id"),
        retry_after=answer.retry_after,
    )


def _message(body: bytes) -> str:
    """The server's own words: ``error`` of a JSON answer, else the text as it is."""
    try:
        return str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body.decode(errors="replace")
