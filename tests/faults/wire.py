"""A client as networks make them: it repeats what was not answered, and can hang up before the answer comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks.load import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

UNCERTAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which a client asks again, with the same ids."""
PAUSE_SECONDS = 0.1


def address(url: str) -> tuple[str, int]:
    """Host and port of a base URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


class Wire(Connection):
    """One keep-alive connection that can be cut in the middle of a request."""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        try:
            return await super().call(method, path, body)
        except BaseException:
            self.cut()
            raise

    async def hang_up(self, method: str, path: str, body: Any) -> None:
        """Send the request and close the connection before the answer."""
        sending = asyncio.ensure_future(super().call(method, path, body))
        await asyncio.sleep(0)  # connects
        while self._writer is None and not sending.done():  # noqa: ASYNC110 (the connection announces itself so)
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # writes
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        self.cut()

    def cut(self) -> None:
        """Close; the next call opens another connection."""
        self.close()
        self._reader = self._writer = None


class Client:
    """Sends to one of several servers, and to the next one when there is no answer."""

    def __init__(self, urls: list[str], first: int = 0) -> None:
        self._wires = [Wire(*address(url)) for url in urls]
        self._turn = first

    async def once(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One attempt; status 0 when there was no answer."""
        try:
            async with asyncio.timeout(30):
                return await self._wires[self._turn % len(self._wires)].call(method, path, body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._turn += 1
            return 0, None

    async def insist(
        self, method: str, path: str, body: Any = None, meanwhile: Callable[[], Any] | None = None
    ) -> tuple[int, Any]:
        """Repeat until there is an answer that says something; ``meanwhile`` is awaited between two attempts."""
        while True:
            status, answer = await self.once(method, path, body)
            if status and status not in UNCERTAIN:
                return status, answer
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(PAUSE_SECONDS)

    async def hang_up(self, method: str, path: str, body: Any) -> None:
        """Send one request without waiting for what becomes of it."""
        try:
            await self._wires[self._turn % len(self._wires)].hang_up(method, path, body)
        except OSError:
            self._turn += 1

    def close(self) -> None:
        """Close the connections."""
        for wire in self._wires:
            wire.cut()
