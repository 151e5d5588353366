"""`NoetlClient`: one server, one attribute for each of its resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

from noetl.client.calls import Calls
from noetl.client.catalog import CatalogApi
from noetl.client.credentials import CredentialsApi
from noetl.client.errors import ApiError, NoAnswerError
from noetl.client.executions import ExecutionsApi
from noetl.client.models import Health
from noetl.client.pools import PoolsApi
from noetl.client.results import ResultsApi
from noetl.client.transport import Transport
from noetl.client.variables import VariablesApi

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

TIMEOUT_SECONDS: Final = 30.0
PROBE_SECONDS: Final = 3.0


class NoetlClient:
    """Requests to one server, over connections that are kept until the ``async with`` block (or `close`) ends.

    Calls raise ApiError (or its subclass for the status) when the server refuses, and NoAnswerError, an OSError, when
    none answers. Those that may be sent twice without harm are repeated after 503 with ``Retry-After``, and when a kept
    connection turns out to be closed. A client belongs to the event loop in which it is used.

    Args:
        url: where the server is, such as ``http://localhost:8082``.
        token: the internal API token, for the routes that ask for it.
        seconds: limit of time for one exchange.
        retries: how often a call is repeated after 503.
        connections: open at most so many at once.
        tls: for ``https``, instead of the system's authorities.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        seconds: float = TIMEOUT_SECONDS,
        retries: int = 3,
        connections: int = 16,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        headers = {"X-Noetl-Ids": "number"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._transport = Transport(url, headers, seconds=seconds, retries=retries, connections=connections, tls=tls)
        self._calls = Calls(self._transport)
        self.catalog = CatalogApi(self._calls)
        self.executions = ExecutionsApi(self._calls)
        self.results = ResultsApi(self._calls)
        self.variables = VariablesApi(self._calls)
        self.credentials = CredentialsApi(self._calls)
        self.pools = PoolsApi(self._calls)

    @property
    def url(self) -> str:
        """Where the server is, without a slash at the end."""
        return self._transport.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections; the client may be used again all the same."""
        self._transport.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Any other route: returns the decoded JSON answer, None for an empty one."""
        return await self._calls.call(object, method, path, body, query=query, repeatable=repeatable)

    async def health(self) -> Health:
        """State of the server, its database and its NATS. Raises UnavailableError without a database."""
        return await self._calls.call(Health, "GET", "/api/health", repeatable=False)

    async def is_healthy(self) -> bool:
        """Whether a NoETL server answers there, within three seconds."""
        try:
            answer = await self._calls.call(object, "GET", "/health", repeatable=False, seconds=PROBE_SECONDS)
        except (ApiError, NoAnswerError):
            return False
        return answer == {"status": "ok"}
