"""The ASGI server in front of the application: its configuration, and a time limit it lacks (spec 60, section 13)."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from noetl.http.tls import has_certificate, only_probes

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Refusal = Callable[[int, bytes], bytes | None]
    """From the number of running requests and what has come to the answer, or None; see `HttpApplication.refusal`."""

DEFAULT_KEEP_ALIVE_SECONDS: Final = 120.0
"""Workers keep idle connections for 90 s, and a reset during a claim ends a worker (spec 20, section 2)."""


_TIMED_OUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\naccess-control-allow-origin: *\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class _JoinedWrites:
    """A transport for one answer, whose head goes out together with the first piece of its body: one system call less.

    The server writes at least one piece, possibly empty, after the head of every answer but those to HEAD.
    """

    __slots__ = ("_at_head", "_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._at_head = True
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._at_head:
            self._at_head = False
            self._head = data
        elif self._head:
            self._transport.write(self._head + data)
            self._head = b""
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


class BoundedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 connection with a limit on the time from the first byte of a request to the first of its body.

    A whole request that `refusal` answers is not even parsed. The rest of a body is `RequestBody`'s to limit. A
    request that comes in one piece, as nearly all do, needs no timer. A late one is answered 408 if it has no answer
    yet, and the connection closed. So is a new connection on which nothing comes for the keep-alive time.
    """

    head_timeout_seconds = 30.0
    wants_certificate = False
    refusal: Refusal | None = None
    _kept_since = 0.0
    _receiving = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.wants_certificate and not has_certificate(transport):
            self.app = only_probes(self.app)  # type: ignore[assignment]
            self.refusal = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.refusal is not None and self._is_between_requests() and not self.flow.write_paused:
            answer = self.refusal(len(self.tasks), data)
            if answer is not None:
                self.transport.write(answer)
                self._keep_alive()
                return
        super().data_received(data)
        if self._receiving and self._timer is None:
            self._timer = self.loop.call_later(self.head_timeout_seconds, self._time_out)

    def _keep_alive(self) -> None:
        """Let the time of an idle connection begin again, at most once a second: a timer costs as much as a refusal."""
        timer = self.timeout_keep_alive_task
        now = self.loop.time()
        if timer is None or now >= self._kept_since + 1:
            self._kept_since = now
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _is_between_requests(self) -> bool:
        """Whether what comes next begins a request. The rest of a body whose request is answered already does not."""
        if self._receiving:
            return False
        return not self.cycle or (self.cycle.response_complete and not self.cycle.more_body)

    def on_response_complete(self) -> None:
        # By itself the task goes from the set a turn of the loop later, and the client's next request can come before:
        # it would find all those still running that the last batch has answered.
        self.tasks.discard(asyncio.current_task(self.loop))  # type: ignore[arg-type]
        super().on_response_complete()

    def on_message_begin(self) -> None:
        self._receiving = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.parser is not None and self.parser.should_keep_alive():
            # An HTTP/1.0 client that asks to keep the connection, as ApacheBench does; uvicorn would always close it.
            self.cycle.keep_alive = True
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"keep-alive")]
        if self.scope["method"] != "HEAD" and not self.expect_100_continue:
            self.cycle.transport = cast("asyncio.Transport", _JoinedWrites(self.transport))

    def on_body(self, body: bytes) -> None:
        self._disarm()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def _disarm(self) -> None:
        self._receiving = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        if not self.transport.is_closing():
            if not self.cycle or not self.cycle.response_started or self.cycle.response_complete:
                self.transport.write(_TIMED_OUT)
            self.transport.close()


def server_configuration(
    application: Callable[..., Any],
    *,
    refusal: Refusal | None = None,
    host: str = "0.0.0.0",  # noqa: S104 (the documented default, spec 60 section 2)
    port: int = 8082,
    keep_alive_seconds: float = DEFAULT_KEEP_ALIVE_SECONDS,
    head_timeout_seconds: float = BoundedHttpProtocol.head_timeout_seconds,
    shutdown_timeout_seconds: float | None = None,
    backlog: int = 2048,
    tls: ssl.SSLContext | None = None,
) -> uvicorn.Config:
    """How uvicorn serves ``application``: httptools, no ``server`` header, no access log and no logging of its own."""
    members = {
        "head_timeout_seconds": head_timeout_seconds,
        "refusal": None if refusal is None else staticmethod(refusal),
        "wants_certificate": tls is not None and tls.verify_mode is ssl.CERT_OPTIONAL,
    }
    protocol = type("ConfiguredHttpProtocol", (BoundedHttpProtocol,), members)
    return uvicorn.Config(
        application,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=shutdown_timeout_seconds,  # type: ignore[arg-type]
        backlog=backlog,
        ssl_context_factory=None if tls is None else lambda _configuration, _default: tls,
    )
