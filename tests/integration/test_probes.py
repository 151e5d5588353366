"""Liveness and readiness of the running server while its services come and go, and while it stops."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

from noetl.dev.services import EmbeddedNats
from tests.integration.http.rawhttp import RawClient

if TYPE_CHECKING:
    from pathlib import Path

    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakePostgres, MakeServer


async def probe(server: ServerProcess, path: str) -> tuple[int, str]:
    """Status and body of a probe over a connection of its own, as Kubernetes does it, within its five seconds."""
    client = RawClient("127.0.0.1", server.port)
    async with asyncio.timeout(5):
        await client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        reply = await client.receive()
    return reply.status, reply.text


async def until(server: ServerProcess, path: str, status: int) -> str:
    async with asyncio.timeout(20):
        while True:
            found, body = await probe(server, path)
            if found == status:
                return body
            await asyncio.sleep(0.05)


async def test_replica_is_not_ready_but_alive_without_nats(make_server: MakeServer, tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path / "nats") as nats:
        server = await make_server(nats_url=nats.url)
        await nats.kill()
        body = await until(server, "/readyz", 503)
        assert '"nats":"disconnected"' in body
        assert (await probe(server, "/healthz"))[0] == 200
        assert (await probe(server, "/api/health"))[0] == 200
        await nats.start()
        await until(server, "/readyz", 200)


async def test_replica_is_not_ready_but_alive_without_the_database(
    make_server: MakeServer, make_postgres: MakePostgres
) -> None:
    cluster = await make_postgres()
    server = await make_server(database_url=cluster.dsn)
    await cluster.kill()
    await until(server, "/readyz", 503)
    started = time.monotonic()
    assert (await probe(server, "/healthz"))[0] == 200
    assert (await probe(server, "/readyz"))[0] == 503
    assert (await probe(server, "/api/health"))[0] == 503
    assert time.monotonic() - started < 1
    await cluster.start()
    await until(server, "/readyz", 200)


async def test_server_starts_before_nats_and_becomes_ready_with_it(make_server: MakeServer, tmp_path: Path) -> None:
    nats = EmbeddedNats(tmp_path / "nats")
    server = await make_server(nats_url=nats.url, start=False)
    starting = asyncio.create_task(server.start())
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    status, _ = await probe(server, "/healthz")
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        assert status == 200
        assert (await probe(server, "/readyz"))[0] == 503
        async with nats:
            await starting
    finally:
        starting.cancel()


async def test_without_nats_configured_the_replica_is_ready(make_server: MakeServer) -> None:
    server = await make_server(nats_url="")
    status, body = await probe(server, "/readyz")
    assert (status, '"nats":"not_configured"' in body) == (200, True)


async def test_stopping_replica_is_not_ready_and_still_serves(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_SHUTDOWN_DELAY_SECONDS": "1"})
    process = server._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    process.send_signal(signal.SIGTERM)
    body = await until(server, "/readyz", 503)
    assert '"status":"draining"' in body
    assert (await probe(server, "/healthz"))[0] == 200
    assert (await probe(server, "/api/executions"))[0] == 200
    assert await asyncio.to_thread(process.wait, 20) == 0


async def test_probes_leave_no_line_in_the_log(make_server: MakeServer) -> None:
    server = await make_server({"RUST_LOG": "info,noetl_server=debug"})
    before = server.log_text().count("\n")
    for _ in range(25):
        for path in ("/healthz", "/readyz", "/health", "/api/health"):
            await probe(server, path)
    await probe(server, "/api/none")  # lines are in order: when this one is there, all are
    async with asyncio.timeout(10):
        while "/api/none" not in server.log_text():  # noqa: ASYNC110 (another process's log)
            await asyncio.sleep(0.02)
    lines = server.log_text().splitlines()[before:]
    assert not [line for line in lines if "health" in line or "readyz" in line]
