"""A server without NOETL_ENCRYPTION_KEY runs; only what needs the key says so (spec 40, section 2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from noetl.client import NoetlClient
from tests.conftest import INTERNAL_TOKEN
from tests.faults.worker import Crew
from tests.integration.http.rawhttp import JSON, RawClient
from tests.integration.leaks.routes import registered_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.server_process import ServerProcess
    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer

REFUSAL = b'{"error":"NOETL_ENCRYPTION_KEY is not set: credential encryption is unavailable","status":500}'
NEEDS_KEY = ("/api/credentials", "/api/keychain/", "/api/internal/wallet/rotate-kek", "/api/internal/cross-region/")
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: plain, path: without/key}
workflow:
- step: start
  tool: {kind: python, code: "print(1)"}
- step: end
  tool: {kind: noop}
"""


@pytest.fixture(scope="module")
async def server(make_server: MakeServer) -> ServerProcess:
    return await make_server({"NOETL_ENCRYPTION_KEY": " "})


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[NoetlClient]:
    async with NoetlClient(server.url, token=INTERNAL_TOKEN) as opened:
        yield opened


async def test_every_route_that_needs_the_key_says_so_and_no_other_one(
    server: ServerProcess, database_url: str
) -> None:
    raw = RawClient("127.0.0.1", server.port)
    refused: set[str] = set()
    for method, template in await registered_routes(database_url):
        target = "/".join("1" if segment.startswith("{") else segment for segment in template.split("/"))
        body = "{}" if method in {"POST", "PUT", "PATCH"} else None
        reply = await raw.request(method, target, body, [JSON, ("authorization", f"Bearer {INTERNAL_TOKEN}")])
        if template.startswith(NEEDS_KEY) and reply.status != 405:
            assert reply.status == 500, f"{method} {template} {reply.text}"
            assert reply.body == REFUSAL or method == "HEAD"
            refused.add(template)
        else:
            assert reply.status < 500, f"{method} {template} {reply.text}"
    assert len(refused) >= 6
    assert server.log_text().count("NOETL_ENCRYPTION_KEY is not set") == 1
    raw.close()


async def test_executions_run(client: NoetlClient, server: ServerProcess, nats: EmbeddedNats) -> None:
    await client.call("POST", "/api/catalog/register", {"content": PLAYBOOK})
    started = await client.call("POST", "/api/execute", {"path": "without/key"})
    async with Crew([server.url], nats.url, slots=1):
        status: dict[str, Any] = {}
        async with asyncio.timeout(20):
            while not status.get("completed"):
                status = await client.call("GET", f"/api/executions/{started['execution_id']}/status")
    assert status["status"] == "COMPLETED"
