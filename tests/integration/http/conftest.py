"""Serves applications on free ports for the time of a test module."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn

from noetl.http.server import server_configuration
from tests.integration.http.rawhttp import RawClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.http.application import HttpApplication
    from tests.integration.http.rawhttp import Serve


class _Server(uvicorn.Server):
    """A server that tells when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = asyncio.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        self.accepting.set()


@asynccontextmanager
async def running(application: HttpApplication, **configuration: float) -> AsyncIterator[int]:
    """Serve ``application`` inside the block; gives the port."""
    server = _Server(
        server_configuration(application, host="127.0.0.1", port=0, shutdown_timeout_seconds=1, **configuration)
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
