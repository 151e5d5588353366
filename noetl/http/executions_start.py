"""`POST /api/execute`: starts an execution of a playbook (spec 20, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import msgspec
import orjson

from noetl.errors import UnprocessableError
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import (
    IntegerSyntaxError,
    decode_json,
    json_text,
    parse_integer,
    refuse_nul,
    refuse_nul_in_json,
    refuse_shape,
)
from noetl.http.responses import json_response
from noetl.ledger.items import StartExecution

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.ledger.items import StartedExecution

ABSENT: Final = msgspec.UNSET
ALIASES: Final = {"workload": "payload"}

MAX_VERSION: Final = 32_767
"""The column is a smallint."""

KEY_LIMIT: Final = 255
"""Bytes of an idempotency key."""


class StartLedger(Protocol):
    """What this route needs of the ledger."""

    async def start(self, start: StartExecution, /) -> StartedExecution:
        """Commit the start of an execution and its first commands."""
        ...


class ExecuteRequest(msgspec.Struct):
    """Body of `POST /api/execute`; unlike in the reference ids may be digit strings and ``payload`` null."""

    path: str | msgspec.UnsetType | None = ABSENT
    catalog_id: int | str | msgspec.UnsetType | None = ABSENT
    version: int | str | msgspec.UnsetType | None = ABSENT
    payload: msgspec.Raw = msgspec.Raw()
    workload: msgspec.Raw = msgspec.Raw()
    parent_execution_id: int | str | msgspec.UnsetType | None = ABSENT
    idempotency_key: str | msgspec.UnsetType | None = ABSENT


class ExecuteRoutes:
    """The route that starts executions."""

    def __init__(self, ledger: StartLedger) -> None:
        self._ledger = ledger
        self._request = msgspec.json.Decoder(ExecuteRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the route to ``application``."""
        application.add_route("POST", "/api/execute", self.execute)

    async def execute(self, request: Request) -> Response:
        """Start an execution; ``Idempotency-Key`` makes a repeated request answer with the first one's execution.

        422 without path and catalog id, 404 for an unknown playbook, 400 or 422 for one that does not parse; nothing
        is stored then. The id is a string here (spec 20, section 3.4).
        """
        body = await json_text(request)
        given = decode_json(body, self._request)
        refuse_duplicates(body, given, ALIASES)
        catalog_id = _integer("catalog_id", given.catalog_id)
        path = given.path if isinstance(given.path, str) else None
        if catalog_id is None and path is None:
            raise UnprocessableError("Either 'path' or 'catalog_id' must be provided")
        refuse_nul("path", path)
        started = await self._ledger.start(
            StartExecution(
                path=path,
                catalog_id=catalog_id,
                version=_version(given.version),
                payload=self._object(given),
                parent_execution_id=_integer("parent_execution_id", given.parent_execution_id),
                idempotency_key=_idempotency_key(request, given.idempotency_key),
            )
        )
        return json_response(
            {
                "execution_id": str(started.execution_id),
                "status": "started",
                "commands_generated": started.commands_generated,
            }
        )

    def _object(self, given: ExecuteRequest) -> dict[str, Any]:
        text = bytes(given.payload) or bytes(given.workload)
        if not text or text == b"null":
            return {}
        refuse_nul_in_json("payload", text)
        try:
            payload = orjson.loads(text)  # integers beyond 64 bits become doubles, as everywhere
        except orjson.JSONDecodeError as error:  # what `decode_json` lets pass in very large bodies
            refuse_shape(f"payload: {error}")
        if not isinstance(payload, dict):
            refuse_shape("payload: invalid type, expected an object")
        return cast("dict[str, Any]", payload)


def _integer(field: str, value: int | str | msgspec.UnsetType | None) -> int | None:
    if value is None or isinstance(value, msgspec.UnsetType):
        return None
    try:
        return parse_integer(str(value))
    except IntegerSyntaxError as error:
        refuse_shape(f"{field}: {error}")


def _version(value: int | str | msgspec.UnsetType | None) -> int | None:
    if value == "latest":
        return None
    version = _integer("version", value)
    if version is not None and not 1 <= version <= MAX_VERSION:
        raise UnprocessableError(f'version must be between 1 and {MAX_VERSION}, or "latest"')
    return version


def _idempotency_key(request: Request, member: str | msgspec.UnsetType | None) -> str | None:
    """The key of header and member, which must agree where both are given."""
    header = request.get_first_header(b"idempotency-key")
    key = member if isinstance(member, str) else None
    if header is not None:
        try:
            text = header.decode()
        except UnicodeDecodeError:
            raise UnprocessableError("Idempotency-Key is not valid UTF-8") from None
        if key is not None and key != text:
            raise UnprocessableError("Idempotency-Key and idempotency_key differ")
        key = text
    if key is not None:
        refuse_nul("idempotency_key", key)
        if not 0 < len(key.encode()) <= KEY_LIMIT:
            raise UnprocessableError(f"idempotency_key must have 1 to {KEY_LIMIT} bytes")
    return key
