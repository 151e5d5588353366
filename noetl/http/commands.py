"""`GET /api/commands/{event_id}` and the claim of a command by a worker (spec 20, section 5)."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import orjson

from noetl._fast.event_codec import claim_response
from noetl.errors import ConflictError, NotFoundError
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import decode_json, json_text, path_integer, refuse_nul
from noetl.http.responses import json_bytes_response, json_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.ledger.items import CommandView


class CommandLedger(Protocol):
    """What these routes need of the ledger."""

    async def command(self, event_id: int, /) -> CommandView:
        """The command issued under ``event_id``, or NotFoundError."""
        ...

    async def claim(self, event_id: int, worker_id: str, /) -> CommandView:
        """Give the command to the worker; NotFoundError, or ConflictError where it may not have it."""
        ...


class ClaimRequest(msgspec.Struct, gc=False):
    """Body of the claim."""

    worker_id: str


class UnknownClaims:
    """Counts claims of commands that do not exist, to stop a message that workers would try for ever.

    A worker hands a message back to NATS on 404 and gets it again at once; only 409 makes it drop the message
    (spec 20, section 5.2, C5). The memory is bounded: the least recently claimed ids are forgotten first.
    """

    LIMIT: Final = 20
    WINDOW_SECONDS: Final = 60.0
    REMEMBERED: Final = 1024

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._claims: OrderedDict[int, tuple[float, int]] = OrderedDict()

    def is_poison(self, event_id: int) -> bool:
        """Count one claim of an unknown id; True when it had its 20 claims within a minute already."""
        now = self._clock()
        since, count = self._claims.pop(event_id, (now, 0))
        if now - since >= self.WINDOW_SECONDS:
            since, count = now, 0
        self._claims[event_id] = (since, count + 1)
        if len(self._claims) > self.REMEMBERED:
            self._claims.popitem(last=False)
        return count >= self.LIMIT


class CommandRoutes:
    """The command routes."""

    def __init__(self, ledger: CommandLedger, unknown_claims: UnknownClaims | None = None) -> None:
        self._ledger = ledger
        self._unknown = unknown_claims or UnknownClaims()
        self._claim = msgspec.json.Decoder(ClaimRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``."""
        application.add_route("GET", "/api/commands/{event_id}", self.get)
        application.add_route("POST", "/api/commands/{event_id}/claim", self.claim)

    async def get(self, request: Request) -> Response:
        """The stored command, whatever has become of it (spec 20, section 5.1)."""
        command = await self._ledger.command(path_integer(request, "event_id"))
        return json_response(
            {
                "execution_id": command.execution_id,
                "node_id": command.step,
                "node_name": command.step,
                "action": command.tool_kind,
                "context": _embedded(command.context),
                "meta": _embedded(command.meta),
            }
        )

    async def claim(self, request: Request) -> Response:
        """Claim the command for a worker and answer with its work order (spec 20, section 5.2)."""
        event_id = path_integer(request, "event_id")
        body = await json_text(request)
        claim = decode_json(body, self._claim)
        refuse_duplicates(body, claim, {})
        refuse_nul("worker_id", claim.worker_id)
        try:
            command = await self._ledger.claim(event_id, claim.worker_id)
        except NotFoundError as error:
            if self._unknown.is_poison(event_id):
                raise ConflictError(error.message) from None
            raise
        return json_bytes_response(
            claim_response(
                event_id, command.execution_id, command.step, command.tool_kind, command.context, command.meta
            )
        )


def _embedded(text: bytes | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)
