"""A worker's way to a sealed credential on a real server, opened without the library that sealed it (spec 40, 6)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from noetl.client import ApiError, NoetlClient
from tests.conftest import INTERNAL_TOKEN
from tests.unit.secrets.independent_opening import BASE_POINT, open_envelope, x25519

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeServer

VALUE = {"token": "t\u00f6ken", "nested": {"b": 1, "a": [None, 2.0]}}


@pytest.fixture(scope="module")
async def client(make_server: MakeServer) -> AsyncIterator[NoetlClient]:
    server = await make_server()
    async with NoetlClient(server.url, token=INTERNAL_TOKEN) as opened:
        await opened.call("POST", "/api/credentials", {"name": "api", "type": "bearer", "data": VALUE})
        yield opened


async def register(client: NoetlClient, name: str, secret: bytes) -> None:
    """As a worker with NOETL_SEALED_CREDENTIALS=true does at its start."""
    public_key = base64.b64encode(x25519(secret, BASE_POINT)).decode()
    runtime = {"kind": "rust", "worker_public_key": public_key}
    body = {"name": name, "component_type": "worker_pool", "runtime": runtime, "status": "ready", "capacity": 4}
    await client.call("POST", "/api/worker/pool/register", body)


async def sealed(client: NoetlClient, worker: str) -> dict[str, Any]:
    return await client.call("GET", f"/api/credentials/api/sealed?worker_id={worker}&execution_id=77")


async def test_a_registered_worker_opens_what_the_plain_answer_says(client: NoetlClient) -> None:
    secret = os.urandom(32)
    await register(client, "w1", secret)
    opened = json.loads(open_envelope(await sealed(client, "w1"), secret))
    assert opened == await client.call("GET", "/api/credentials/api?include_data=true")
    assert (opened["type"], opened["data"]) == ("bearer", VALUE)


async def test_another_worker_cannot_open_it(client: NoetlClient) -> None:
    first, second = os.urandom(32), os.urandom(32)
    await register(client, "w1", first)
    await register(client, "w2", second)
    envelope = await sealed(client, "w1")
    with pytest.raises(ValueError, match="wrong tag"):
        open_envelope(envelope, second)
    assert json.loads(open_envelope(envelope, first))["data"] == VALUE


async def test_a_worker_that_has_not_registered_gets_nothing_and_is_recorded(client: NoetlClient) -> None:
    with pytest.raises(ApiError) as caught:
        await sealed(client, "stranger")
    assert caught.value.status == 400
    async with asyncio.timeout(10):
        found: list[dict[str, Any]] = []
        while not found:  # written in the background
            answer = await client.call("GET", "/api/internal/secret-audit?worker_id=stranger")
            found = answer["rows"]
    (row,) = found
    assert (row["credential"], row["operation"], row["outcome"]) == ("api", "get_sealed", "no_pubkey")
    assert (row["execution_id"], row["notes"]) == (77, "client 127.0.0.1")
