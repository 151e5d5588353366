"""`GET /metrics`: the Prometheus text (spec 60, section 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from noetl.http.responses import text_response

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"


class MetricsSource(Protocol):
    """What renders the metrics of the process, or of all processes of the server."""

    async def render(self) -> bytes:
        """The exposition text, format 0.0.4."""
        ...


class MetricsRoutes:
    """The scrape endpoint; with NOETL_DISABLE_METRICS it is not registered, so that it is 404."""

    def __init__(self, source: MetricsSource) -> None:
        self._source = source

    def register(self, application: HttpApplication) -> None:
        """Add the route to ``application``."""
        application.add_route("GET", "/metrics", self.metrics, quiet=True, always=True)

    async def metrics(self, _request: Request) -> Response:
        """All metric families."""
        return text_response(await self._source.render(), content_type=CONTENT_TYPE)
