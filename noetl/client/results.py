"""`client.results`: results too large for an event, stored under a reference."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

from noetl.client.calls import segment
from noetl.client.models import StoredResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

    from noetl.client.calls import Calls

RESOLVE: Final = "/api/result/resolve"


class ResultsApi:
    """Calls under ``/api/result``. Storing is not repeated by itself: every call makes a new result."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self,
        execution_id: int | str,
        name: str,
        data: Any,
        *,
        scope: str = "execution",
        source_step: str | None = None,
        seconds: float | None = None,
    ) -> StoredResult:
        """Store a JSON value; ``name`` is usually that of a step, ``seconds`` a time limit of its own."""
        body = {"name": name, "data": data, "scope": scope, "source_step": source_step}
        return await self._calls.call(StoredResult, "PUT", _path(execution_id), body, seconds=seconds)

    async def put_stream(
        self,
        execution_id: int | str,
        name: str,
        pieces: AsyncIterable[bytes],
        *,
        size: int | None = None,
        scope: str = "execution",
        source_step: str | None = None,
        seconds: float = 300.0,
    ) -> StoredResult:
        """Store a JSON text that is not in memory as a whole.

        Args:
            pieces: the text in UTF-8.
            size: its bytes, if known; the server then reserves no more than that.
            seconds: for the whole upload.
        """
        members = orjson.dumps({"name": name, "scope": scope, "source_step": source_step})
        head = members[:-1] + b',"data":'

        async def body() -> AsyncGenerator[bytes]:
            yield head
            async for piece in pieces:
                yield piece
            yield b"}"

        headers = {} if size is None else {"Content-Length": str(len(head) + size + 1)}
        return await self._calls.send(
            StoredResult, "PUT", _path(execution_id), body(), headers=headers, seconds=seconds
        )

    async def get(self, ref: str) -> Any:
        """The stored value of a reference (``noetl://execution/...``)."""
        return await self._calls.call(object, "GET", RESOLVE, query={"ref": ref})

    @asynccontextmanager
    async def stream(self, ref: str) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The JSON text of a stored value, piece by piece, inside the block."""
        async with self._calls.stream(RESOLVE, {"ref": ref}) as pieces:
            yield pieces


def _path(execution_id: int | str) -> str:
    return f"/api/result/{segment(execution_id)}"
