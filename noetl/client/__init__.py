"""A small typed client of the HTTP API, for the command line, the tests and anybody's scripts.

async with NoetlClient("http://localhost:8082") as noetl:
    entry = await noetl.register(Path("hello.yaml").read_text())
    started = await noetl.execute(entry.path, {"name": "Ada"})
    status = await noetl.status(started.execution_id)
"""

from __future__ import annotations

import urllib.parse
from typing import Any, Final, Self, TypeVar

import msgspec
import orjson

from noetl.client.exchange import NoAnswerError, exchange

__all__ = [
    "ApiError", "CatalogEntry", "ExecutionDetail", "ExecutionEvent", "ExecutionStatus", "ExecutionSummary",
    "NoAnswerError", "NoetlClient", "RegisteredResource", "StartedExecution", "WorkerPool",
]  # fmt: skip

TIMEOUT_SECONDS: Final = 30.0
HEALTH_TIMEOUT_SECONDS: Final = 3.0

T = TypeVar("T")


class ApiError(Exception):
    """The server refused: ``status`` is the HTTP status, the text is the server's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RegisteredResource(msgspec.Struct):
    """Answer to `NoetlClient.register`."""

    path: str
    version: int
    catalog_id: str
    kind: str


class CatalogEntry(msgspec.Struct):
    """One version of a resource."""

    catalog_id: str
    path: str
    version: int
    kind: str
    content: str | None
    created_at: str


class _CatalogList(msgspec.Struct):
    entries: list[CatalogEntry]


class StartedExecution(msgspec.Struct):
    """Answer to `NoetlClient.execute`."""

    execution_id: str
    status: str
    commands_generated: int


class ExecutionSummary(msgspec.Struct):
    """One execution in a list."""

    execution_id: int | str
    path: str | None
    status: str
    started_at: str | None
    completed_at: str | None
    event_count: int
    duration_human: str | None = None


class ExecutionEvent(msgspec.Struct):
    """One event in the detail of an execution."""

    event_id: int | str
    event_type: str
    node_name: str | None
    status: str
    created_at: str
    result: Any = None
    error: str | None = None


class ExecutionDetail(msgspec.Struct):
    """An execution with its events, oldest first."""

    execution_id: int | str
    path: str | None
    status: str
    started_at: str | None
    completed_at: str | None
    workload: Any
    events: list[ExecutionEvent]


class ExecutionStatus(msgspec.Struct):
    """Progress of an execution; ``completed`` says that it ended, however, ``failed`` that it ended FAILED."""

    execution_id: int | str
    status: str
    current_step: str | None
    completed: bool
    failed: bool
    error: str | None
    duration_seconds: float | None


class WorkerPool(msgspec.Struct):
    """A registered worker."""

    name: str
    kind: str
    status: str
    heartbeat: str


class NoetlClient:
    """Requests to one server. Methods raise ApiError when it refuses, and NoAnswerError, an OSError, without answer."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        """``token`` is the internal API token, for the routes that ask for it."""
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Nothing is kept open."""

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; returns the decoded JSON answer, None for an empty one."""
        return await self._decoded(method, path, object, body)

    async def register(self, content: str, resource_type: str = "Playbook") -> RegisteredResource:
        """Register a document as the next version of its path."""
        body = {"content": content, "resource_type": resource_type}
        return await self._decoded("POST", "/api/catalog/register", RegisteredResource, body)

    async def catalog(self, kind: str | None = None) -> list[CatalogEntry]:
        """All versions of all resources, newest first."""
        return (await self._decoded("POST", "/api/catalog/list", _CatalogList, {"resource_type": kind})).entries

    async def resource(self, path: str, version: int | None = None) -> CatalogEntry:
        """One version of a resource, the newest by default."""
        body = {"path": path, "version": "latest" if version is None else str(version)}
        return await self._decoded("POST", "/api/catalog/resource", CatalogEntry, body)

    async def execute(
        self, path: str, payload: dict[str, Any] | None = None, *, version: int | None = None
    ) -> StartedExecution:
        """Start an execution; ``payload`` overlays the playbook's workload."""
        body = {"path": path, "payload": payload or {}, "version": version}
        return await self._decoded("POST", "/api/execute", StartedExecution, body)

    async def executions(
        self, *, limit: int = 20, status: str | None = None, path: str | None = None
    ) -> list[ExecutionSummary]:
        """The newest executions."""
        given = {"limit": limit, "status": status, "path": path}
        query = urllib.parse.urlencode({name: value for name, value in given.items() if value is not None})
        return await self._decoded("GET", f"/api/executions?{query}", list[ExecutionSummary])

    async def execution(self, execution_id: int | str) -> ExecutionDetail:
        """An execution with all its events."""
        return await self._decoded("GET", f"/api/executions/{execution_id}", ExecutionDetail)

    async def status(self, execution_id: int | str) -> ExecutionStatus:
        """Progress of an execution."""
        return await self._decoded("GET", f"/api/executions/{execution_id}/status", ExecutionStatus)

    async def cancel(self, execution_id: int | str, reason: str | None = None, *, cascade: bool = False) -> None:
        """Cancel an execution, and with ``cascade`` those that it started."""
        await self.call("POST", f"/api/executions/{execution_id}/cancel", {"reason": reason, "cascade": cascade})

    async def pools(self) -> list[WorkerPool]:
        """The registered workers."""
        return await self._decoded("GET", "/api/worker/pools", list[WorkerPool])

    async def is_healthy(self) -> bool:
        """Whether a NoETL server answers there."""
        try:
            answer = await self._decoded("GET", "/health", object, seconds=HEALTH_TIMEOUT_SECONDS)
        except (ApiError, OSError):
            return False
        return answer == {"status": "ok"}

    async def _decoded(
        self, method: str, path: str, kind: type[T], body: Any = None, *, seconds: float = TIMEOUT_SECONDS
    ) -> T:
        data = None if body is None else orjson.dumps(body)
        answer = await exchange(method, self.url + path, data, self._headers, seconds)
        if not 200 <= answer.status < 300:
            raise ApiError(answer.status, _message(answer.body) or f"HTTP status {answer.status}")
        try:
            return msgspec.json.decode(answer.body or b"null", type=kind)
        except msgspec.DecodeError as error:
            raise NoAnswerError(f"{self.url}{path} does not answer as a NoETL server: {error}") from error


def _message(body: bytes) -> str:
    """The server's own words: ``error`` of a JSON answer, else the text as it is."""
    text = body.decode(errors="replace")
    try:
        return str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return text
