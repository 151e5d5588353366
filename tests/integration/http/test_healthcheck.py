"""The health check of the image: exit codes of the real command against a real server."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from noetl.http.application import HttpApplication
from noetl.http.responses import json_response
from noetl.http.tls import ServerTls
from tests.integration.http.conftest import running
from tests.unit.secrets.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from blacksheep import Request, Response


async def exit_code(environment: dict[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", "noetl.healthcheck", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    return await process.wait()


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "client certificates"])
async def test_the_answer_of_the_server_is_the_exit_code(tmp_path: Path, secured: bool) -> None:
    async def ready(_request: Request) -> Response:
        return json_response({"ok": True})

    async def unwell(_request: Request) -> Response:
        return json_response({"ok": False}, 503)

    application = HttpApplication()
    application.add_route("GET", "/readyz", ready)
    application.add_route("GET", "/healthz", unwell)
    environment = {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "NOETL_HOST": "0.0.0.0"}
    tls = None
    if secured:
        authority = Authority()
        chain = str(authority.issue(tmp_path / "server.pem", ["noetl.test"]))
        (tmp_path / "ca.pem").write_text(authority.pem)
        tls = ServerTls(chain, chain, str(tmp_path / "ca.pem"))
        environment |= {"NOETL_TLS_CERT": chain, "NOETL_TLS_CLIENT_CA": str(tmp_path / "ca.pem")}
    async with running(application, tls=None if tls is None else tls.context) as port:
        environment["NOETL_PORT"] = str(port)
        assert await exit_code(environment, "/readyz") == 0
        assert await exit_code(environment) == 1
    assert await exit_code(environment, "/readyz") == 1
