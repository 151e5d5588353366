"""`POST /api/events` and `POST /api/events/batch`: validates, redacts and shapes events, and hands them to the ledger.

Spec 20, sections 6, 7 and 9.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import msgspec
import orjson

from noetl._fast.event_codec import Sanitizer, event_meta, event_response, result_envelope
from noetl.errors import UnprocessableError
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import IntegerSyntaxError, decode_json, json_text, parse_integer, refuse_nul, refuse_shape
from noetl.http.responses import json_bytes_response
from noetl.http.timestamps import parse_timestamp
from noetl.ledger.items import IncomingEvent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication

ABSENT: Final = msgspec.UNSET

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]

ALIASES: Final = {"name": "event_type", "context": "payload"}

INDEXED_TEXT_LIMIT: Final = 1000
"""Bytes of a text that an index of ``noetl.event`` covers; PostgreSQL refuses index entries above 2,704 bytes."""

_INDEXED_META: Final = ("command_id", "batch_request_id", "idempotency_key", "loop_event_id", "__loop_epoch_id")


class EventLedger(Protocol):
    """What these routes need of the ledger."""

    async def ingest(self, execution_id: int, events: list[IncomingEvent], /) -> list[int]:
        """Commit events of one execution and their consequences; their ids in the order given."""
        ...


class EventObserver(Protocol):
    """What these routes tell the metrics (spec 60, section 10)."""

    def observe_event(self, event_type: str, ok: bool, seconds: float, /) -> None:
        """Count one decoded `POST /api/events`."""
        ...


class EventMembers(msgspec.Struct, gc=False):
    """Optional members that the events of both routes have in common (spec 20, sections 6.1 and 7)."""

    event_type: str | msgspec.UnsetType = ABSENT
    name: str | msgspec.UnsetType = ABSENT
    payload: msgspec.Raw = msgspec.Raw()
    context: msgspec.Raw = msgspec.Raw()
    status: str | msgspec.UnsetType | None = ABSENT
    event_id: int | str | msgspec.UnsetType | None = ABSENT
    created_at: str | msgspec.UnsetType | None = ABSENT
    meta: msgspec.Raw = msgspec.Raw()
    informative: bool | msgspec.UnsetType = ABSENT
    actionable: bool | msgspec.UnsetType = ABSENT


class EventItem(EventMembers, gc=False, kw_only=True):
    """One event of a batch."""

    step: str


class EventRequest(EventMembers, gc=False, kw_only=True):
    """Body of `POST /api/events`."""

    execution_id: int | str
    step: str
    worker_id: str | msgspec.UnsetType | None = ABSENT
    result_kind: str | msgspec.UnsetType = ABSENT
    result_uri: str | msgspec.UnsetType | None = ABSENT
    event_ids: list[Int64] | msgspec.UnsetType | None = ABSENT


class BatchRequest(msgspec.Struct):
    """Body of `POST /api/events/batch`."""

    execution_id: int | str
    events: list[EventItem]
    worker_id: str | msgspec.UnsetType | None = ABSENT


class EventRoutes:
    """The event routes.

    Args:
        ledger: takes the events.
        observer: told about each decoded event of the single route; None for none.
        redacted_keys: key fragments to redact beside the fixed list (spec 20, section 9).
    """

    def __init__(
        self, ledger: EventLedger, observer: EventObserver | None = None, redacted_keys: tuple[str, ...] = ()
    ) -> None:
        self._ledger = ledger
        self._observer = observer
        self._sanitize = Sanitizer(redacted_keys).sanitize
        self._single = msgspec.json.Decoder(EventRequest)
        self._batch = msgspec.json.Decoder(BatchRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``."""
        application.add_route("POST", "/api/events", self.ingest, last=True)
        application.add_route("POST", "/api/events/batch", self.ingest_batch, last=True)

    async def ingest(self, request: Request) -> Response:
        """Commit one event; answers ``{"status","event_id","commands_generated":0}`` (spec 20, section 6.5)."""
        body = await json_text(request)
        event = decode_json(body, self._single)
        refuse_duplicates(body, event, ALIASES)
        event_type = _event_type(event)
        started = time.perf_counter()
        ok = False
        try:
            execution_id = _execution_id(event.execution_id)
            item = self._shaped(event, event_type, _text(event.worker_id), actionable=event.actionable is not False)
            item.result = self._sanitize(_result(event, item.status))
            ids = await self._ledger.ingest(execution_id, [item])
            ok = True
        finally:
            if self._observer is not None:
                self._observer.observe_event(event_type, ok, time.perf_counter() - started)
        return json_bytes_response(event_response(ids[0]))

    async def ingest_batch(self, request: Request) -> Response:
        """Commit the events of one execution together (spec 20, section 7)."""
        body = await json_text(request)
        batch = decode_json(body, self._batch)
        refuse_duplicates(body, batch, ALIASES, batch.events)
        ids: Sequence[int] = ()
        if batch.events:
            execution_id = _execution_id(batch.execution_id)
            worker_id = _text(batch.worker_id)
            items: list[IncomingEvent] = []
            for index, event in enumerate(batch.events):
                place = f"events[{index}]."
                actionable = event.actionable is True
                item = self._shaped(event, _event_type(event, place), worker_id, actionable=actionable, place=place)
                item.worker_id = worker_id
                item.result = self._sanitize(result_envelope(item.status, _object(_payload(event))))
                items.append(item)
            ids = await self._ledger.ingest(execution_id, items)
        return json_bytes_response(orjson.dumps({"status": "ok", "event_ids": ids, "commands_generated": 0}))

    def _shaped(
        self,
        event: EventItem | EventRequest,
        event_type: str,
        worker_id: str | None,
        *,
        actionable: bool,
        place: str = "",
    ) -> IncomingEvent:
        """The validated event, its ``result`` still empty; ``place`` goes before the field's name in refusals."""
        _refuse_text(f"{place}step", event.step)
        _refuse_text(f"{place}event_type", event_type)
        refuse_nul("worker_id", worker_id)
        status = _text(event.status)
        if status is None:
            status = derived_status(event_type)
        else:
            _refuse_text(f"{place}status", status)
        meta = _payload_bytes(event.meta)
        if meta is not None and len(meta) > INDEXED_TEXT_LIMIT:
            _refuse_long_meta(meta, place)
        informative = event.informative is not False
        return IncomingEvent(
            event_type=event_type,
            step=event.step,
            status=status,
            result=b"",
            meta=self._sanitize(event_meta(meta, worker_id, actionable, informative)),
            event_id=_event_id(event.event_id),
            created_at=_created_at(event.created_at, place),
        )


def derived_status(event_type: str) -> str:
    """The status of an event that has none (spec 20, section 6.2)."""
    if "done" in event_type or "exit" in event_type or "completed" in event_type:
        return "COMPLETED"
    if "error" in event_type or "failed" in event_type:
        return "FAILED"
    return "RUNNING"


def _result(event: EventRequest, status: str) -> bytes:
    """The result column (spec 20, section 6.3), not yet redacted."""
    if event.result_kind == "ref" and isinstance(event.result_uri, str):
        uri = event.result_uri
        tier = "gcs" if uri.startswith("gs://") else "s3" if uri.startswith("s3://") else "artifact"
        return orjson.dumps({"status": status, "reference": {"store_tier": tier, "logical_uri": uri}})
    if event.result_kind == "refs" and isinstance(event.event_ids, list):
        reference = {"event_ids": event.event_ids, "total_parts": len(event.event_ids)}
        return msgspec.json.encode({"status": status, "reference": reference})
    return result_envelope(status, _object(_payload(event)))


def _payload(event: EventMembers) -> bytes | None:
    return _payload_bytes(event.payload) or _payload_bytes(event.context)


def _payload_bytes(raw: msgspec.Raw) -> bytes | None:
    """A member's JSON text; None where it is absent or null."""
    text = bytes(raw)
    return None if not text or text == b"null" else text


def _object(text: bytes | None) -> bytes | None:
    return text if text is not None and text.startswith(b"{") else None


def _text(value: str | msgspec.UnsetType | None) -> str | None:
    return value if isinstance(value, str) else None


def _event_type(event: EventMembers, place: str = "") -> str:
    if isinstance(event.event_type, str):
        return event.event_type
    if isinstance(event.name, str):
        return event.name
    refuse_shape(f"{place[:-1]}: missing field `event_type`" if place else "missing field `event_type`")


def _execution_id(value: int | str) -> int:
    parsed = _integer(value)
    if parsed is None:
        raise UnprocessableError("Invalid execution_id")
    return parsed


def _event_id(value: int | str | msgspec.UnsetType | None) -> int | None:
    if value is None or isinstance(value, msgspec.UnsetType):
        return None
    parsed = _integer(value)
    if parsed is None:
        raise UnprocessableError(f"Invalid event_id: {value}")
    return parsed


def _integer(value: int | str) -> int | None:
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else None
    try:
        return parse_integer(value)
    except IntegerSyntaxError:
        return None


def _created_at(value: str | msgspec.UnsetType | None, place: str) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_timestamp(value)
    except ValueError as error:
        refuse_shape(f"{place}created_at: {error}")


def _refuse_text(field: str, text: str) -> None:
    """Refuse what a text column with an index cannot hold."""
    refuse_nul(field, text)
    if len(text) > INDEXED_TEXT_LIMIT or len(text.encode()) > INDEXED_TEXT_LIMIT:
        raise UnprocessableError(f"{field} must not be longer than {INDEXED_TEXT_LIMIT} bytes")


def _refuse_long_meta(meta: bytes, place: str) -> None:
    """Refuse long texts under the members of ``meta`` that are indexed."""
    if meta.startswith(b"{"):
        members: dict[str, Any] = orjson.loads(meta)
        for name in _INDEXED_META:
            value = members.get(name)
            if value is not None and len(orjson.dumps(value)) > INDEXED_TEXT_LIMIT:
                raise UnprocessableError(f"{place}meta.{name} must not be longer than {INDEXED_TEXT_LIMIT} bytes")
