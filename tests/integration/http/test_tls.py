"""TLS of the port: versions, client certificates, and new certificates without a restart (spec 60, section 14)."""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvloop

from noetl.http.application import HttpApplication
from noetl.http.responses import json_response
from noetl.http.tls import PROBES, ServerTls
from tests.integration.http.conftest import running
from tests.unit.secrets.authority import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from blacksheep import Request, Response

ADDRESS = ["127.0.0.1"]


@asynccontextmanager
async def serving(tls: ServerTls, gate: asyncio.Event | None = None) -> AsyncIterator[int]:
    """An application behind TLS that watches its files; gives the port. With a gate, one request at it is the limit."""

    async def answer(_request: Request) -> Response:
        return json_response({"ok": True})

    async def wait(_request: Request) -> Response:
        assert gate is not None
        await gate.wait()
        return json_response({"ok": True})

    application = HttpApplication(max_in_flight=100 if gate is None else 1)
    application.add_route("GET", "/gate", wait)
    for method, path in (("GET", "/"), ("POST", "/healthz"), *(("GET", probe.decode()) for probe in PROBES)):
        application.add_route(method, path, answer)
    watching = asyncio.create_task(tls.watch())
    try:
        async with running(application, tls=tls.context) as port:
            yield port
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def trusting(*authorities: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    """A client that trusts these authorities, and shows a certificate if it has one."""
    context = ssl.create_default_context(cadata="".join(authority.pem for authority in authorities))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


async def status(port: int, context: ssl.SSLContext | None, target: str = "GET /") -> int:
    """Status of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(f"{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ConnectionResetError("closed without an answer")
    return int(line.split()[1])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_1_2_and_1_3_are_spoken(tmp_path: Path, version: ssl.TLSVersion) -> None:
    authority = Authority()
    chain = str(authority.issue(tmp_path / "server.pem", ADDRESS))
    client = trusting(authority)
    client.minimum_version = client.maximum_version = version
    async with serving(ServerTls(chain, chain)) as port:
        assert await status(port, client) == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_1_1_and_plain_http_are_refused(tmp_path: Path) -> None:
    authority = Authority()
    chain = str(authority.issue(tmp_path / "server.pem", ADDRESS))
    client = trusting(authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(ServerTls(chain, chain)) as port:
        with pytest.raises(OSError):
            await status(port, client)
        with pytest.raises((OSError, ValueError)):
            await status(port, None)


async def test_client_certificates_are_wanted_and_verified(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    chain = str(authority.issue(tmp_path / "server.pem", ADDRESS))
    (tmp_path / "ca.pem").write_text(authority.pem)
    ours = authority.issue(tmp_path / "client.pem", ["client"])
    theirs = stranger.issue(tmp_path / "stranger.pem", ["client"])
    async with serving(ServerTls(chain, chain, str(tmp_path / "ca.pem"))) as port:
        assert await status(port, trusting(authority, certificate=ours)) == 200
        assert await status(port, trusting(authority)) == 403
        with pytest.raises(OSError):
            await status(port, trusting(authority, certificate=theirs))
        assert await status(port, trusting(authority, certificate=ours)) == 200


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_without_a_client_certificate_only_probes_are_answered(
    tmp_path: Path, run: Callable[[Coroutine[None, None, dict[str, int]]], dict[str, int]]
) -> None:
    authority = Authority()
    chain = str(authority.issue(tmp_path / "server.pem", ADDRESS))
    (tmp_path / "ca.pem").write_text(authority.pem)
    refused = ["/", "//healthz", "/healthz/", "/healthz/..", "/%68ealthz", "/api/x", "http://127.0.0.1/"]
    targets = [*(f"GET {probe.decode()}" for probe in PROBES), "GET /healthz?x=1", "POST /healthz", "HEAD /healthz"]

    async def ask() -> dict[str, int]:
        async with serving(ServerTls(chain, chain, str(tmp_path / "ca.pem"))) as port:
            return {
                target: await status(port, trusting(authority), target)
                for target in targets + [f"GET {path}" for path in refused]
            }

    given = run(ask())
    assert {target for target, found in given.items() if found == 200} == set(targets[:4])
    assert {found for target, found in given.items() if target not in targets[:4]} == {403}


async def test_a_refused_client_gets_no_second_request(tmp_path: Path) -> None:
    authority = Authority()
    chain = str(authority.issue(tmp_path / "server.pem", ADDRESS))
    (tmp_path / "ca.pem").write_text(authority.pem)
    async with serving(ServerTls(chain, chain, str(tmp_path / "ca.pem"))) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority))
        request = b"HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(b"GET /healthz " + request)
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
        writer.write(b"GET / " + request + b"GET /healthz " + request)
        answers = await reader.read()
        assert answers.count(b"HTTP/1.1") == 1
        assert b'{"error":"A client certificate is required","status":403}' in answers
        writer.close()


async def test_overload_does_not_answer_those_without_a_certificate(tmp_path: Path) -> None:
    authority = Authority()
    chain = str(authority.issue(tmp_path / "server.pem", ADDRESS))
    ours = authority.issue(tmp_path / "client.pem", "client")
    (tmp_path / "ca.pem").write_text(authority.pem)
    gate = asyncio.Event()
    async with serving(ServerTls(chain, chain, str(tmp_path / "ca.pem")), gate) as port, asyncio.timeout(10):
        waiting = asyncio.create_task(status(port, trusting(authority, certificate=ours), "GET /gate"))
        while await status(port, trusting(authority, certificate=ours), "GET /") != 503:
            pass
        assert await status(port, trusting(authority), "GET /") == 403
        gate.set()
        assert await waiting == 200


async def test_a_new_certificate_is_taken_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Authority(), Authority()
    chain = first.issue(tmp_path / "server.pem", ADDRESS)
    async with serving(ServerTls(str(chain), str(chain), look_seconds=0.01)) as port, asyncio.timeout(10):
        assert await status(port, trusting(first)) == 200
        replace(chain, b"not a certificate")
        while "New TLS files cannot be used" not in caplog.text:  # noqa: ASYNC110 (the log is what tells)
            await asyncio.sleep(0.01)
        assert await status(port, trusting(first)) == 200
        replace(chain, second.issue(tmp_path / "new.pem", ADDRESS).read_bytes())
        while True:
            try:
                assert await status(port, trusting(second)) == 200
                break
            except ssl.SSLCertVerificationError:
                await asyncio.sleep(0.01)
        with pytest.raises(ssl.SSLCertVerificationError):
            await status(port, trusting(first))


def replace(file: Path, content: bytes) -> None:
    """A new file in the place of another, as a mounted secret gets one."""
    beside = file.with_suffix(".beside")
    beside.write_bytes(content)
    os.replace(beside, file)
