"""HTTP requests to key managers, secret stores and servers of other regions: one connection each, whole answers."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

import httptools

from noetl.config.provider_settings import ProxySettings
from noetl.secrets.proxies import Proxies

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER_LIMIT: Final = 4 * 2**20
REDIRECTS: Final = 10

_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTING: Final = frozenset({301, 302, 303, 307, 308})
_PIECE: Final = 2**16


class HttpCall(Protocol):
    """One HTTP request with a whole answer."""

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        trust: ssl.SSLContext | None = None,
    ) -> tuple[int, bytes]:
        """Status and body; ``trust`` holds the authorities to believe, None those of the system.

        Raises:
            OSError, TimeoutError: no answer came within ``timeout_seconds``.
        """
        ...


class AnswerError(OSError):
    """What came back is no HTTP answer that can be used."""


class HttpClient:
    """Makes requests directly or through the proxies of the settings.

    Redirects of GET are followed as the reference does, but no header of a request goes to another origin except
    ``accept``, and nothing goes from https to http. A redirected POST is an answer like any other, because its body is
    a secret that was meant for the first address.
    """

    def __init__(self, proxies: ProxySettings | None = None) -> None:
        self._proxies = Proxies(proxies or ProxySettings())
        self._system_trust: ssl.SSLContext | None = None

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        trust: ssl.SSLContext | None = None,
    ) -> tuple[int, bytes]:
        """See `HttpCall`."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._follow(method, url, headers, body, trust)
        except OSError:
            raise  # also a certificate that is not trusted, which is a ValueError besides
        except ValueError:  # of `urllib`, or of the encoding of a host name; its text may be a part of the address
            raise AnswerError("not an address") from None

    async def _follow(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, trust: ssl.SSLContext | None
    ) -> tuple[int, bytes]:
        for _ in range(REDIRECTS):
            answer = await self._exchange(method, urlsplit(url), headers, body, trust)
            if method != "GET" or answer.status not in _REDIRECTING or not answer.location:
                return answer.status, bytes(answer.body)
            target = urljoin(url, answer.location)
            if (urlsplit(url).scheme, urlsplit(target).scheme) == ("https", "http"):
                raise AnswerError("redirected from https to http")
            if _origin(url) != _origin(target):
                # A token may be in any of them, as in `X-Vault-Token`.
                headers = {name: value for name, value in headers.items() if name.lower() == "accept"}
            url = target
        raise AnswerError("redirected too often")

    async def _exchange(
        self,
        method: str,
        url: SplitResult,
        headers: Mapping[str, str],
        body: bytes | None,
        trust: ssl.SSLContext | None,
    ) -> _Answer:
        secure, host, port = _target(url)
        proxy = self._proxies.of(url.scheme, host)
        context = (trust or self._system()) if secure else None
        authority = host if port == _PORTS[url.scheme] else f"{host}:{port}"
        if ":" in host:
            authority = authority.replace(host, f"[{host}]", 1)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        lines = {"host": authority, "accept": "*/*", "connection": "close"}
        if proxy is None:
            streams = await asyncio.open_connection(host, port, ssl=context)
        else:
            streams = await asyncio.open_connection(proxy.host, proxy.port)
            if context is None:
                target, lines = f"http://{authority}{target}", {**lines, **proxy.headers}
        reader, writer = streams
        try:
            if proxy is not None and context is not None:
                tunnel = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                writer.write(_head("CONNECT", tunnel, {"host": tunnel, **proxy.headers}))
                granted = await _read_answer(reader, ends_with_head=True)
                if granted.status != 200:
                    raise AnswerError(f"the proxy answered HTTP {granted.status}")
                await writer.start_tls(context, server_hostname=host)
            if body is not None:
                lines["content-length"] = str(len(body))
            lines |= {name.lower(): value for name, value in headers.items()}
            writer.write(_head(method, target, lines) + (body or b""))
            return await _read_answer(reader)
        finally:
            writer.transport.abort()

    def _system(self) -> ssl.SSLContext:
        if self._system_trust is None:
            self._system_trust = ssl.create_default_context()
        return self._system_trust


class _Answer:
    """An answer while it is parsed."""

    def __init__(self) -> None:
        self.status = 0
        self.location = ""
        self.body = bytearray()
        self.head_complete = False
        self.complete = False
        self.has_length = False
        self.parser: httptools.HttpResponseParser | None = None

    def on_message_begin(self) -> None:
        """A head begins: of the answer, or of an interim one before it."""
        if self.complete:
            raise AnswerError("more than one answer")
        self.location = ""
        self.has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        match name.lower():
            case b"location":
                self.location = value.decode("latin-1")
            case b"content-length" | b"transfer-encoding":
                self.has_length = True
            case _:
                pass

    def on_headers_complete(self) -> None:
        """The head ends."""
        assert self.parser is not None
        self.status = self.parser.get_status_code()
        self.head_complete = not self._is_interim

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if len(self.body) + len(piece) > ANSWER_LIMIT:
            raise AnswerError(f"the answer is larger than {ANSWER_LIMIT} bytes")
        self.body += piece

    def on_message_complete(self) -> None:
        """The answer ends."""
        self.complete = not self._is_interim

    @property
    def _is_interim(self) -> bool:
        """Whether the answer proper is still to come, as after 100 and 103."""
        return 100 <= self.status < 200 and self.status != 101


async def _read_answer(reader: asyncio.StreamReader, *, ends_with_head: bool = False) -> _Answer:
    answer = _Answer()
    parser = answer.parser = httptools.HttpResponseParser(answer)
    while not answer.complete and not (ends_with_head and answer.head_complete):
        piece = await reader.read(_PIECE)
        if not piece:
            if answer.head_complete and not answer.has_length:
                break  # an answer without a length ends with the connection
            raise AnswerError("the connection was closed before the answer was complete")
        try:
            parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            raise AnswerError("the server wants another protocol than HTTP/1.1") from None
        except httptools.HttpParserError as error:
            cause: Any = error.__context__
            raise (cause if isinstance(cause, AnswerError) else AnswerError("the answer is not HTTP")) from None
    answer.parser = None  # or the two would keep each other, and the body, in memory
    return answer


def _head(method: str, target: str, lines: Mapping[str, str]) -> bytes:
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    if text.count("\n") != len(lines) or text.count("\r") != len(lines) or any(mark in target for mark in "\r\n "):
        raise AnswerError("a line break in a header")
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode("utf-8", "surrogatepass")


def _target(url: SplitResult) -> tuple[bool, str, int]:
    if url.scheme not in _PORTS or not url.hostname:
        raise AnswerError("not an address of http or https")
    try:
        return url.scheme == "https", url.hostname, url.port or _PORTS[url.scheme]
    except ValueError:
        raise AnswerError("the port of the address is no number") from None


def _origin(url: str) -> tuple[bool, str, int]:
    return _target(urlsplit(url))
