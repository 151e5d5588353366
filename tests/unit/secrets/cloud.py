"""The services of all clouds in one server that is reached as a proxy: real addresses, real TLS, scripted answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noetl.config.provider_settings import ProxySettings
from noetl.config.secret import Secret
from noetl.secrets.web import HttpClient
from tests.unit.secrets.authority import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMES = [
    "broker.test",
    "127.0.0.1", "localhost", "*.googleapis.com", "kubernetes.default.svc", "vault.test",
    "*.eu-west-1.amazonaws.com", "*.us-east-1.amazonaws.com", "*.ap-south-1.amazonaws.com",
    "*.vault.azure.net", "login.microsoftonline.com",
]  # fmt: skip


@dataclass
class Asked:
    """One request as the service saw it; header names are in lower case."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.url}"


@dataclass
class Cloud:
    """Answers by ``METHOD url``: JSON documents or bytes, with a status where it is not 200; unknown ones get 404.

    A list of answers is given out one by one, the last one for ever.
    """

    proxy_url: str = ""
    port: int = 0
    authority: Authority = field(default_factory=Authority)
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    tunnels: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    def client(self) -> HttpClient:
        """A client that goes through the proxy with everything."""
        return HttpClient(ProxySettings(all=Secret(self.proxy_url)))

    @property
    def lines(self) -> list[str]:
        return [one.line for one in self.asked]

    def answer_to(self, request: Asked) -> tuple[int, bytes]:
        answer = self.answers.get(request.line)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            return 404, f"nothing at {request.line}".encode()
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


@asynccontextmanager
async def running_cloud(folder: Path, cloud: Cloud | None = None) -> AsyncIterator[Cloud]:
    """Serve inside the block."""
    cloud = cloud or Cloud()
    context = cloud.authority.server_context(folder, NAMES)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            origin = ""
            request = await _read(reader, "")
            if request.method == "CONNECT":
                cloud.tunnels.append((request.url, request.headers))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await writer.start_tls(context)
                origin = f"https://{request.url.removesuffix(':443')}"
                request = await _read(reader, origin)
            cloud.asked.append(request)
            cloud.arrived.set()
            if cloud.hold is not None:
                await cloud.hold.wait()
            status, body = cloud.answer_to(request)
            head = f"HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", cloud.port)
    cloud.port = server.sockets[0].getsockname()[1]
    cloud.proxy_url = f"http://127.0.0.1:{cloud.port}"
    try:
        yield cloud
    finally:
        server.close()


async def _read(reader: asyncio.StreamReader, origin: str) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = [line.split(": ", 1) for line in lines]
    assert len({name for name, _ in pairs}) == len(pairs), "a header twice"
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, origin + target, headers, body)
