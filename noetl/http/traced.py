"""A span around every request, named by its route (only imported when traces are exported)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from noetl.observability.trace_context import trace_parent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noetl.http.application import HttpApplication, Receive, RequestObserver, Scope, Send
    from noetl.observability.spans import Span, Tracer


class TracedRequests:
    """The observer of an application that also names the request's span, and the ASGI application around it.

    Args:
        tracer: makes the spans.
        observer: is told everything as well.
    """

    def __init__(self, tracer: Tracer, observer: RequestObserver) -> None:
        self._tracer = tracer
        self._observer = observer
        self._open: ContextVar[tuple[Span, str] | None] = ContextVar("open_request", default=None)

    def observe_request(self, method: str, route: str, status: int, seconds: float, /) -> None:
        """Name the span of the request that is being answered, and pass all on."""
        self._observer.observe_request(method, route, status, seconds)
        traced = self._open.get()
        if traced is None:
            return
        span, path = traced
        span.rename(f"{method} {route}")
        span.set({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        for name, value in zip(route.split("/"), path.split("/"), strict=False):
            if name == "{execution_id}" and value.isascii() and value.isdecimal() and len(value) < 20:
                span.set({"execution_id": value})
        if status >= 500:
            span.fail(str(status))

    def around(self, application: HttpApplication) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """The application with spans. Probes, scrapes and heartbeats get one only when the caller is traced."""
        quiet = {
            (method, route.template)
            for route in application.routes
            for method, endpoint in route.endpoints.items()
            if endpoint.quiet
        }

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            method, path = scope["method"], scope["path"]
            parent = trace_parent([value for name, value in scope["headers"] if name == b"traceparent"])
            if parent is None and (method, path) in quiet:
                await application(scope, receive, send)
                return
            with self._tracer.span("request", kind="server", parent=parent) as span:
                token = self._open.set((span, path))
                try:
                    await application(scope, receive, send)
                finally:
                    self._open.reset(token)

        return traced
