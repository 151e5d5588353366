"""Outgoing requests: whole answers, time limits, redirects, proxies, trust."""

from __future__ import annotations

import asyncio
import base64
import ssl
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from noetl.config.provider_settings import ProxySettings
from noetl.config.secret import Secret
from noetl.secrets.providers.files import Authorities
from noetl.secrets.proxies import Proxies, ProxyAddressError
from noetl.secrets.web import ANSWER_LIMIT, AnswerError, HttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.unit.secrets.cloud import Cloud

AUTHORIZED = {"authorization": "Bearer t", "x-vault-token": "v", "accept": "text/x"}


@asynccontextmanager
async def raw_server(answer: bytes, *, keep_open: bool = False) -> AsyncIterator[str]:
    """Sends these bytes to everybody; the address."""
    closing = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if keep_open:
            await closing.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        closing.set()
        server.close()


async def get(url: str, seconds: float = 5.0) -> tuple[int, bytes]:
    return await HttpClient()("GET", url, headers={}, body=None, timeout_seconds=seconds)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabcd",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nabcd",
    ],
    ids=["length", "chunks", "until the end", "after interim answers"],
)
async def test_answers_of_all_forms_are_read(answer: bytes) -> None:
    async with raw_server(answer) as url:
        assert await get(url) == (200, b"abcd")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcd", "before the answer was complete"),
        (b"SSH-2.0-x\r\n\r\n", "not HTTP"),
        (b"", "before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(ANSWER_LIMIT + 1), "larger than"),
        (b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx", "another protocol"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 201 OK\r\n\r\n", "more than one"),
        (b"HTTP/1.1 302 X\r\ncontent-length: 0\r\nlocation: http://[bad\r\n\r\n", "not an address"),
        (b"HTTP/1.1 302 X\r\ncontent-length: 0\r\nlocation: http://a..b/\r\n\r\n", "not an address"),
    ],
    ids=[
        "cut off",
        "other protocol",
        "nothing",
        "too large",
        "switching protocols",
        "interim only",
        "two answers",
        "no address",
        "no host",
    ],
)
async def test_what_is_no_whole_answer_is_refused(answer: bytes, cause: str) -> None:
    async with raw_server(answer) as url:
        with pytest.raises(AnswerError, match=cause):
            await get(url)


async def test_the_time_limit_is_for_the_whole_answer() -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcd", keep_open=True) as url:
        with pytest.raises(TimeoutError):
            await get(url, 0.1)


async def test_a_line_break_in_a_header_is_not_sent() -> None:
    async with raw_server(b"") as url:
        with pytest.raises(AnswerError, match="line break"):
            await HttpClient()("GET", url, headers={"x": "a\r\nb: c"}, body=None, timeout_seconds=5)


async def test_no_token_follows_a_redirect_to_another_host() -> None:
    async with raw_server(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: http://127.0.0.2/\r\n\r\n") as url:
        seen: list[str] = []

        async def second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        other = await asyncio.start_server(second, "127.0.0.1", 0)
        port = other.sockets[0].getsockname()[1]
        proxies = ProxySettings(http=Secret(f"http://127.0.0.1:{port}"), exceptions="127.0.0.1/32")
        client = HttpClient(proxies)
        assert (await client("GET", url, headers=AUTHORIZED, body=None, timeout_seconds=5))[0] == 200
        assert "x-vault-token" not in seen[0]
        assert "authorization" not in seen[0]
        assert "accept: text/x" in seen[0]
        other.close()


async def test_a_redirected_post_is_an_answer() -> None:
    async with raw_server(b"HTTP/1.1 307 X\r\ncontent-length: 0\r\nlocation: http://127.0.0.2/\r\n\r\n") as url:
        assert (await HttpClient()("POST", url, headers={}, body=b"secret", timeout_seconds=5))[0] == 307


async def test_redirects_end() -> None:
    async with raw_server(b"HTTP/1.1 302 X\r\ncontent-length: 0\r\nlocation: /again\r\n\r\n") as url:
        with pytest.raises(AnswerError, match="too often"):
            await get(url)


async def test_an_unknown_authority_is_not_trusted(cloud: Cloud, tmp_path: Path) -> None:
    bundle = tmp_path / "authority.pem"
    bundle.write_text(cloud.authority.pem)
    cloud.answers["GET https://vault.test/x"] = {}
    trusting = await Authorities().trust(str(bundle))
    client = cloud.client()
    arguments: dict[str, Any] = {"headers": {}, "body": None, "timeout_seconds": 5}
    assert await client("GET", "https://vault.test/x", trust=trusting, **arguments) == (200, b"{}")
    with pytest.raises(ssl.SSLCertVerificationError):
        await client("GET", "https://vault.test/x", trust=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **arguments)


async def test_a_certificate_for_another_host_is_refused(cloud: Cloud) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await cloud.client()("GET", "https://other.test/", headers={}, body=None, timeout_seconds=5)
    assert cloud.asked == []


async def test_an_authority_that_was_replaced_is_read_again(cloud: Cloud, tmp_path: Path) -> None:
    bundle = tmp_path / "authority.pem"
    bundle.write_text(cloud.authority.pem)
    authorities = Authorities()
    first = await authorities.trust(str(bundle))
    assert await authorities.trust(str(bundle)) is first
    bundle.write_text(cloud.authority.pem * 2)
    assert await authorities.trust(str(bundle)) is not first


async def test_the_proxy_gets_its_password_and_the_host_does_not(cloud: Cloud) -> None:
    cloud.answers["GET https://vault.test/x"] = {}
    cloud.answers["GET http://vault.test/x"] = {}
    address = cloud.proxy_url.replace("http://", "http://u:p%40@")
    client = HttpClient(ProxySettings(all=Secret(address)))
    for scheme in ("https", "http"):
        await client("GET", f"{scheme}://vault.test/x", headers={}, body=None, timeout_seconds=5)
    basic = f"Basic {base64.b64encode(b'u:p@').decode()}"
    assert [(host, headers["proxy-authorization"]) for host, headers in cloud.tunnels] == [("vault.test:443", basic)]
    assert [one.headers.get("proxy-authorization") for one in cloud.asked] == [None, basic]
    assert "p@" not in repr(Proxies(ProxySettings(all=Secret(address))).of("http", "x"))


@pytest.mark.parametrize("address", ["http://u:hunter2/@proxy:3128", "u:hunter2#@proxy", "http://[u:hunter2@proxy"])
def test_a_proxy_that_cannot_be_read_is_told_without_its_password(address: str) -> None:
    with pytest.raises(ProxyAddressError) as caught:
        Proxies(ProxySettings(http=Secret(address))).of("http", "x")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        (None, "vault.svc", False),
        ("*", "vault.svc", True),
        ("svc", "vault.svc", True),
        (".svc, other", "vault.svc", True),
        ("vc", "vault.svc", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.1", "10.0.0.1", True),
    ],
)
def test_exceptions_are_called_directly(exceptions: str | None, host: str, direct: bool) -> None:
    proxies = Proxies(ProxySettings(http=Secret("http://proxy:3128"), exceptions=exceptions))
    assert (proxies.of("http", host) is None) is direct
