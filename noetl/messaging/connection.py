"""The NATS connection: kept up in the background, with the streams that the notifications need."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import nats
from nats.errors import Error as NatsError

from noetl.messaging.streams import CommandStreams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from noetl.messaging.streams import StreamView

log = logging.getLogger("noetl.messaging")

CONNECT_SECONDS: Final = 5
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 0.5
"""A NATS that is back must hear of what waits within a second; an attempt costs next to nothing."""
DRIVER_WINDOW: Final = 16_384
"""Publishes that the driver admits; the announcer bounds its own far below. The driver never gives a permit back when a
publish fails on a closing connection, so its own bound must not be the one that is reached."""
MISSING_STREAM_PAUSE: Final = 1.0


class NatsConnection:
    """Connects, reconnects for ever, and ensures the streams at each new connection.

    ``state`` is ``connected`` only while they are there, else ``disconnected``.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        client_name: str,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        stream: str = "noetl_commands",
        subject: str = "noetl.commands",
    ) -> None:
        """``servers`` are URLs without credentials; ``stream`` is made, over ``subject``, only if none covers it."""
        self._servers = list(servers)
        self._options: dict[str, Any] = {"name": client_name}
        if user:
            self._options |= {"user": user, "password": password or ""}
        elif token:
            self._options["token"] = token
        self.subject: Final = subject
        self._client: Client | None = None
        self._context: JetStreamContext | None = None
        self._lost = asyncio.Event()
        self._ready = asyncio.Event()
        self.streams = CommandStreams(subject, stream)
        self.reconnects = 0
        self._is_stream_missing = False
        self.on_connect: Callable[[], None] = lambda: None

    @property
    def state(self) -> str:
        """``connected`` or ``disconnected``."""
        return "connected" if self._ready.is_set() and self._is_connected() else "disconnected"

    @property
    def context(self) -> JetStreamContext:
        """JetStream of the present connection; wait for `ready` first."""
        if self._context is None:
            raise NatsError("not connected")
        return self._context

    async def ready(self) -> None:
        """Wait until the connection and the streams are there."""
        await self._ready.wait()

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        pause = FIRST_PAUSE
        try:
            while True:
                try:
                    await self._connect()
                    await self.ensure_streams()
                except Exception as error:  # whatever the driver trips over: NATS must never end the server
                    level = logging.WARNING if pause == FIRST_PAUSE else logging.DEBUG
                    log.log(level, "NATS is not available, trying again", extra={"error": _short(error)})
                    await self._close_client()
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                pause = FIRST_PAUSE
                self._ready.set()
                log.info("NATS connected", extra={"streams": self.streams.names})
                self.on_connect()
                await self._lost.wait()
                self.reconnects += 1
                self._ready.clear()
                log.warning("NATS connection lost")
                if self._is_stream_missing:
                    self._is_stream_missing = False
                    await asyncio.sleep(MISSING_STREAM_PAUSE)
                await self._close_client()
        finally:
            self._ready.clear()
            await self._close_client()

    def report_missing_stream(self) -> None:
        """A publish found no stream: look for it, or make it, before the next one."""
        self._is_stream_missing = True
        self._lost.set()

    async def ensure_streams(self) -> None:
        """Look again which streams take the commands, and make what is missing."""
        await self.streams.ensure(self.context)

    async def view(self, stream: str) -> StreamView:
        """State and consumers of one of our streams."""
        return await self.streams.view(self.context, stream)

    def _is_connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def _connect(self) -> None:
        self._lost = asyncio.Event()
        lost = self._lost

        async def disconnected() -> None:
            lost.set()

        async def failed(error: Exception) -> None:
            log.debug("NATS error", extra={"error": _short(error)})

        self._client = await nats.connect(  # pyright: ignore[reportUnknownMemberType]
            self._servers,
            connect_timeout=CONNECT_SECONDS,
            # A lost connection is replaced by `run`, which then also looks for the stream again.
            allow_reconnect=False,
            disconnected_cb=disconnected,
            closed_cb=disconnected,
            error_cb=failed,
            ping_interval=2,
            max_outstanding_pings=2,
            **self._options,
        )
        self._context = self._client.jetstream(  # pyright: ignore[reportUnknownMemberType]
            timeout=CONNECT_SECONDS, publish_async_max_pending=DRIVER_WINDOW
        )

    async def _close_client(self) -> None:
        client, self._client, self._context = self._client, None, None
        if client is None:
            return
        try:
            async with asyncio.timeout(2):
                await client.close()
        except (NatsError, OSError, TimeoutError) as error:
            log.debug("NATS did not close in order", extra={"error": _short(error)})


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
