"""The HTTP/1 connection: what uvicorn does not do by itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import MakeServer

REQUEST = b"GET /health HTTP/1.0\r\nHost: x\r\nConnection: Keep-Alive\r\n\r\n"


async def test_http_1_0_client_that_asks_for_it_keeps_its_connection(make_server: MakeServer) -> None:
    server = await make_server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(3):
        writer.write(REQUEST)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).lower()
        assert b"connection: keep-alive" in head
        assert await reader.readexactly(15) == b'{"status":"ok"}'
    writer.close()


async def test_http_1_0_client_that_does_not_ask_is_closed(make_server: MakeServer) -> None:
    server = await make_server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST.replace(b"Connection: Keep-Alive\r\n", b""))
    assert (await asyncio.wait_for(reader.read(), 5)).endswith(b'{"status":"ok"}')
    writer.close()
