"""What goes into the ledger and what comes back: the vocabulary between `http/` and the lanes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class StartExecution(msgspec.Struct):
    """Start one execution. ``catalog_id`` wins over ``path``; ``version`` None means the newest of the path."""

    path: str | None = None
    catalog_id: int | None = None
    version: int | None = None
    payload: dict[str, Any] = {}
    parent_execution_id: int | None = None
    idempotency_key: str | None = None


class StartedExecution(msgspec.Struct):
    """Answer to a start; ``commands_generated`` counts all iterations of a looped start step (spec 30, 1.1)."""

    execution_id: int
    commands_generated: int


class IncomingEvent(msgspec.Struct):
    """One event as a client sent it, already validated, redacted and shaped (spec 20, sections 6 and 9).

    ``status`` is resolved; ``result`` and ``meta`` are JSON texts ready for the columns; ``created_at`` is naive UTC
    (None: the server's clock); ``event_id`` None: the server mints one. ``worker_id`` fills the column of that name,
    which only the batch route does.
    """

    event_type: str
    step: str
    status: str
    result: bytes
    meta: bytes
    event_id: int | None = None
    created_at: datetime | None = None
    worker_id: str | None = None
    context: bytes | None = None
    node_type: str | None = None


class CommandView(msgspec.Struct):
    """An issued command as `GET /api/commands/{id}` and the claim show it; ``context`` and ``meta`` are JSON texts."""

    execution_id: int
    event_id: int
    step: str
    tool_kind: str
    context: bytes | None
    meta: bytes | None
