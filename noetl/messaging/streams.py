"""Which streams take the commands: those that are there, and ours where none is (00-decisions, 12; spec 20, 4.3)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from nats.errors import Error as NatsError
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.js import JetStreamContext
    from nats.js.api import ConsumerInfo, StreamInfo

log = logging.getLogger("noetl.messaging")

SEGMENTS: Final = ("shared", "system")
"""The pools of workers; each hears only the subjects below its name."""


class StreamView(NamedTuple):
    """A stream as it is now, with everybody who reads it."""

    info: StreamInfo
    consumers: list[ConsumerInfo]


class CommandStreams:
    """The stream of each segment. One usually takes them all; deployments also have one for each pool."""

    def __init__(self, subject: str, configured: str) -> None:
        """``configured`` is the name under which a stream is made if none takes the subjects below ``subject``."""
        self._subject = subject
        self._configured = configured
        self._streams: dict[str, str] = {}
        self._created: dict[str, object] = {}

    @property
    def names(self) -> list[str]:
        """The streams that we publish to."""
        return sorted(self._created)

    def of(self, segment: str) -> str | None:
        """The stream that takes a segment's commands, or None if there is none and it could not be made."""
        return self._streams.get(segment)

    def created(self, stream: str) -> object:
        """Creation time of a stream that we publish to: another value means that it is a new, empty one."""
        return self._created.get(stream)

    async def ensure(self, context: JetStreamContext) -> None:
        """Find the stream of each segment; widen ours, or make it, for those that have none.

        Raises what the driver raises if there is no stream at all. A segment that is left without one is named in the
        log: its commands wait until there is a stream.
        """
        streams = await self._find(context)
        missing = [segment for segment in SEGMENTS if segment not in streams]
        if missing:
            # What the worker would make, unless that would take from other streams what is theirs.
            subjects = [f"{self._subject}.{segment}.>" for segment in missing]
            if not streams:
                subjects = [self._subject, f"{self._subject}.>"]
            try:
                await self._make(context, subjects)
            except (NatsError, APIError, TimeoutError) as error:
                if not streams:
                    raise
                log.warning(
                    "No stream takes these commands, and none can be made: they wait",
                    extra={"stream": self._configured, "subjects": subjects, "error": repr(error)},
                )
            streams = await self._find(context)
        self._created = {name: (await context.stream_info(name)).created for name in set(streams.values())}
        self._streams = streams

    async def view(self, context: JetStreamContext, stream: str) -> StreamView:
        """State and consumers of a stream."""
        info = await context.stream_info(stream)
        consumers: list[ConsumerInfo] = []
        while True:
            page = await context.consumers_info(stream, offset=len(consumers))
            consumers.extend(page)
            if len(page) < 256:
                return StreamView(info, consumers)

    async def _find(self, context: JetStreamContext) -> dict[str, str]:
        found: dict[str, str] = {}
        for segment in SEGMENTS:
            try:
                found[segment] = await context.find_stream_name_by_subject(f"{self._subject}.{segment}.0")
            except NotFoundError:
                continue
        return found

    async def _make(self, context: JetStreamContext, subjects: Sequence[str]) -> None:
        name = self._configured
        try:
            info = await context.stream_info(name)
        except NotFoundError:
            await context.add_stream(  # pyright: ignore[reportUnknownMemberType]
                StreamConfig(name=name, subjects=list(subjects), storage=StorageType.FILE)
            )
        else:
            config = info.config
            kept = [old for old in config.subjects or [] if not any(_includes(new, old) for new in subjects)]
            config.subjects = sorted({*kept, *subjects})
            await context.update_stream(config)  # pyright: ignore[reportUnknownMemberType]


def _includes(wide: str, narrow: str) -> bool:
    """Whether every subject of one pattern is one of the other's; NATS refuses patterns that overlap in one stream."""
    return wide == narrow or (wide.endswith(".>") and narrow.startswith(wide[:-1]))
