"""Answers that are too large to be built in memory: JSON whose parts are sent as the database gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blacksheep import Response, StreamedContent

from noetl.http.responses import JSON_TYPE, json_bytes_response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CHUNK_BYTES = 64 * 1024


async def json_stream_response(parts: AsyncGenerator[bytes]) -> Response:
    """Answer 200 with the JSON text that ``parts`` make up.

    A text that ends within the first chunk goes out whole, with its length. The first parts are made before this
    returns, so that an error in them is still answered as one; a later one cuts the connection.
    """
    chunks = _chunks(parts)
    first = await anext(chunks, b"")
    second = await anext(chunks, None)
    if second is None:
        return json_bytes_response(first)

    async def body() -> AsyncGenerator[bytes]:
        yield first
        yield second
        async for chunk in chunks:
            yield chunk

    return Response(200, [], StreamedContent(JSON_TYPE, body))


async def _chunks(parts: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    buffer = bytearray()
    async for part in parts:
        buffer += part
        if len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
