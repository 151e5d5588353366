"""`POST /api/internal/container-callback/{execution_id}/{step}`: how a container job ended (spec 20, 10.4)."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import orjson

from noetl._fast.event_codec import event_meta, result_envelope
from noetl.errors import NotFoundError, UnprocessableError
from noetl.http.events import INDEXED_TEXT_LIMIT
from noetl.http.requests import (
    IntegerSyntaxError,
    json_body,
    parse_integer,
    path_text,
    refuse_nul,
    refuse_shape,
)
from noetl.http.responses import json_response, timestamp
from noetl.http.runtime import Int32
from noetl.http.timestamps import parse_timestamp
from noetl.ledger.items import IncomingEvent
from noetl.observability.metrics import CALLBACK_STATES

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.http.events import EventLedger
    from noetl.observability.instruments import Counter, Family
    from noetl.store.container_callbacks import ContainerCallbackStore

NODE_TYPE: Final = "container"


class CallbackCounters(Protocol):
    """What this route counts; `noetl.observability.metrics.Metrics` is one."""

    container_callbacks: Family[Counter]
    stale_container_callbacks: Family[Counter]


class CallbackRequest(msgspec.Struct):
    """Body of the callback."""

    state: str
    job_name: str
    job_uid: str | None = None
    completed_at: str | None = None
    exit_code: Int32 | None = None
    reason: str | None = None
    stdout_uri: str | None = None
    stderr_uri: str | None = None


class ContainerCallbackRoutes:
    """The callback route.

    Args:
        ledger: takes the event.
        store: finds a callback that was stored before.
        counters: told about every accepted callback; None for none.
    """

    def __init__(
        self, ledger: EventLedger, store: ContainerCallbackStore, counters: CallbackCounters | None = None
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._counters = counters
        self._decoder = msgspec.json.Decoder(CallbackRequest)
        self._one_at_a_time = asyncio.Lock()
        """Callbacks hold a connection while the ledger works: one of the pool at most, however many come at once."""

    def register(self, application: HttpApplication) -> None:
        """Add the route to ``application``; `InternalGuard` protects it."""
        application.add_route(
            "POST", "/api/internal/container-callback/{execution_id}/{step}", self.callback, last=True
        )

    async def callback(self, request: Request) -> Response:
        """Store how the job ended as the step's ``call.done``; a repeated callback is answered like the first.

        No decision follows: the engine sees the event with the next one of a worker.
        """
        given = await json_body(request, self._decoder)
        if given.state not in CALLBACK_STATES:
            variants = ", ".join(f"`{state}`" for state in CALLBACK_STATES)
            refuse_shape(f"state: unknown variant `{given.state}`, expected one of {variants}")
        completed_at = _completed_at(given.completed_at)
        execution_id, step = _execution_id(path_text(request, "execution_id")), _step(path_text(request, "step"))
        for name in ("job_name", "job_uid", "reason", "stdout_uri", "stderr_uri"):
            refuse_nul(name, getattr(given, name))
        key = _idempotency_key(step, given)
        try:
            await self._ledger.ingest(execution_id, [])  # loads the execution while no connection is held here
            async with self._one_at_a_time, self._store.exclusively(execution_id, key) as stored:
                event_id = stored
                if event_id is None:
                    [event_id] = await self._ledger.ingest(execution_id, [_event(step, given, completed_at, key)])
        except NotFoundError:
            self._count(given.state, stale=True)
            return json_response({"status": "accepted_stale"}, 202)
        self._count(given.state, stale=False)
        return json_response({"status": "accepted_in_flight", "event_id": str(event_id)}, 202)

    def _count(self, state: str, *, stale: bool) -> None:
        if self._counters is not None:
            family = self._counters.stale_container_callbacks if stale else self._counters.container_callbacks
            family.labels(state).inc()


def _execution_id(text: str) -> int:
    try:
        return parse_integer(text)
    except IntegerSyntaxError:
        raise UnprocessableError(f"container-callback: execution_id '{text}' is not parseable as i64") from None


def _step(text: str) -> str:
    if not text.strip():
        raise UnprocessableError("container-callback: step path param is empty")
    refuse_nul("step", text)
    if len(text.encode()) > INDEXED_TEXT_LIMIT:
        raise UnprocessableError(f"step must not be longer than {INDEXED_TEXT_LIMIT} bytes")
    return text


def _completed_at(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        return parse_timestamp(text)
    except ValueError as error:
        refuse_shape(f"completed_at: {error}")


def _idempotency_key(step: str, given: CallbackRequest) -> str:
    """What makes two callbacks of one execution the same; of fixed length, because an index holds it."""
    digest = hashlib.sha256(orjson.dumps([step, given.job_name, given.state])).hexdigest()
    return f"container-callback:{digest}"


def _event(step: str, given: CallbackRequest, completed_at: datetime, key: str) -> IncomingEvent:
    status = "COMPLETED" if given.state == "succeeded" else "FAILED"
    payload = orjson.dumps(
        {
            "terminal_state": given.state,
            "job_name": given.job_name,
            "job_uid": given.job_uid,
            "completed_at": timestamp(completed_at),
            "exit_code": given.exit_code,
            "reason": given.reason,
            "stdout_uri": given.stdout_uri,
            "stderr_uri": given.stderr_uri,
        }
    )
    return IncomingEvent(
        event_type="call.done",
        step=step,
        status=status,
        result=result_envelope(status, payload),
        meta=event_meta(orjson.dumps({"idempotency_key": key}), None, actionable=False, informative=True),
        context=payload,
        node_type=NODE_TYPE,
    )
