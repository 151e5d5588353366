"""The HTTP application: routes a request, bounds the load, runs the handler, always answers (spec 10, section 2)."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from blacksheep import Request, Response
from blacksheep.scribe import send_asgi_response  # pyright: ignore[reportUnknownVariableType]
from blacksheep.server.application import Application
from blacksheep.server.routing import Router

from noetl.errors import OverloadedError, RejectedRequestError, UnavailableError
from noetl.http.bodies import BodyBudget, ClientDisconnectedError, RequestBody
from noetl.http.framing import LARGEST_HEAD, plain_head
from noetl.http.middleware import VARY, ErrorResponses, RequestIds, method_not_allowed, not_found, preflight
from noetl.http.routing import Endpoint, Handler, Route, RouteTable
from noetl.observability.context import log_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

_log = logging.getLogger("noetl.http")
_access = logging.getLogger("noetl.http.access")

DEFAULT_BODY_LIMIT: Final = 2_097_152
"""Bytes of a request body, inclusive (spec 10, section 2.4)."""

LONGEST_HOLD_SECONDS: Final = 5.0
"""How long a request waits for a server that is starting, before it is told to come again."""

OTHERS_SHARE: Final = 0.75
"""Part of the places that requests may fill which are not ``last``. What a running command reports is not told to come
again because of new executions and of reads: its worker gives up after a few attempts."""

HEADS_KEPT: Final = 512
"""Heads of refused requests that are remembered: most clients send the same one again and again."""

_KNOWN_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_GONE: Final = 499
"""Status in metrics and log of a request whose sender left before the answer; it is never sent."""
_CLIENT_ERRORS_LOGGED_PER_SECOND: Final = 10


class RequestObserver(Protocol):
    """What the application tells about every request; `noetl.observability.metrics.Metrics` is one."""

    def observe_request(self, method: str, route: str, status: int, seconds: float, /) -> None:
        """Count one answered request; ``route`` is the template or ``unmatched``."""
        ...


class HttpApplication(Application):
    """BlackSheep's messages and life cycle with a route table and conventions of our own.

    Requests do not pass BlackSheep's router, dependency injection or middleware chain: handlers are plain
    ``async def (request: Request) -> Response`` and this class does what is common to all of them.

    Args:
        observer: told about every request; None for none.
        max_in_flight: requests served at once; more get 503 with Retry-After (promise P5).
        room: how many of those can be served in good time, at present; None if that is never less.
        body_limit: bytes of a request body where the route does not say otherwise.
        body_bytes_in_flight: bytes of all large request bodies together.
        body_timeout_seconds: time in which the pieces of a body after its first must arrive.
        debug: error bodies carry internal detail (NOETL_DEBUG).
    """

    def __init__(
        self,
        *,
        observer: RequestObserver | None = None,
        max_in_flight: int = 1024,
        room: Callable[[], int] | None = None,
        body_limit: int = DEFAULT_BODY_LIMIT,
        body_bytes_in_flight: int = 128 << 20,
        body_timeout_seconds: float = 30.0,
        debug: bool = False,
    ) -> None:
        super().__init__(router=Router())
        self._table = RouteTable()
        self._errors = ErrorResponses(debug=debug)
        self._observer = observer
        self._max_in_flight = max_in_flight
        self._room = room
        self._plain_call = lru_cache(HEADS_KEPT)(self._find_plain)
        self._refusal = _complete(self._errors.of(_overloaded(), {}, "", ""))
        self._body_limit = body_limit
        self._body_timeout = body_timeout_seconds
        self._budget = BodyBudget(body_bytes_in_flight)
        self._request_ids = RequestIds()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._open = asyncio.Event()
        self._open.set()
        self._client_errors: dict[str, tuple[int, int]] = {}

    # -- set-up ---------------------------------------------------------------------------------------------------

    def add_route(
        self,
        method: str,
        template: str,
        handler: Handler,
        *,
        body_limit: int | None = None,
        quiet: bool = False,
        always: bool = False,
        last: bool = False,
        described: bool = True,
    ) -> None:
        """Serve ``method template`` with ``handler``; GET brings HEAD.

        Args:
            template: see :meth:`RouteTable.add`.
            body_limit: bytes of the body, instead of the application's.
            quiet: successful requests do not appear in the access log.
            always: served even when ``max_in_flight`` is reached; for probes.
            last: refused later than all others; for what workers report.
            described: in the API document; false for handlers that only refuse.
        """
        self._table.add(method, template, Endpoint(handler, body_limit, quiet, always, described, last))

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes, for the API document and tests."""
        return tuple(self._table.routes)

    async def start(self) -> None:
        """Start serving: run the ``on_start`` and ``after_start`` hooks. BlackSheep's own set-up has nothing to do."""
        if not self.started:
            self.started = True
            await self.on_start.fire()
            await self.after_start.fire()

    # -- shutting down --------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Number of requests being served."""
        return self._in_flight

    @property
    def draining(self) -> bool:
        """Whether :meth:`begin_drain` was called."""
        return self._draining

    def begin_drain(self) -> None:
        """From now on answers carry ``connection: close``; requests are still served (spec 60, section 5)."""
        self._draining = True

    def hold(self) -> None:
        """Let requests wait, those of probes excepted: the server is not ready for them yet."""
        self._open.clear()

    def open(self) -> None:
        """Serve what waits and what comes."""
        self._open.set()

    async def _wait_until_open(self) -> None:
        try:
            async with asyncio.timeout(LONGEST_HOLD_SECONDS):
                await self._open.wait()
        except TimeoutError:
            raise UnavailableError("The server is starting") from None

    async def drained(self) -> None:
        """Wait until no request is in flight; bound it with ``asyncio.timeout``."""
        await self._idle.wait()

    # -- overload -------------------------------------------------------------------------------------------------

    def refusal(self, running: int, data: bytes) -> bytes | None:
        """The whole answer to what has come on an idle connection, if that is one plain request that is refused.

        A refusal must cost a small part of what it spares, so it has no parser, no task, no log line and no request id.
        Anything out of the ordinary gets None, and takes the usual way.

        Args:
            running: requests that are being served.
            data: the first bytes since the last answer.
        """
        load = self._load(running)
        if load < OTHERS_SHARE or self._draining:
            return None
        end = data.find(b"\r\n\r\n")
        if not 0 < end < LARGEST_HEAD:
            return None
        known = self._plain_call(data[:end])
        if known is None:
            return None
        method, route, length = known
        if end + 4 + length != len(data) or not _is_refused(route.endpoints[method], load):
            return None
        if self._observer is not None:
            self._observer.observe_request(method, route.template, 503, 0.0)
        return self._refusal

    def _find_plain(self, head: bytes) -> tuple[str, Route, int] | None:
        """Method, route and length of the body of a request with a plain head and an endpoint."""
        plain = plain_head(head)
        if plain is None:
            return None
        method, target, length = plain
        try:
            route, _ = self._table.find(target.partition("?")[0])
        except RejectedRequestError:
            return None
        return None if route is None or method not in route.endpoints else (method, route, length)

    def _load(self, running: int) -> float:
        """1 and more when there is no place for anything else."""
        places = self._max_in_flight if self._room is None else min(self._max_in_flight, self._room())
        return running / places if places else 1.0

    # -- serving --------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._handle_lifespan(receive, send)  # pyright: ignore[reportUnknownMemberType]
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if self._in_flight == 0:
            self._idle.clear()
        self._in_flight += 1
        call = _Call(scope["method"], self._request_ids.of(scope["headers"]))
        try:
            response = await self._respond(call, scope, receive)
            call.status = response.status
            response.add_header(b"access-control-allow-origin", b"*")
            response.add_header(b"vary", VARY)
            response.add_header(b"x-request-id", call.ids["request_id"].encode("ascii"))
            if self._draining or response.status == 408:
                response.add_header(b"connection", b"close")
            await send_asgi_response(response, send)
        except ClientDisconnectedError:
            call.status = _CLIENT_GONE
        except Exception as error:
            # Only a streamed body can fail here, with its head already sent: the server cuts the connection.
            call.status = 500
            _log.error("Response stream failed", extra=call.ids, exc_info=error)
            raise
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._idle.set()
            self._account(call, scope, time.perf_counter() - started)

    async def _respond(self, call: _Call, scope: Scope, receive: Receive) -> Response:
        """Route and run; every failure but a vanished client becomes a response."""
        raw_path: str = scope["raw_path"].decode("latin-1")
        body: RequestBody | None = None
        try:
            route, values = self._table.find(raw_path)
            call.route = route
            if call.method == "OPTIONS":
                return preflight(route.allow if route else None)
            if route is None:
                return not_found()
            endpoint = route.endpoints.get(call.method)
            if endpoint is None:
                return method_not_allowed(route.allow)
            call.quiet = endpoint.quiet
            if not endpoint.always:
                if not self._open.is_set():
                    await self._wait_until_open()
                if _is_refused(endpoint, self._load(self._in_flight - 1)):
                    raise _overloaded()
            request = Request.incoming(call.method, scope["raw_path"], scope["query_string"], scope["headers"])
            request.scope = scope  # type: ignore[assignment]
            request.route_values = values  # type: ignore[assignment]
            limit = self._body_limit if endpoint.body_limit is None else endpoint.body_limit
            body = RequestBody(receive, _declared_length(request), limit, self._budget, self._body_timeout)
            request.content = body
            with log_context(**call.ids):
                return await endpoint.handler(request)
        except ClientDisconnectedError:
            raise
        except asyncio.CancelledError:
            # The shutdown deadline has passed (spec 60, section 5); even so the client gets an answer it can retry on.
            error = UnavailableError("The server is shutting down")
            return self._errors.of(error, call.ids, call.method, raw_path)
        except Exception as error:
            return self._errors.of(error, call.ids, call.method, raw_path)
        finally:
            if body is not None:
                body.release()

    def _account(self, call: _Call, scope: Scope, seconds: float) -> None:
        template = call.route.template if call.route else "unmatched"
        if self._observer is not None:
            method = call.method if call.method in _KNOWN_METHODS else "other"
            self._observer.observe_request(method, template, call.status, seconds)
        if call.status >= 500:
            level = logging.DEBUG if call.status == 503 else logging.ERROR
        elif call.status >= 400:
            level = logging.INFO if self._may_log_client_error(template) else logging.DEBUG
        elif call.quiet:
            return
        else:
            level = logging.DEBUG
        if _access.isEnabledFor(level):
            fields = {
                "method": call.method,
                "path": scope["raw_path"].decode("latin-1"),
                "status": call.status,
                "duration_ms": round(seconds * 1000, 3),
                **call.ids,
            }
            _access.log(level, "request", extra=fields)

    def _may_log_client_error(self, template: str) -> bool:
        """At most ten client errors per second and route are logged above DEBUG (spec 60, section 11.3)."""
        second = int(time.monotonic())
        last, count = self._client_errors.get(template, (second, 0))
        count = count + 1 if last == second else 1
        self._client_errors[template] = (second, count)
        return count <= _CLIENT_ERRORS_LOGGED_PER_SECOND


def _is_refused(endpoint: Endpoint, load: float) -> bool:
    return not endpoint.always and load >= (1 if endpoint.last else OTHERS_SHARE)


def _overloaded() -> OverloadedError:
    return OverloadedError("Too many requests in flight")


def _complete(response: Response) -> bytes:
    """A 503 without anything of one request in it, as it goes over the wire in HTTP/1.1."""
    content: Any = response.content
    headers = [
        (b"content-type", content.type),
        (b"content-length", b"%d" % content.length),
        *response.headers,
        (b"access-control-allow-origin", b"*"),
        (b"vary", VARY),
    ]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"HTTP/1.1 503 Service Unavailable\r\n" + lines + b"\r\n" + content.body


class _Call:
    """What is known about one request while it is served."""

    __slots__ = ("ids", "method", "quiet", "route", "status")

    def __init__(self, method: str, ids: dict[str, str]) -> None:
        self.method = method
        self.ids = ids
        self.route: Route | None = None
        self.status = 500
        self.quiet = False


def _declared_length(request: Request) -> int | None:
    """The content length, None for a chunked body; a request with neither has no body."""
    value = request.get_first_header(b"content-length")
    if value is not None:
        return int(value)
    return None if request.has_header(b"transfer-encoding") else 0
