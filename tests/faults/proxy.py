"""A TCP proxy that is the network between two parts: it delays, cuts, half-closes and swallows."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

PIECE = 65536


class Link:
    """Listens on a port of 127.0.0.1 and passes everything to another one, as well as the network is at the moment."""

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.target = target
        self.port = 0
        self.delay_seconds = 0.0
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: dict[asyncio.StreamWriter, bool] = {}
        """Open ends; True for the one that leads to the target."""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=PIECE)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Reset all connections; new ones are welcome."""
        for writer in [*self._writers]:
            writer.transport.abort()

    def half_close(self) -> None:
        """Tell the target that nothing more comes, while it may go on talking."""
        for writer, is_forward in [*self._writers.items()]:
            if is_forward and not writer.transport.is_closing():
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()

    def swallow(self) -> None:
        """Pass nothing on, and say nothing, until `heal`: a black hole."""
        self._passing.clear()

    def heal(self) -> None:
        """Pass everything on at once, also what was held back."""
        self.delay_seconds = 0.0
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._passing.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=PIECE)
            self._writers |= {writer: False, far_writer: True}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, far_writer))
                    group.create_task(self._pump(far_reader, writer))
            finally:
                for end in (writer, far_writer):
                    self._writers.pop(end, None)
                    end.transport.abort()
        except* (OSError, RuntimeError):  # one end is gone, and so is the other now
            writer.transport.abort()
        except* asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(PIECE):
            await self._passing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            writer.write(piece)
            await writer.drain()
        if not writer.transport.is_closing():
            writer.write_eof()
