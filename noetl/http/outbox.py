"""`/api/internal/outbox/*`: claiming, acknowledging and counting messages for publishers (spec 20, section 10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from noetl.errors import BadRequestError
from noetl.http.events import Int64
from noetl.http.requests import json_body, refuse_nul
from noetl.http.responses import json_response, stored_json
from noetl.http.runtime import Int32

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.outbox import OutboxRow, OutboxStore

MAX_CLAIM: Final = 1000
MAX_ERROR_CHARACTERS: Final = 2000


class OutboxClaimRequest(msgspec.Struct):
    """Body of the claim."""

    limit: Int64 = 100


class PublishedRequest(msgspec.Struct):
    """Body of the acknowledgement."""

    outbox_ids: list[Int64]


class FailedRequest(msgspec.Struct):
    """Body of the report of a failure; ``attempts`` is what the claim told."""

    outbox_id: Int64
    error: str
    attempts: Int32 = 1
    max_delay_seconds: Int32 = 300


class OutboxRoutes:
    """The outbox routes; ids are JSON numbers both ways, whatever NOETL_JSON_IDS says."""

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self._claim = msgspec.json.Decoder(OutboxClaimRequest)
        self._published = msgspec.json.Decoder(PublishedRequest)
        self._failed = msgspec.json.Decoder(FailedRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``; `InternalGuard` protects them."""
        application.add_route("POST", "/api/internal/outbox/claim", self.claim, quiet=True)
        application.add_route("POST", "/api/internal/outbox/mark-published", self.mark_published, quiet=True)
        application.add_route("POST", "/api/internal/outbox/mark-failed", self.mark_failed)
        application.add_route("GET", "/api/internal/outbox/pending-count", self.pending_count, quiet=True)

    async def claim(self, request: Request) -> Response:
        """Hand out at most ``limit`` messages (1 to 1000) that nobody else has."""
        given = await json_body(request, self._claim)
        rows = await self._store.claim(min(max(given.limit, 1), MAX_CLAIM))
        return json_response({"rows": [_object(row) for row in rows], "claimed": len(rows)})

    async def mark_published(self, request: Request) -> Response:
        """Close messages that were sent."""
        given = await json_body(request, self._published)
        if not given.outbox_ids:
            raise BadRequestError("outbox_ids must not be empty")
        return json_response({"marked": await self._store.mark_published(given.outbox_ids)})

    async def mark_failed(self, request: Request) -> Response:
        """Give a message back for another attempt after a pause; a published one stays published."""
        given = await json_body(request, self._failed)
        if not given.error:
            raise BadRequestError("error must not be empty")
        refuse_nul("error", given.error)
        delay = retry_delay_seconds(given.attempts, given.max_delay_seconds)
        marked = await self._store.mark_failed(given.outbox_id, given.error[:MAX_ERROR_CHARACTERS], delay)
        return json_response({"marked": marked, "available_at_in": delay})

    async def pending_count(self, _request: Request) -> Response:
        """The number that autoscalers watch."""
        return json_response({"pending": await self._store.pending_count()})


def retry_delay_seconds(attempts: int, max_delay_seconds: int) -> int:
    """Pause after the given number of attempts: 1, 2, 4 ... 256 s, at most ``max_delay_seconds`` (spec 20, 10.2)."""
    return min(max_delay_seconds, 1 << min(max(attempts - 1, 0), 8))


def _object(row: OutboxRow) -> dict[str, Any]:
    """One row of the answer; what is NULL is left out."""
    members = {
        "outbox_id": row.outbox_id,
        "event_id": row.event_id,
        "execution_id": row.execution_id,
        "subject": row.subject,
        "payload": stored_json(row.payload),
        "payload_codec": row.payload_codec,
        "attempts": row.attempts,
    }
    return {name: value for name, value in members.items() if value is not None}
