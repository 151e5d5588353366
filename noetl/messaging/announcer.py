"""Publishing command notifications: a window of unacknowledged publishes, repeated until NATS has them (promise P3).

What waits here is only a shortcut: every notification derives from a committed row, and whatever is lost with this
process is found again by the re-announcer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from nats.js.errors import NoStreamResponseError

from noetl._fast.event_codec import notification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.js.api import PubAck

    from noetl.ledger.scope import Notification
    from noetl.messaging.connection import NatsConnection
    from noetl.observability.spans import Tracer

log = logging.getLogger("noetl.messaging")

QUEUE_LIMIT: Final = 100_000
"""Notifications kept while NATS is away; beyond it the oldest are left to the re-announcer."""
REMEMBERED: Final = 50_000
"""Commands whose stream sequence is remembered, so that the re-announcer can tell waiting from lost."""
ACKNOWLEDGE_SECONDS: Final = 5.0


class Announced(NamedTuple):
    """Where the stream keeps a notification."""

    sequence: int
    stream_created: object
    number: int
    at: float


class _Publish(NamedTuple):
    """A notification on its way. ``is_repeated``: NATS may have taken this very one already, its answer was lost."""

    item: Notification
    number: int
    is_repeated: bool = False


class AnnouncerMetrics(Protocol):
    """What publishing tells about itself."""

    def observe_publish(self, outcome: str, seconds: float) -> None:
        """One publish ended with ``ok`` or ``error``."""
        ...


class NatsAnnouncer:
    """Queue, window and memory of the publishes of one process."""

    def __init__(
        self, connection: NatsConnection, server_url: str, metrics: AnnouncerMetrics, tracer: Tracer | None = None
    ) -> None:
        self._tracer = tracer
        self._connection = connection
        self._server_url = server_url
        self._metrics = metrics
        self._queue: deque[_Publish] = deque()
        self._wakeup = asyncio.Event()
        self._announced: OrderedDict[int, Announced] = OrderedDict()
        self._in_flight = 0
        self._drained = asyncio.Event()
        self._queued: dict[int, int] = {}
        """How many notifications of a command NATS has yet to take."""

    @property
    def waiting(self) -> int:
        """Notifications that NATS does not have yet."""
        return len(self._queue) + self._in_flight

    def announce(self, notifications: Sequence[Notification]) -> None:
        """Queue notifications; returns at once and never fails."""
        for item in notifications:
            previous = self._announced.get(item.event_id)
            number = 1 if previous is None else previous.number + 1
            self._queue.append(_Publish(item, max(number, item.attempt)))
            self._queued[item.event_id] = self._queued.get(item.event_id, 0) + 1
        while len(self._queue) > QUEUE_LIMIT:
            self._leave(self._queue.popleft().item.event_id)
        self._drained.clear()
        self._wakeup.set()

    def forget(self, event_id: int) -> None:
        """The command was claimed or is moot: its place in the stream does not matter, what is queued is dropped."""
        self._announced.pop(event_id, None)
        self._queued.pop(event_id, None)

    def is_queued(self, event_id: int) -> bool:
        """Whether NATS has yet to take a notification of this command."""
        return event_id in self._queued

    def announced(self, event_id: int) -> Announced | None:
        """Where the notification went, if this process knows."""
        return self._announced.get(event_id)

    async def run(self) -> None:
        """Publish until cancelled. While NATS is away the queue waits."""
        async with asyncio.TaskGroup() as publishes:
            window = asyncio.Semaphore(256)
            while True:
                await self._connection.ready()
                if not self._queue:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                    continue
                await window.acquire()
                if not self._queue:
                    window.release()
                    continue
                publish = self._queue.popleft()
                if publish.item.event_id not in self._queued:
                    window.release()
                    self._note_drained()
                    continue
                self._in_flight += 1
                publishes.create_task(self._publish(publish, window))

    async def flush(self, within_seconds: float) -> None:
        """Wait until NATS has everything, at most so long; what is left stays for the re-announcer."""
        if self.waiting and self._connection.state == "connected":
            try:
                async with asyncio.timeout(within_seconds):
                    await self._drained.wait()
            except TimeoutError:
                log.info("Notifications left unpublished", extra={"count": self.waiting})

    async def _publish(self, publish: _Publish, window: asyncio.Semaphore) -> None:
        begin = perf_counter()
        outcome = "error"
        event_id = publish.item.event_id
        try:
            acknowledgement = await self._send(publish)
            outcome = "ok"
        except NoStreamResponseError:
            if self._connection.streams.of(publish.item.segment) is None:
                self._leave(event_id)  # known to have no stream: the re-announcer looks for one from time to time
            else:
                self._again(publish._replace(is_repeated=True))
                self._connection.report_missing_stream()
        except Exception as error:  # whatever the driver trips over: NATS must never end the server
            self._again(publish._replace(is_repeated=True))
            log.debug("Publish failed, will be repeated", extra={"event_id": event_id, "error": repr(error)})
            await asyncio.sleep(0.1)
        else:
            if acknowledgement.duplicate and not publish.is_repeated:
                # Another process gave this number to an earlier notification, which is gone: this one is deliberate.
                self._again(publish._replace(number=publish.number + 1))
            else:
                self._leave(event_id)
                self._remember(event_id, publish.number, acknowledgement)
        finally:
            self._in_flight -= 1
            self._note_drained()
            window.release()
            seconds = perf_counter() - begin
            self._metrics.observe_publish(outcome, seconds)
            if self._tracer is not None:
                self._trace(self._tracer, publish.item, outcome, seconds)

    def _trace(self, tracer: Tracer, item: Notification, outcome: str, seconds: float) -> None:
        attributes = {
            "execution_id": item.execution_id, "event_id": item.event_id, "pool_segment": item.segment,
        }  # fmt: skip
        error = None if outcome == "ok" else outcome
        tracer.record("nats.publish", seconds, attributes, kind="producer", parent=item.span, error=error)

    async def _send(self, publish: _Publish) -> PubAck:
        item = publish.item
        async with asyncio.timeout(ACKNOWLEDGE_SECONDS):
            future = await self._connection.context.publish_async(  # pyright: ignore[reportUnknownMemberType]
                f"{self._connection.subject}.{item.segment}.{item.execution_id}",
                notification(item.execution_id, item.event_id, item.command_id, item.step, self._server_url),
                headers={"Nats-Msg-Id": f"{item.event_id}:{publish.number}"},
            )
            return await future

    def _again(self, publish: _Publish) -> None:
        # After a lost answer with the same number: had NATS taken the first one, its duplicate window drops this one.
        self._queue.appendleft(publish)
        self._wakeup.set()

    def _leave(self, event_id: int) -> None:
        """One notification of the command less is queued."""
        left = self._queued.pop(event_id, 0) - 1
        if left > 0:
            self._queued[event_id] = left

    def _note_drained(self) -> None:
        if not self.waiting:
            self._drained.set()

    def _remember(self, event_id: int, number: int, acknowledgement: PubAck) -> None:
        created = self._connection.streams.created(acknowledgement.stream)
        self._announced[event_id] = Announced(acknowledgement.seq, created, number, monotonic())
        while len(self._announced) > REMEMBERED:
            self._announced.popitem(last=False)


class SilentAnnouncer:
    """Degraded mode: NATS is not configured, nobody is told (spec 60, section 2.4)."""

    def announce(self, notifications: Sequence[Notification]) -> None:
        """Say in the log that these commands wait unheard."""
        for item in notifications:
            log.warning(
                "NATS not configured; command notification skipped",
                extra={"execution_id": item.execution_id, "event_id": item.event_id},
            )

    def forget(self, event_id: int) -> None:
        """Nothing is remembered."""
