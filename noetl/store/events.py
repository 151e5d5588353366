"""Reading the event log: pages and tails for the fold, issued commands, repeated events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from noetl.engine.events import Event, reads_payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noetl.store.connection import Connection, Record

_EPOCH = datetime(1970, 1, 1)
_TEXTS: Final = ("context", "result", "meta", "error")
LATELY: Final = 24 * 3_600_000 << 22
"""A day as the difference of two snowflakes: nearly every command belongs to an execution that began within it, and the
executor then opens one or two partitions of the log, in place of all."""
_FOLDED = """event_id, event_type, node_name, node_type, status, catalog_id, parent_event_id, parent_execution_id,
    worker_id,
    CASE WHEN event_type <> 'command.issued' OR meta @> '{"iteration_index": 0}' THEN context END AS context,
    result, meta, error, coalesce(log_position, 0) AS log_position,
    CASE WHEN event_type IN ('command.claimed', 'command.heartbeat') THEN ingest_time AT TIME ZONE 'UTC'
        ELSE created_at END AS created_at"""
"""What the fold reads. Contexts of issued commands are large, and only a loop's first one is looked at again. When a
worker was last heard is told by our clock, not by its own."""


class IssuedCommand(msgspec.Struct, gc=False):
    """The ``command.issued`` row of a command; ``context`` and ``meta`` are JSON texts."""

    execution_id: int
    event_id: int
    step: str
    tool_kind: str
    context: bytes | None
    meta: bytes | None


class StoredEvent(msgspec.Struct, gc=False):
    """Enough of a stored event to tell a repeated delivery from another event with the same id."""

    event_type: str
    node_name: str | None
    status: str | None
    same_result: bool


class EventPage:
    """Rows of the log, which become events one by one: decoded, an event is many times as large as its text."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self.size: Final = sum(len(record[name] or "") for record in records for name in _TEXTS)
        """Bytes of the texts, about."""

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Event]:
        return map(_event, self._records)


class EventStore:
    """Statements on ``event`` for one schema."""

    def __init__(self, schema: str) -> None:
        event = f"{schema}.event"
        self._unpositioned = (
            f"SELECT {_FOLDED} FROM {event} WHERE execution_id = $1 AND log_position IS NULL AND event_id > $2"
            " ORDER BY event_id LIMIT $3"
        )
        self._positioned = (
            f"SELECT {_FOLDED} FROM {event} AS logged WHERE execution_id = $1 AND logged.log_position > $2"
            # qualified: the bare name is that of the result, which no index has in order
            " ORDER BY logged.log_position LIMIT $3"
        )
        issued = (
            f"SELECT execution_id, event_id, node_name, node_type, context, meta FROM {event}"
            " WHERE event_id = $1 AND event_type = 'command.issued'"
        )
        self._issued_lately = f"{issued} AND execution_id BETWEEN $1 - {LATELY} AND $1 ORDER BY execution_id LIMIT 1"
        self._issued = f"{issued} ORDER BY execution_id LIMIT 1"
        self._issued_of = (
            f"SELECT execution_id, event_id, node_name, node_type, context, meta FROM {event}"
            " WHERE execution_id = $1 AND event_id = $2 AND event_type = 'command.issued'"
        )
        self._repeated = (
            "SELECT stored.event_type, stored.node_name, stored.status,"
            f" stored.result IS NOT DISTINCT FROM $3::text::jsonb AS same_result FROM {event} AS stored"
            " WHERE stored.execution_id = $1 AND stored.event_id = $2"
        )
        self._catalog_of = f"SELECT catalog_id FROM {event} WHERE execution_id = $1 LIMIT 1"

    async def page(
        self, execution_id: int, after_position: int, after_event_id: int, limit: int, connection: Connection
    ) -> EventPage:
        """The next events in commit order.

        Rows from before our schema have no position; they come first, by event id. Pass the ``log_position`` and
        ``event_id`` of the last event seen (0 and the smallest bigint to begin); fewer than ``limit`` events with a
        position mean the end.
        """
        records: list[Record] = []
        if after_position == 0:
            records += await connection.fetch(self._unpositioned, execution_id, after_event_id, limit)
        if len(records) < limit:
            records += await connection.fetch(self._positioned, execution_id, after_position, limit - len(records))
        return EventPage(records)

    async def tail(self, connection: Connection, execution_id: int, after_position: int) -> list[Event]:
        """Everything that was appended behind a position."""
        records = await connection.fetch(self._positioned, execution_id, after_position, None)
        return [_event(record) for record in records]

    async def issued(
        self, connection: Connection, event_id: int, execution_id: int | None = None
    ) -> IssuedCommand | None:
        """The issued command with this event id, or None.

        A row without tool kind or context, which only a client can have posted, is none (spec 20, section 5.2, C6).
        """
        if execution_id is None:
            record = await connection.fetchrow(self._issued_lately, event_id) if event_id >= LATELY else None
            record = record or await connection.fetchrow(self._issued, event_id)
        else:
            record = await connection.fetchrow(self._issued_of, execution_id, event_id)
        if record is None or record["node_type"] is None or record["context"] is None or record["node_name"] is None:
            return None
        meta = record["meta"]
        return IssuedCommand(
            execution_id=record["execution_id"],
            event_id=record["event_id"],
            step=record["node_name"],
            tool_kind=record["node_type"],
            context=record["context"].encode(),
            meta=None if meta is None else meta.encode(),
        )

    async def stored(self, connection: Connection, execution_id: int, event_id: int, result: str) -> StoredEvent | None:
        """The event under an id, compared with the ``result`` (JSON text) that a client sent for it."""
        record = await connection.fetchrow(self._repeated, execution_id, event_id, result)
        return None if record is None else StoredEvent(**record)

    async def catalog_of(self, connection: Connection, execution_id: int) -> int | None:
        """The catalog id of an execution, or None when it has no event."""
        return await connection.fetchval(self._catalog_of, execution_id)


def _event(record: Record) -> Event:
    event_type = record["event_type"] or ""
    payload = reads_payload(event_type)
    created = record["created_at"]
    return Event(
        event_id=record["event_id"],
        event_type=event_type,
        node_name=record["node_name"],
        node_type=record["node_type"],
        status=record["status"],
        catalog_id=record["catalog_id"],
        parent_event_id=record["parent_event_id"],
        parent_execution_id=record["parent_execution_id"],
        worker_id=record["worker_id"],
        context=_decoded(record["context"]) if payload else None,
        result=_decoded(record["result"]) if payload else None,
        meta=_decoded(record["meta"]) if payload else None,
        error=record["error"],
        created_at_us=microseconds(created),
        log_position=record["log_position"],
    )


def _decoded(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def microseconds(moment: datetime) -> int:
    """Unix time in microseconds of a naive UTC (or aware) datetime."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
