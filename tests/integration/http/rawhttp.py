"""A bare HTTP/1.1 client that sends exactly what a test says: no normalised paths, no added headers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noetl.http.application import HttpApplication

JSON = ("content-type", "application/json")


@dataclass(slots=True)
class Reply:
    """An answer; ``headers`` have lower-case names, repeated ones are joined."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RawClient:
    """One keep-alive connection to a server."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address)
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, *, head: bool = False) -> Reply:
        """Read one answer; ``head`` for the answer to HEAD, which has no body."""
        assert self._reader is not None
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(": ") for line in lines):
            headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
        body = b""
        if head:
            pass
        elif "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                body += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(first.split(" ")[1]), headers, body)

    async def request(
        self,
        method: str,
        target: str,
        body: bytes | str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        *,
        chunks: Iterable[bytes] | None = None,
    ) -> Reply:
        """Send one request, with a content length for ``body`` or chunked for ``chunks``, and read the answer."""
        data = body.encode() if isinstance(body, str) else body
        lines = [f"{method} {target} HTTP/1.1", "host: test", *(f"{name}: {value}" for name, value in headers)]
        if chunks is not None:
            lines.append("transfer-encoding: chunked")
        elif data is not None:
            lines.append(f"content-length: {len(data)}")
        await self.send("\r\n".join([*lines, "", ""]).encode())
        if chunks is not None:
            for chunk in chunks:
                await self.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await self.send(b"0\r\n\r\n")
        elif data:
            await self.send(data)
        return await self.receive(head=method == "HEAD")

    async def get(self, target: str) -> Reply:
        return await self.request("GET", target)

    async def post(self, target: str, body: Any, *headers: tuple[str, str]) -> Reply:
        """POST JSON: text and bytes as they are, anything else serialized."""
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        return await self.request("POST", target, data, [JSON, *headers])

    async def closed(self) -> bool:
        """Wait until the server closes the connection; True when nothing came before that."""
        assert self._reader is not None
        return await self._reader.read(1) == b""

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


class Serve(Protocol):
    """Starts an application (``configuration`` as of `server_configuration`) and gives a client, one more per call."""

    async def __call__(self, application: HttpApplication, **configuration: float) -> RawClient: ...
