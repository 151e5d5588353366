"""The internal routes as one application behind its token, on a real ledger."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from noetl.config.secret import Secret
from noetl.http.application import HttpApplication
from noetl.http.container_callback import ContainerCallbackRoutes
from noetl.http.internal_auth import InternalGuard, InternalToken
from noetl.http.outbox import OutboxRoutes
from noetl.http.projection import ProjectionRoutes
from noetl.store.container_callbacks import ContainerCallbackStore
from noetl.store.outbox import OutboxStore
from noetl.store.projection import ProjectionStore
from tests.integration.http.rawhttp import JSON

if TYPE_CHECKING:
    from noetl.http.container_callback import CallbackCounters
    from tests.integration.http.rawhttp import RawClient, Reply
    from tests.integration.ledger_harness import LedgerHarness

TOKEN = "token-of-the-tests"
LOCK_TIMEOUT_SECONDS = 300.0


def internal_application(
    harness: LedgerHarness, counters: CallbackCounters | None = None, token: str | None = TOKEN
) -> HttpApplication:
    """All internal routes over the ledger of ``harness``."""
    application = HttpApplication()
    database = harness.database
    for routes in (
        OutboxRoutes(OutboxStore(database, LOCK_TIMEOUT_SECONDS)),
        ProjectionRoutes(ProjectionStore(database)),
        ContainerCallbackRoutes(harness.ledger, ContainerCallbackStore(database), counters),
        InternalGuard(InternalToken(None if token is None else Secret(token))),
    ):
        routes.register(application)
    return application


async def call(client: RawClient, target: str, body: Any = None) -> Reply:
    """GET, or POST with a JSON body, with the token."""
    headers = [("authorization", f"Bearer {TOKEN}")]
    if body is None:
        return await client.request("GET", target, None, headers)
    text = body if isinstance(body, str) else json.dumps(body)
    return await client.request("POST", target, text, [JSON, *headers])
