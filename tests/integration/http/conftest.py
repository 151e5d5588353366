"""Serves applications on free ports for the time of a test module, and what modules have in common behind them.

=========  ========  ===============================================================================================
fixture    scope     gives
=========  ========  ===============================================================================================
serve      module    ``await serve(application)`` -> one more `RawClient` of the application
harness    module    a ledger that knows the playbook ``two``: ``start``, then ``end``
routes     module    the application of `client_application`, and its database
client     function  a `RawClient` of ``routes``
=========  ========  ===============================================================================================

All are on the module's own database; modules that need more override them with fixtures of the same name.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from noetl.http.server import server_configuration
from tests.integration.http.client_application import client_application
from tests.integration.http.rawhttp import RawClient
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.http.application import HttpApplication
    from tests.integration.http.client_application import ClientRoutes
    from tests.integration.http.rawhttp import Serve
    from tests.integration.ledger_harness import LedgerHarness

TWO_STEPS = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: two, path: two}
workload: {}
workflow:
  - step: start
    tool: {kind: noop}
    next:
      arcs: [{step: end}]
  - step: end
    tool: {kind: noop}
"""


class _Server(uvicorn.Server):
    """A server that tells when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        self.accepting.set()


@asynccontextmanager
async def running(application: HttpApplication, **configuration: Any) -> AsyncIterator[int]:
    """Serve ``application`` inside the block; gives the port."""
    server = _Server(
        server_configuration(
            application,
            refusal=application.refusal,
            host="127.0.0.1",
            port=0,
            shutdown_timeout_seconds=1,
            **configuration,
        )
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    async with asyncio.TaskGroup() as group:
        # _serve instead of serve: pytest keeps the signal handlers
        group.create_task(server._serve())
        await server.accepting.wait()
        try:
            yield server.servers[0].sockets[0].getsockname()[1]
        finally:
            server.should_exit = True


@pytest.fixture(scope="module")
async def serve() -> AsyncIterator[Serve]:
    ports: dict[int, int] = {}
    async with AsyncExitStack() as stack:

        async def start(application: HttpApplication, **configuration: float) -> RawClient:
            port = ports.get(id(application))
            if port is None:
                port = ports[id(application)] = await stack.enter_async_context(running(application, **configuration))
            client = RawClient("127.0.0.1", port)
            stack.callback(client.close)
            return client

        yield start


@pytest.fixture(scope="module")
async def harness(migrated_database_url: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(migrated_database_url) as opened:
        await opened.register(TWO_STEPS)
        yield opened


@pytest.fixture(scope="module")
async def routes(migrated_database_url: str) -> AsyncIterator[ClientRoutes]:
    async with client_application(migrated_database_url) as opened:
        yield opened


@pytest.fixture
async def client(routes: ClientRoutes, serve: Serve) -> RawClient:
    return await serve(routes.application)
