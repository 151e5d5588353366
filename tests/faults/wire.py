"""A client as networks make them: it repeats what was not answered, and can hang up before the answer comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from benchmarks.load.connection import Connection, encode

if TYPE_CHECKING:
    from collections.abc import Callable

UNCERTAIN = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which a client asks again, with the same ids."""
PAUSE_SECONDS = 0.1
PATIENCE_SECONDS = 10.0


def address(url: str) -> tuple[str, int]:
    """Host and port of a base URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


class Client:
    """Sends to one of several servers, and to the next one when there is no answer."""

    def __init__(self, urls: list[str], first: int = 0, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._addresses = [address(url) for url in urls]
        self._turn = first
        self._patience = patience_seconds
        self._connection: Connection | None = None

    async def once(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One attempt; status 0 when there was no answer."""
        connection = self._open()
        try:
            async with asyncio.timeout(self._patience):
                answer = await connection.call(method, path, body)
        except OSError:  # also TimeoutError
            self.close()
            self._turn += 1
            return 0, None
        except BaseException:
            self.close()
            raise
        return answer.status, answer.json if answer.body[:1] in b"{[" and answer.body else answer.body

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
        """Send one request and close the connection before the answer."""
        try:
            async with asyncio.timeout(self._patience):
                _, writer = await asyncio.open_connection(*self._addresses[self._turn % len(self._addresses)])
                writer.write(encode(method, path, body))
                await writer.drain()
                writer.close()
        except OSError:
            self._turn += 1

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(*self._addresses[self._turn % len(self._addresses)])
        return self._connection


class AlternatingClient(Client):
    """Sends every request to the next server."""

    async def once(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        self.close()
        self._turn += 1
        return await super().once(method, path, body)
