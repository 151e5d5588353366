"""A typed asynchronous client of the HTTP API: for the command line, the local worker, and anybody's programs.

async with NoetlClient("http://localhost:8082") as noetl:
    entry = await noetl.catalog.register(Path("hello.yaml").read_text())
    started = await noetl.executions.start(entry.path, {"name": "Ada"})
    status = await noetl.executions.wait(started.execution_id)
"""

from __future__ import annotations

from noetl.client.client import NoetlClient
from noetl.client.errors import (
    AccessError,
    ApiError,
    BadRequestError,
    ConflictError,
    NoAnswerError,
    NoetlClientError,
    NotFoundError,
    RefusedError,
    ServerError,
    UnavailableError,
)
from noetl.client.models import (
    CatalogEntry,
    Credential,
    EventPage,
    ExecutionDetail,
    ExecutionEvent,
    ExecutionStatus,
    ExecutionSummary,
    Health,
    RegisteredResource,
    Remark,
    StartedExecution,
    StoredResult,
    Validation,
    Variable,
    Worker,
)

__all__ = [
    "AccessError",
    "ApiError",
    "BadRequestError",
    "CatalogEntry",
    "ConflictError",
    "Credential",
    "EventPage",
    "ExecutionDetail",
    "ExecutionEvent",
    "ExecutionStatus",
    "ExecutionSummary",
    "Health",
    "NoAnswerError",
    "NoetlClient",
    "NoetlClientError",
    "NotFoundError",
    "RefusedError",
    "RegisteredResource",
    "Remark",
    "ServerError",
    "StartedExecution",
    "StoredResult",
    "UnavailableError",
    "Validation",
    "Variable",
    "Worker",
]
