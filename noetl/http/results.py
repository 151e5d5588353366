"""The result store's routes: keep a result that is too large for an event, and give it back (spec 10, section 7)."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import msgspec

from noetl.engine.playbook.scalars import quote
from noetl.errors import InternalError, OverloadedError, RejectedRequestError, UnprocessableError
from noetl.http.bodies import RequestBody
from noetl.http.canonical_pieces import PieceError, canonical, canonical_member, canonical_pieces
from noetl.http.large_transfers import LargeTransfers
from noetl.http.measured import measured
from noetl.http.requests import (
    MAX_DEPTH,
    IntegerSyntaxError,
    Query,
    decode_json,
    json_text,
    parse_integer,
    path_integer,
    refuse_nul,
    refuse_nul_in_json,
)
from noetl.http.responses import json_response
from noetl.http.streams import json_stream_response
from noetl.store.results import NewResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.results import ResultStore

SCHEME: Final = "noetl://"
LARGE_BYTES: Final = 1 << 20
"""Bodies and stored values beyond this size wait for their turn and are handled in pieces."""
GROWTH: Final = 4
"""A stored value may be so many times larger than the largest upload: numbers lose their exponents on the way."""
SPOOLS: Final = 4
"""Values that are sent at a time are in files of so many times the largest upload together."""
SPOOL_BYTES: Final = 256 << 10
STORED_DEPTH: Final = 200
"""Nesting of stored values that is written in canonical form; deeper ones are not ours and go out as they are."""


class ResultObserver(Protocol):
    """What the metrics are told."""

    def observe_result_put(self, status: int, seconds: float, /) -> None: ...
    def observe_result_resolve(self, status: int, seconds: float, /) -> None: ...


class PutRequest(msgspec.Struct):
    """Body of an upload. ``store``, ``ttl`` and ``compress`` are checked for their types and have no effect."""

    name: str
    data: msgspec.Raw
    scope: str = "execution"
    source_step: str | None = None
    store: str | None = None
    ttl: str | None = None
    compress: bool = False


class MalformedReferenceError(ValueError):
    """A text that is no reference to a result; the message is the one that clients get."""


class Reference(msgspec.Struct):
    """The parts of ``noetl://execution/<execution id>/result/<name>/<result id>``."""

    execution_id: int
    name: str
    result_id: int

    def __str__(self) -> str:
        return f"{SCHEME}execution/{self.execution_id}/result/{self.name}/{self.result_id}"


_SYNTAX: Final = "Failed to parse the request body as JSON: "
_PUT: Final = msgspec.json.Decoder(PutRequest)


class ResultRoutes:
    """The routes under ``/api/result``.

    Args:
        store: where results are kept.
        mint: gives a new id.
        largest: bytes of a body, and of all large ones in memory at a time; as much again for results going out.
        observer: told how every call ended, with its HTTP status.
    """

    def __init__(
        self, store: ResultStore, mint: Callable[[], int], largest: int, observer: ResultObserver | None = None
    ) -> None:
        self._observer = observer
        self._store = store
        self._mint = mint
        self._largest = largest
        self._uploads = LargeTransfers(largest)
        self._downloads = LargeTransfers(largest)
        self._spools = LargeTransfers(SPOOLS * largest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes."""
        put, resolve = self.put, self.resolve
        if self._observer is not None:
            put = measured(put, self._observer.observe_result_put)
            resolve = measured(resolve, self._observer.observe_result_resolve)
        application.add_route("PUT", "/api/result/{execution_id}", put, body_limit=self._largest, last=True)
        application.add_route("GET", "/api/result/resolve", resolve)

    async def put(self, request: Request) -> Response:
        """Store a result under a new reference; equal ones are stored again."""
        execution_id = path_integer(request, "execution_id")
        size = _body_size(request)
        async with AsyncExitStack() as stack:
            if size is None or LARGE_BYTES < size <= self._largest:
                await stack.enter_async_context(self._uploads.admitted(self._largest if size is None else size))
            given, data = await _upload(request)
            digest = hashlib.sha256(data).hexdigest()
            reference = Reference(execution_id, given.name, self._mint())
            result = NewResult(
                result_id=reference.result_id,
                execution_id=execution_id,
                name=given.name,
                scope=given.scope,
                source_step=given.source_step,
                data=data,
                sha256=digest,
            )
            await self._store.put(result)
        return json_response(
            {
                "ref": str(reference),
                "store": "db",
                "scope": result.scope,
                "bytes": len(data),
                "sha256": digest,
                "expires_at": None,
            }
        )

    async def resolve(self, request: Request) -> Response:
        """The stored value itself."""
        text = Query(request).required_text("ref")
        try:
            reference = parse_reference(text)
        except MalformedReferenceError as error:
            return json_response({"error": str(error)}, 400)
        if "\0" in reference.name:
            return _not_found()
        parts = self._stored(reference)
        try:
            first = await anext(parts, b"")  # nothing where the value vanished after its size was read
        except OSError as error:
            raise OverloadedError("No room to prepare the stored result", detail=str(error)) from error
        if not first:
            return _not_found()

        async def whole() -> AsyncGenerator[bytes]:
            yield first
            async for part in parts:
                yield part

        return await json_stream_response(whole())

    async def _stored(self, reference: Reference) -> AsyncGenerator[bytes]:
        """The canonical text of a stored value in pieces; one empty piece where there is none."""
        stored = await self._store.get(reference.execution_id, reference.name, reference.result_id, LARGE_BYTES)
        async with AsyncExitStack() as stack:
            if stored is not None and stored.text is None:
                if stored.size > GROWTH * self._largest:
                    raise InternalError("The stored result is too large to be shown", detail=f"{stored.size} bytes")
                spool = await stack.enter_async_context(self._spooled(reference, stored.size))
                while chunk := await asyncio.to_thread(spool.read, SPOOL_BYTES):
                    yield chunk
                return
        yield b"" if stored is None or stored.text is None else _canonical_or_stored(stored.text)

    @asynccontextmanager
    async def _spooled(self, reference: Reference, size: int) -> AsyncGenerator[BinaryIO]:
        """The canonical text of a large stored value in a file, at its beginning.

        However slowly a client reads, the value is in memory only for as long as it takes to write the file: what is
        in memory, and what is in files, has a bound each.
        """
        async with self._spools.admitted(size):
            with tempfile.TemporaryFile() as spool:
                async with self._downloads.admitted(size):
                    text = await self._store.read(reference.execution_id, reference.name, reference.result_id, size)
                    await asyncio.to_thread(_write_canonical, text, spool)
                yield spool


def parse_reference(text: str) -> Reference:
    """Read a reference; what is between ``result`` and the last segment is the name.

    Raises:
        MalformedReferenceError: with the text of spec 10, section 7.2.
    """
    quoted = quote(text)
    if not text.startswith(SCHEME):
        raise MalformedReferenceError(f"URI must start with '{SCHEME}', got: {quoted}")
    segments = text.removeprefix(SCHEME).split("/")
    if len(segments) < 5:
        raise MalformedReferenceError(f"URI must have 5 path segments after '{SCHEME}', got {len(segments)}: {quoted}")
    for index, place, word in ((0, "First", "execution"), (2, "Third", "result")):
        if segments[index] != word:
            raise MalformedReferenceError(
                f"{place} path segment must be '{word}', got {quote(segments[index])} in {quoted}"
            )
    execution_id = _segment_integer("execution_id", segments[1], quoted)
    result_id = _segment_integer("result_id", segments[-1], quoted)
    name = "/".join(segments[3:-1])
    if not name:
        raise MalformedReferenceError(f"name segment is empty in URI {quoted}")
    return Reference(execution_id, name, result_id)


def _segment_integer(name: str, text: str, quoted: str) -> int:
    try:
        return parse_integer(text)
    except IntegerSyntaxError:
        raise MalformedReferenceError(f"{name} segment {quote(text)} is not an i64 in {quoted}") from None


async def _upload(request: Request) -> tuple[PutRequest, bytes | bytearray]:
    """What the body asks for, and the canonical text of its data; of a large body nothing else is left."""
    body = await json_text(request)
    if len(body) <= LARGE_BYTES:
        return _read(body)
    given, data = await asyncio.to_thread(_read_large, body)
    given.data = msgspec.Raw()
    if isinstance(request.content, RequestBody):
        request.content.release()
    return given, data


def _canonical_or_stored(text: bytes) -> bytes:
    """The canonical text of a stored value; as it is where another program's is beyond doubles, or very deep."""
    try:
        return b"".join(canonical_pieces(text, STORED_DEPTH))
    except PieceError:
        return text


def _write_canonical(text: bytearray, spool: BinaryIO) -> None:
    """As `_canonical_or_stored`, into a file, which is then at its beginning."""
    try:
        for piece in canonical_pieces(text, STORED_DEPTH):
            spool.write(piece)
    except PieceError:
        spool.seek(0)
        spool.truncate()
        spool.write(text)
    spool.seek(0)


def _body_size(request: Request) -> int | None:
    """The declared length of the body; None for a chunked one."""
    value = request.get_first_header(b"content-length")
    if value is not None:
        return int(value)
    return None if request.has_header(b"transfer-encoding") else 0


def _read(body: bytes) -> tuple[PutRequest, bytes]:
    """What a body asks for, and the canonical text of its data."""
    given = decode_json(body, _PUT)
    text = bytes(given.data)
    _check(given, text)
    return given, canonical(text)


def _read_large(body: bytes) -> tuple[PutRequest, bytearray]:
    """As `_read`, without ever holding all of the data as objects."""
    try:
        given = _PUT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        given = decode_json(body, _PUT)  # finds the words for what is wrong
    _check_encoding(body)
    _check(given, bytes(given.data) if b"\\u0000" in body else b"")
    data = bytearray()
    try:
        for piece in canonical_member(body, b"data", MAX_DEPTH):
            data += piece
    except PieceError as error:
        raise RejectedRequestError(400, f"{_SYNTAX}data: {error}") from error
    return given, data


def _check_encoding(body: bytes) -> None:
    """Refuse (400) bytes outside UTF-8, also in what nobody reads, without decoding the whole."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(body), LARGE_BYTES):
            decoder.decode(body[start : start + LARGE_BYTES], start + LARGE_BYTES >= len(body))
    except UnicodeDecodeError:
        raise RejectedRequestError(400, f"{_SYNTAX}invalid unicode code point") from None


def _check(given: PutRequest, data: bytes) -> None:
    if not given.name:
        raise UnprocessableError("name must not be empty")
    refuse_nul("name", given.name)
    refuse_nul("scope", given.scope)
    refuse_nul("source_step", given.source_step)
    refuse_nul_in_json("data", data)


def _not_found() -> Response:
    return json_response({"error": "result not found"}, 404)
