"""A client that calls an application without a server between, for tests with many applications."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tests.integration.http.rawhttp import Reply

if TYPE_CHECKING:
    from noetl.http.application import HttpApplication


class InProcessClient:
    """Requests to one application."""

    def __init__(self, application: HttpApplication) -> None:
        self._application = application

    async def get(self, target: str) -> Reply:
        return await self._request("GET", target, b"", [])

    async def post(self, target: str, body: Any, *headers: tuple[str, str]) -> Reply:
        """POST a JSON document."""
        given = [("content-type", "application/json"), *headers]
        return await self._request("POST", target, json.dumps(body).encode(), given)

    async def _request(self, method: str, target: str, body: bytes, headers: list[tuple[str, str]]) -> Reply:
        path, _, query = target.partition("?")
        lines = [("host", "test"), ("content-length", str(len(body))), *headers]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in lines],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        received = [{"type": "http.request", "body": body, "more_body": False}]
        reply = Reply(0, {}, b"")

        async def receive() -> dict[str, Any]:
            return received.pop() if received else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")

        await self._application(scope, receive, send)
        return reply
