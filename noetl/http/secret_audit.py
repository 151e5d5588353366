"""`/api/internal/secret-audit`: who asked for which secret (spec 40, section 13)."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Final

from noetl.errors import RejectedRequestError
from noetl.http.requests import Query, refuse_nul
from noetl.http.responses import json_response
from noetl.http.timestamps import parse_timestamp
from noetl.store.secret_audit import AuditFilter

if TYPE_CHECKING:
    from datetime import datetime

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.secret_audit import SecretAuditStore

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 10_000


class SecretAuditRoutes:
    """The audit's route; `InternalGuard` protects it. Ids are JSON numbers, whatever NOETL_JSON_IDS says."""

    def __init__(self, store: SecretAuditStore) -> None:
        self._store = store

    def register(self, application: HttpApplication) -> None:
        """Add the route to ``application``."""
        application.add_route("GET", "/api/internal/secret-audit", self.find)

    async def find(self, request: Request) -> Response:
        """The newest rows that fit; ``from`` is part of the time asked for, ``to`` is not."""
        query = Query(request)
        wanted = AuditFilter(
            credential=_text(query, "credential"),
            execution_id=query.integer("execution_id"),
            from_=_moment(query, "from"),
            to=_moment(query, "to"),
            worker_id=_text(query, "worker_id"),
            operation=_text(query, "operation"),
            outcome=_text(query, "outcome"),
        )
        limit = query.integer("limit")
        rows = await self._store.find(wanted, min(max(DEFAULT_LIMIT if limit is None else limit, 1), MAX_LIMIT))
        return json_response({"rows": rows})


def _text(query: Query, name: str) -> str | None:
    text = query.text(name)
    refuse_nul(name, text)
    return text


def _moment(query: Query, name: str) -> datetime | None:
    text = query.text(name)
    if text is None:
        return None
    try:
        return parse_timestamp(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise RejectedRequestError(400, f"Failed to deserialize query string: {name}: {error}") from None
