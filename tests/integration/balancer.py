"""A load balancer on loopback that does as little as one can expect: it asks `/readyz`, and repeats nothing.

It takes a replica out when that is not ready, and sends to it again when it is. A request goes to another replica only
if no connection could be opened; what was sent once and not answered is counted as lost and told the client as 502.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_SECONDS: Final = 0.1
_PROBE: Final = b"GET /readyz HTTP/1.1\r\nHost: balancer\r\nConnection: close\r\n\r\n"
_LOST: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


class _Kept:
    """An open connection to a replica."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self.reader = reader
        self.writer = writer


class Balancer:
    """Listens on ``port`` and spreads requests over replicas on 127.0.0.1.

    ``statuses`` counts answers, ``served`` answers by replica, ``lost`` requests that were sent and not answered.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self.ready: set[int] = set()
        self.statuses: Counter[int] = Counter()
        self.served: Counter[int] = Counter()
        self.lost = 0
        self.port = 0
        self._turn = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks = [asyncio.create_task(self._probe(port)) for port in self._ports]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until_ready(self, ports: set[int]) -> None:
        """Wait until exactly these replicas get requests."""
        async with asyncio.timeout(30):
            while self.ready != ports:  # noqa: ASYNC110 (the replicas are other processes)
                await asyncio.sleep(0.02)

    async def _probe(self, port: int) -> None:
        while True:
            is_ready = False
            try:
                async with asyncio.timeout(2):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(_PROBE)
                    is_ready = b" 200 " in await reader.readline()
                    writer.close()
            except OSError:  # also TimeoutError
                pass
            (self.ready.add if is_ready else self.ready.discard)(port)
            await asyncio.sleep(PROBE_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept: _Kept | None = None
        try:
            while True:
                request, _ = await _message(reader)
                if kept is None or kept.port not in self.ready or kept.reader.at_eof():  # closed while it lay idle
                    if kept is not None:
                        kept.writer.close()
                    kept = await self._open()
                try:
                    kept.writer.write(request)
                    answer, is_last = await _message(kept.reader)
                except (OSError, asyncio.IncompleteReadError):
                    self.lost += 1
                    answer, is_last = _LOST, True
                self.statuses[int(answer[9:12])] += 1
                self.served[kept.port] += 1
                if is_last:
                    kept.writer.close()
                    kept = None
                writer.write(answer.replace(b"connection: close\r\n", b""))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            writer.close()
            if kept is not None:
                kept.writer.close()

    async def _open(self) -> _Kept:
        while True:
            ready = sorted(self.ready)
            if not ready:
                await asyncio.sleep(0.01)
                continue
            self._turn += 1
            port = ready[self._turn % len(ready)]
            try:
                return _Kept(port, *await asyncio.open_connection("127.0.0.1", port))
            except OSError:
                self.ready.discard(port)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bool]:
    """A request or an answer with a Content-Length, and whether it is the last one of its connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    length = 0
    for line in lowered.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            length = int(value)
    return head + await reader.readexactly(length), b"connection: close" in lowered
