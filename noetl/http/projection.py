"""`POST /api/internal/events/project`: takes over events as they are, without a decision (spec 20, section 10.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import msgspec
import orjson

from noetl.errors import BadRequestError, UnprocessableError
from noetl.http.events import Int64
from noetl.http.requests import (
    IntegerSyntaxError,
    json_body,
    parse_integer,
    refuse_nul,
    refuse_nul_in_json,
    refuse_shape,
)
from noetl.http.responses import json_response
from noetl.http.timestamps import parse_timestamp
from noetl.store.database import RefusedStatementError
from noetl.store.projection import ProjectedEvent

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.projection import ProjectionStore

DEFAULT_TENANT: Final = "default"

_REFUSED_DATA: Final = ("22", "54")
"""Classes of SQLSTATE: a value out of range, a text that is too long for an index."""

_RESULT_MEMBERS: Final = {"status": str, "reference": dict, "context": dict}


class EventEnvelope(msgspec.Struct, gc=False, kw_only=True):
    """One event; ``trace_component`` is accepted and not stored, as in the reference."""

    event_id: Int64
    execution_id: Int64 | None = None
    catalog_id: Int64 | str | None = None
    parent_event_id: Int64 | None = None
    parent_execution_id: Int64 | str | None = None
    event_type: str | None = None
    node_id: str | None = None
    node_name: str | None = None
    node_type: str | None = None
    status: str | None = None
    duration: float | None = None
    context: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    meta: msgspec.Raw = msgspec.Raw()
    error: str | None = None
    stack_trace: str | None = None
    worker_id: str | None = None
    timestamp: str | None = None
    created_at: str | None = None
    tenant_id: str | None = None
    organization_id: str | None = None
    trace_component: str | None = None


class ProjectRequest(msgspec.Struct):
    """Body of the projection."""

    events: list[EventEnvelope]


class ProjectionRoutes:
    """The projection route."""

    def __init__(self, store: ProjectionStore) -> None:
        self._store = store
        self._decoder = msgspec.json.Decoder(ProjectRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the route to ``application``; `InternalGuard` protects it."""
        application.add_route("POST", "/api/internal/events/project", self.project, quiet=True)

    async def project(self, request: Request) -> Response:
        """Store all events that are not there yet, or none; 422 names the event that cannot be stored."""
        given = (await json_body(request, self._decoder)).events
        if not given:
            raise BadRequestError("events must not be empty")
        events = [_event(envelope, index) for index, envelope in enumerate(given)]
        await self._complete_catalog_ids(events)
        try:
            projected = await self._store.insert(events)
        except RefusedStatementError as error:
            if not error.sqlstate.startswith(_REFUSED_DATA):
                raise
            raise UnprocessableError(
                "events hold a number or text too large for the log", detail=error.detail
            ) from error
        return json_response({"projected": projected, "duplicates": len(events) - projected})

    async def _complete_catalog_ids(self, events: list[ProjectedEvent]) -> None:
        """Fill in what is missing from other events of the execution, stored or in this batch; refuse unknown ids."""
        named = {event.catalog_id for event in events if event.catalog_id}
        known = await self._store.known_catalog_ids(named) if named else set[int]()
        catalog_of: dict[int, int] = {}
        for index, event in enumerate(events):
            if event.catalog_id in known:
                catalog_of.setdefault(event.execution_id, event.catalog_id)
            elif event.catalog_id:
                _refuse(index, event.event_id, f"catalog_id {event.catalog_id} is not in the catalog")
        open_executions = {event.execution_id for event in events if not event.catalog_id}
        if open_executions:
            catalog_of |= await self._store.catalog_ids(open_executions)
        for index, event in enumerate(events):
            if not event.catalog_id:
                event.catalog_id = catalog_of.get(event.execution_id, 0)
            if not event.catalog_id:
                reason = f"catalog_id is missing, and execution {event.execution_id} has no event to take it from"
                _refuse(index, event.event_id, reason)


def _refuse(index: int, event_id: int, reason: str) -> NoReturn:
    raise UnprocessableError(f"events[{index}] (event_id {event_id}): {reason}")


def _event(envelope: EventEnvelope, index: int) -> ProjectedEvent:
    """The row of an event; ``catalog_id`` is 0 where it is not given."""
    place = f"events[{index}]"
    texts = {
        name: _text(f"{place}.{name}", getattr(envelope, name))
        for name in (
            "event_type", "node_id", "node_name", "node_type", "status", "error", "stack_trace", "worker_id",
            "tenant_id", "organization_id",
        )
    }  # fmt: skip
    texts["tenant_id"] = texts["tenant_id"] or DEFAULT_TENANT
    texts["organization_id"] = texts["organization_id"] or DEFAULT_TENANT
    result = _json(f"{place}.result", envelope.result)
    if result is not None:
        wrong = _wrong_in_result(result)
        if wrong is not None:
            _refuse(index, envelope.event_id, wrong)
    columns: dict[str, Any] = {
        **texts,
        "execution_id": envelope.execution_id or 0,
        "event_id": envelope.event_id,
        "catalog_id": _id(f"{place}.catalog_id", envelope.catalog_id) or 0,
        "parent_event_id": envelope.parent_event_id,
        "parent_execution_id": _id(f"{place}.parent_execution_id", envelope.parent_execution_id),
        "created_at": _created_at(envelope, place),
        "duration": envelope.duration,
        "context": _json(f"{place}.context", envelope.context),
        "result": result,
        "meta": _json(f"{place}.meta", envelope.meta),
    }
    return ProjectedEvent(**columns)


def _text(field: str, text: str | None) -> str | None:
    refuse_nul(field, text)
    return text


def _json(field: str, raw: msgspec.Raw) -> str | None:
    text = bytes(raw)
    if not text or text == b"null":
        return None
    refuse_nul_in_json(field, text)
    return text.decode()


def _id(field: str, value: int | str | None) -> int | None:
    """An id given as number or digits; None where it is absent, null or blank."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return parse_integer(value.strip())
    except IntegerSyntaxError as error:
        refuse_shape(f"{field}: {error}")


def _created_at(envelope: EventEnvelope, place: str) -> datetime | None:
    """``timestamp``, else ``created_at``, in naive UTC. The latter may lack a zone, then it is UTC."""
    if envelope.timestamp is not None:
        try:
            return parse_timestamp(envelope.timestamp)
        except ValueError as error:
            refuse_shape(f"{place}.timestamp: {error}")
    if not envelope.created_at:
        return None
    try:
        return parse_timestamp(envelope.created_at)
    except ValueError:
        pass  # not RFC 3339; ISO 8601 without a zone is welcome here
    try:
        moment = datetime.fromisoformat(envelope.created_at)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        refuse_shape(f"{place}.created_at: expected an ISO 8601 date and time")


def _wrong_in_result(text: str) -> str | None:
    """What the check constraint of the column would refuse (spec 50, section 5.2), or None."""
    result = orjson.loads(text)
    if not isinstance(result, dict):
        return "result is not an object"
    members = cast("dict[str, Any]", result)
    if "status" not in members:
        return "result lacks `status`"
    for name, value in members.items():
        expected = _RESULT_MEMBERS.get(name)
        if expected is None:
            return f"result has a member `{name}` beside status, reference and context"
        if not isinstance(value, expected):
            return f"result.{name} is not {'a string' if expected is str else 'an object'}"
    return None
