"""The replay route: the state of an execution as its log tells it, now or at an earlier point (spec 15, section 1).

A replay reads from the database, never through the ledger, and shares the event loop: it works in slices and lets
other requests run in between.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import orjson

from noetl.engine.replay import PROJECTIONS, ReplayFold, ReplayIdentity, state_parts
from noetl.errors import BadRequestError, RejectedRequestError
from noetl.http.requests import Query
from noetl.http.streams import json_stream_response
from noetl.http.timestamps import parse_timestamp
from noetl.store.replay import ReplayCutoff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from datetime import datetime

    from blacksheep import Request, Response

    from noetl.engine.replay import ReplayState
    from noetl.http.application import HttpApplication
    from noetl.store.replay import ReplayStore

T = TypeVar("T")

DEFAULT_LIMIT: Final = 10_000
HIGHEST_LIMIT: Final = 100_000
SLICE_SECONDS: Final = 0.002
"""How long a replay works before it lets others run."""
REPLAYS_AT_ONCE: Final = 2
"""Each holds a connection of the pool while it reads; further ones wait."""
TRUNCATED: Final = (b"x-replay-truncated", b"true")


class ReplayRequest(msgspec.Struct, frozen=True):
    """The query of a replay."""

    identity: ReplayIdentity
    cutoff: ReplayCutoff
    limit: int

    @classmethod
    def of(cls, query: Query) -> ReplayRequest:
        """Read and check a query string.

        Raises:
            RejectedRequestError: a parameter is missing, malformed or given twice (400, text).
            BadRequestError: two cutoffs, or no such projection (400).
        """
        tenant_id, organization_id = query.text("tenant_id"), query.text("organization_id")
        as_of_event_id, as_of_position = query.integer("as_of_event_id"), query.integer("as_of_position")
        as_of_time = _time(query, "as_of_time")
        projection = query.text("projection")
        limit = query.integer("limit")
        # Checked and without effect, as in the reference (spec 15, section 10).
        query.boolean("resolve_payloads")
        execution_id = query.required_integer("execution_id")
        if sum(cutoff is not None for cutoff in (as_of_event_id, as_of_position, as_of_time)) > 1:
            raise BadRequestError("Use only one replay cutoff: as_of_event_id, as_of_position, or as_of_time")
        if projection is not None and projection not in PROJECTIONS:
            quoted = orjson.dumps(projection).decode()
            raise BadRequestError(f"unknown projection {quoted}; expected one of: {', '.join(PROJECTIONS)}")
        return cls(
            identity=ReplayIdentity(
                execution_id,
                "default" if tenant_id is None else tenant_id,
                "default" if organization_id is None else organization_id,
                "all" if projection is None else projection,
            ),
            cutoff=ReplayCutoff(as_of_position if as_of_event_id is None else as_of_event_id, as_of_time),
            limit=DEFAULT_LIMIT if limit is None else min(max(limit, 1), HIGHEST_LIMIT),
        )


class ReplayRoutes:
    """``GET /api/replay/state``."""

    def __init__(self, events: ReplayStore) -> None:
        self._events = events
        self._turns = asyncio.Semaphore(REPLAYS_AT_ONCE)

    def register(self, application: HttpApplication) -> None:
        """Add the route."""
        application.add_route("GET", "/api/replay/state", self.state)

    async def state(self, request: Request) -> Response:
        """The state after the last event, or after the last one up to a cutoff.

        Ids are JSON numbers whatever the request prefers: the checksums are computed over this very answer.
        """
        wanted = ReplayRequest.of(Query(request))
        async with self._turns:
            state, truncated = await self._replay(wanted)
        response = await json_stream_response(in_slices(state_parts(state)))
        if truncated:
            response.add_header(*TRUNCATED)
        return response

    async def _replay(self, wanted: ReplayRequest) -> tuple[ReplayState, bool]:
        """The settled state, and whether there are more events than the limit."""
        fold = ReplayFold(wanted.identity)
        room = wanted.limit
        # One more than wanted tells whether there are more.
        async with aclosing(self._events.pages(wanted.identity.execution_id, wanted.cutoff, room + 1)) as pages:
            async for page in pages:
                fold.extend(page[:room])
                room -= len(page)
        async for _ in in_slices(fold.settle()):
            pass
        return fold.state, room < 0


async def in_slices(steps: Iterable[T]) -> AsyncGenerator[T]:
    """The steps of some work, with a pause for others after every slice of time."""
    deadline = monotonic() + SLICE_SECONDS
    for step in steps:
        yield step
        if monotonic() > deadline:
            await asyncio.sleep(0)
            deadline = monotonic() + SLICE_SECONDS


def _time(query: Query, name: str) -> datetime | None:
    text = query.text(name)
    if text is None:
        return None
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise RejectedRequestError(400, f"Failed to deserialize query string: {name}: {error}") from None
