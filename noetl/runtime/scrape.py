"""Metrics of all processes of one server: each answers the others over a socket of its own.

A process that was killed takes its counts with it and its successor begins at 0, so that sums fall once: for Prometheus
a counter reset, as at any restart. A process that is merely late counts with the last numbers it told, because a sum
that falls and comes back would look like a reset and as many new events.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.observability.exposition import FamilySnapshot

if TYPE_CHECKING:
    from noetl.observability.metrics import Metrics
    from noetl.runtime.processes import ProcessPlace

log = logging.getLogger("noetl.processes")

ANSWER_SECONDS: Final = 0.15
"""How long a scrape waits for the other processes."""

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[FamilySnapshot])


class SharedMetrics:
    """The metrics of this process and its siblings, added up at each scrape."""

    def __init__(self, metrics: Metrics, place: ProcessPlace | None) -> None:
        self._metrics = metrics
        self._place = place
        self._last_told: dict[int, list[FamilySnapshot]] = {}

    async def render(self) -> bytes:
        """The exposition text."""
        place = self._place
        if place is None:
            return self._metrics.render()
        others = [number for number in range(place.count) if number != place.number]
        await asyncio.gather(*(self._ask(place, number) for number in others))
        return self._metrics.render_with(self._last_told.values())

    async def run(self) -> None:
        """Answer the siblings until cancelled."""
        if self._place is None:
            return
        path = self._place.socket(self._place.number)
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._answer, path)
        async with server:
            await server.serve_forever()

    async def _answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(_encode(self._metrics.snapshot()))
            await writer.drain()
        except OSError as error:
            log.debug("Snapshot not delivered", extra={"error": repr(error)})
        finally:
            writer.close()

    async def _ask(self, place: ProcessPlace, number: int) -> None:
        """Renew what is known of a sibling; one that is gone is forgotten."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(place.socket(number))
                try:
                    self._last_told[number] = _decoder.decode(await reader.read())
                finally:
                    writer.close()
        except (FileNotFoundError, ConnectionRefusedError):
            self._last_told.pop(number, None)
        except (OSError, TimeoutError, msgspec.DecodeError) as error:
            log.debug("Process does not answer a scrape", extra={"sibling": number, "error": repr(error)})
