"""Announcing again what the stream has lost, and only that (design.md "Re-announcing and leases"; spec 70, I4, I5).

A command that waits its turn in the stream must not be published again: it would lengthen the queue and starve fresh
work. So a waiting command is lost when its notification is provably gone: the consumers have gone past it, the stream
is another one, or, when its place is unknown, no consumer has anything pending.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from nats.errors import Error as NatsError
from nats.js.errors import APIError

from noetl.ledger.scope import Notification

if TYPE_CHECKING:
    from datetime import datetime

    from nats.js.api import ConsumerInfo, StreamInfo

    from noetl.messaging.announcer import NatsAnnouncer
    from noetl.messaging.connection import NatsConnection
    from noetl.store.commands import CommandStore, WaitingCommand

log = logging.getLogger("noetl.messaging")

PAGE: Final = 1_000
LONGEST_PAUSE_SECONDS: Final = 3_600.0
LOOK_SECONDS: Final = 60.0
"""How long it is true that nobody listens, after the last look: another process may have taken over the sweeps."""
VIEW_SECONDS: Final = 1.0
"""A stream that was looked at so long ago is looked at again: commands go on being published."""
REMEMBERED: Final = 100_000


class SegmentSource(Protocol):
    """Who knows the NATS segment of an execution's commands."""

    async def segment(self, catalog_id: int) -> str:
        """``system`` or ``shared``."""
        ...


class _Segment(NamedTuple):
    """The stream of a segment, and the consumers of the segment there."""

    looked_at: float
    info: StreamInfo
    consumers: list[ConsumerInfo]


class _Pause(NamedTuple):
    until: float
    seconds: float


class Reannouncer:
    """One pass looks at the oldest waiting commands and announces those whose notification is gone."""

    def __init__(
        self,
        commands: CommandStore,
        connection: NatsConnection,
        announcer: NatsAnnouncer,
        segments: SegmentSource,
        *,
        after_seconds: float,
        first_pause_seconds: float,
        per_second: int,
    ) -> None:
        self._commands = commands
        self._connection = connection
        self._announcer = announcer
        self._segments = segments
        self._after_seconds = after_seconds
        self._first_pause = first_pause_seconds
        self._per_second = per_second
        self._pauses: OrderedDict[int, _Pause] = OrderedDict()
        self._bounds: OrderedDict[int, tuple[object, int]] = OrderedDict()
        """Stream, and where it ended when a command of unknown place was first seen: its message is not behind that."""
        self._unheard: set[str] = set()
        """Segments whose commands wait while nobody listens."""
        self._looked_at = -LOOK_SECONDS
        self._after: tuple[datetime, int] | None = None

    def is_unheard(self, segment: str) -> bool:
        """Whether commands of a segment wait and no consumer is there for them; False where nobody sweeps any more."""
        return segment in self._unheard and monotonic() - self._looked_at < LOOK_SECONDS

    async def sweep(self) -> int:
        """Announce lost commands; returns how many. Does nothing while NATS is away, and leaves out what is queued."""
        if self._connection.state != "connected":
            return 0
        self._looked_at = monotonic()
        is_first = self._after is None
        waiting = await self._commands.waiting(self._after_seconds, PAGE, self._after)
        # The next sweep goes on behind this page, so that old commands nobody takes do not hide the others.
        self._after = (waiting[-1].waiting_since, waiting[-1].event_id) if len(waiting) == PAGE else None
        announced = 0
        views: dict[str, _Segment | None] = {}
        for command in waiting:
            if self._announcer.is_queued(command.event_id):
                continue
            name = await self._segments.segment(command.catalog_id)
            segment = views.get(name)
            if name not in views or (segment is not None and monotonic() - segment.looked_at > VIEW_SECONDS):
                segment = views[name] = await self._look_at(name)
            if segment is None:
                continue
            known = self._announcer.announced(command.event_id)
            if known is not None and known.at > segment.looked_at:  # published since: what was seen says nothing of it
                continue
            info = segment.info
            if not segment.consumers and info.state.messages:
                # Nobody listens yet: whoever comes gets the stream from its beginning.
                if self._is_in_stream(command, info.created, info.state.first_seq, info.state.last_seq):
                    continue
            elif not self._is_lost(command, segment.consumers, info):
                continue
            if self._is_paused(command.event_id):
                continue
            self._announcer.announce(
                [
                    Notification(
                        command.execution_id,
                        command.event_id,
                        command.command_id,
                        command.step,
                        name,
                        command.attempt,
                    )
                ]
            )
            announced += 1
            await asyncio.sleep(1 / self._per_second)
        if is_first and self._after is None:
            self._unheard.intersection_update(views)
        if announced:
            log.info("Announced waiting commands again", extra={"count": announced})
        return announced

    async def _look_at(self, segment: str) -> _Segment | None:
        """The stream of a segment and who reads the segment there; None while that cannot be told."""
        root, looked_at = self._connection.subject, monotonic()
        try:
            stream = self._connection.streams.of(segment)
            if stream is None:
                await self._connection.ensure_streams()
                stream = self._connection.streams.of(segment)
            view = None if stream is None else await self._connection.view(stream)
        except (NatsError, APIError, OSError, TimeoutError) as error:
            log.info("The stream cannot be looked at", extra={"error": repr(error)})
            return None
        mine = [] if view is None else [consumer for consumer in view.consumers if _covers(consumer, root, segment)]
        self._watch_consumers(segment, {"stream": stream, "subject": f"{root}.{segment}.>"}, is_there=bool(mine))
        return None if view is None else _Segment(looked_at, view.info, mine)

    def _watch_consumers(self, segment: str, extra: dict[str, Any], *, is_there: bool) -> None:
        """Say once that commands wait for a consumer that is not there (spec 70, I17), and once that it is."""
        if is_there and segment in self._unheard:
            self._unheard.discard(segment)
            log.info("The consumer is there again", extra=extra)
        elif not is_there and segment not in self._unheard:
            self._unheard.add(segment)
            log.warning("Commands wait, but the stream has no consumer for their subject: no worker hears", extra=extra)

    def _is_in_stream(self, command: WaitingCommand, created: object, first: int, last: int) -> bool:
        known = self._announcer.announced(command.event_id)
        return known is None or (known.stream_created == created and first <= known.sequence <= last)

    def _is_lost(self, command: WaitingCommand, consumers: list[ConsumerInfo], info: StreamInfo) -> bool:
        """Whether no consumer can still get the notification."""
        state = info.state
        known = self._announcer.announced(command.event_id)
        if known is None:
            created, sequence = self._bounds.setdefault(command.event_id, (info.created, state.last_seq))
            while len(self._bounds) > REMEMBERED:
                self._bounds.popitem(last=False)
            if created != info.created:  # a stream that replaced the one looked at then does not hold the message
                return True
        else:
            sequence = known.sequence
            if known.stream_created != info.created or not state.first_seq <= sequence <= state.last_seq:
                return True
        return all(_has_passed(consumer, sequence) for consumer in consumers)

    def _is_paused(self, event_id: int) -> bool:
        now = monotonic()
        pause = self._pauses.get(event_id)
        if pause is not None and now < pause.until:
            return True
        seconds = self._first_pause if pause is None else min(pause.seconds * 2, LONGEST_PAUSE_SECONDS)
        self._pauses[event_id] = _Pause(now + seconds, seconds)
        self._pauses.move_to_end(event_id)
        while len(self._pauses) > REMEMBERED:
            self._pauses.popitem(last=False)
        return False


def _has_passed(consumer: ConsumerInfo, sequence: int) -> bool:
    """Whether the consumer has nothing left to deliver up to this place of the stream."""
    if not consumer.num_pending and not consumer.num_ack_pending:
        return True
    return consumer.ack_floor is not None and consumer.ack_floor.stream_seq >= sequence


def _covers(consumer: ConsumerInfo, root: str, segment: str) -> bool:
    config = consumer.config
    filters = [config.filter_subject] if config.filter_subject else list(config.filter_subjects or [])
    return not filters or any(
        text in (f"{root}.{segment}.>", f"{root}.{segment}.*", f"{root}.*.*", f"{root}.>", ">") for text in filters
    )
