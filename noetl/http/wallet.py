"""`/api/internal/wallet/*`: rotation of the key that guards credentials, and its state (spec 40, section 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import Query, decode_json, json_text
from noetl.http.responses import json_response
from noetl.http.secret_routes import refuse_without_key
from noetl.secrets.rotation import key_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.secrets.rotation import Rotation, Rows

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]

DEFAULT_BATCH = 100
DEFAULT_BATCHES = 1000


class RotateRequest(msgspec.Struct):
    """Body of the rotation; their product bounds the rows of one table that one call rewraps."""

    batch_size: Int64 | msgspec.UnsetType = msgspec.UNSET
    max_batches: Int64 | msgspec.UnsetType = msgspec.UNSET


class WalletRoutes:
    """The wallet routes over ``tables``; ``rotation`` is None without a key. `InternalGuard` protects them."""

    def __init__(self, rotation: Rotation | None, tables: Mapping[str, Rows[Any]]) -> None:
        self._rotation = rotation
        self._tables = tables
        self._rotate = msgspec.json.Decoder(RotateRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``."""
        rotate = refuse_without_key if self._rotation is None else self.rotate
        application.add_route("POST", "/api/internal/wallet/rotate-kek", rotate)
        application.add_route("GET", "/api/internal/wallet/key-status", self.key_status)

    async def rotate(self, request: Request) -> Response:
        """Wrap the data keys of all rows by the current key."""
        body = await json_text(request)
        given = decode_json(body, self._rotate)
        refuse_duplicates(body, given, {})
        size = given.batch_size if isinstance(given.batch_size, int) else DEFAULT_BATCH
        batches = given.max_batches if isinstance(given.max_batches, int) else DEFAULT_BATCHES
        assert self._rotation is not None
        outcomes = await self._rotation.run(max(size, 1) * max(batches, 1))
        return json_response(outcomes)

    async def key_status(self, request: Request) -> Response:
        """How many rows each version of the key guards; with ``states=true`` also which key really does."""
        wants_states = Query(request).boolean("states")
        answer: dict[str, Any] = {**await key_versions(self._tables)}
        if wants_states and self._rotation is not None:
            answer["states"] = await self._rotation.states()
        return json_response(answer)
