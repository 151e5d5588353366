"""TLS of the port: 1.2 and 1.3, client certificates on demand, new certificates without a restart (spec 60, 14)."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Application = Callable[[Any, Any, Callable[[MutableMapping[str, Any]], Awaitable[None]]], Awaitable[None]]

log = logging.getLogger("noetl.http.tls")

LOOK_SECONDS: Final = 10.0
"""Between two looks at the files."""
PROBES: Final = frozenset({b"/health", b"/healthz", b"/readyz"})
"""What may be asked without a client certificate, for those who have none: orchestrators."""
_REFUSAL: Final = b'{"error":"A client certificate is required","status":403}'
_REFUSAL_HEADERS: Final = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_REFUSAL)).encode()),
    (b"access-control-allow-origin", b"*"),
    (b"connection", b"close"),
]


class ServerTls:
    """A TLS context that follows its files.

    Args:
        certificate: PEM chain, leaf first.
        key: PEM key of the leaf.
        client_ca: PEM bundle; a client that shows a certificate must have it from one of its authorities, and one that
            shows none gets nothing but the probes (`BoundedHttpProtocol` sees to that). An authority that is taken out
            of the bundle stays trusted until the next start.
        look_seconds: between two looks at the files.

    Raises:
        OSError: a file cannot be read, or does not hold what it should (also `ssl.SSLError`).
    """

    def __init__(
        self, certificate: str, key: str, client_ca: str | None = None, *, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._look_seconds = look_seconds
        self._seen = self._versions()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._load(self.context)

    async def watch(self) -> None:
        """Take new files as they come, until cancelled; what cannot be used is told once, and the old ones stay."""
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                if await asyncio.to_thread(self._take_new):
                    log.info("TLS certificate replaced", extra={"path": self._certificate})
            except OSError as error:
                log.error("New TLS files cannot be used", extra={"path": self._certificate, "error": str(error)})

    def _take_new(self) -> bool:
        versions = self._versions()
        if versions == self._seen:
            return False
        self._seen = versions
        # Certificate and key are two files: a pair that does not match must not get into the context in use.
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._load(self.context)
        return True

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca is not None:
            context.load_verify_locations(self._client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL

    def _versions(self) -> list[tuple[int, int]]:
        """Secrets of Kubernetes are links that are moved to new files: time and file number tell."""
        found = [Path(file).stat() for file in (self._certificate, self._key, self._client_ca) if file is not None]
        return [(status.st_mtime_ns, status.st_ino) for status in found]


def has_certificate(transport: asyncio.BaseTransport) -> bool:
    """Whether the client of a connection has shown a certificate; the handshake has verified it."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return connection is not None and bool(connection.getpeercert(binary_form=True))


def only_probes(application: Application) -> Application:
    """The application for a connection without a client certificate: 403 for all but the probes."""

    async def answer(scope: Any, receive: Any, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["raw_path"] in PROBES:
            return await application(scope, receive, send)
        await send({"type": "http.response.start", "status": 403, "headers": _REFUSAL_HEADERS})
        await send({"type": "http.response.body", "body": _REFUSAL})

    return answer
