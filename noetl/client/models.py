"""What the server answers, as typed objects.

Ids are integers, whatever form the server writes them in, and moments are aware datetimes. Members that the Rust server
does not have are optional.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

ENDED: Final = frozenset({"COMPLETED", "FAILED", "CANCELLED"})

Status: TypeAlias = str
"""``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``."""
VariableType: TypeAlias = Literal["user_defined", "step_result", "computed", "iterator_state"]


class Remark(msgspec.Struct, frozen=True):
    """A problem of a document, or a warning about it; ``step``, ``line`` and ``column`` are None where unknown."""

    step: str | None
    field: str
    message: str
    line: int | None
    column: int | None


class RegisteredResource(msgspec.Struct, frozen=True):
    """Where a document was registered; ``problems`` keep it from being executed."""

    path: str
    version: int
    catalog_id: int
    kind: str
    problems: list[Remark] = []


class Validation(msgspec.Struct, frozen=True):
    """What registration and execution would say; ``path`` and ``kind`` are None where they cannot be read."""

    valid: bool
    path: str | None
    kind: str | None
    problems: list[Remark]
    warnings: list[Remark]


class CatalogEntry(msgspec.Struct, frozen=True):
    """One version of a resource: ``content`` is its text, ``payload`` its workload, ``layout`` its workflow."""

    catalog_id: int
    path: str
    version: int
    kind: str
    content: str | None
    payload: Any
    layout: Any
    meta: Any
    created_at: datetime


class StartedExecution(msgspec.Struct, frozen=True):
    """An execution that was started."""

    execution_id: int
    status: str
    commands_generated: int


class ExecutionSummary(msgspec.Struct, frozen=True):
    """One execution in a list; ``path`` is None when its playbook is gone."""

    execution_id: int
    catalog_id: int
    path: str | None
    status: Status
    started_at: datetime | None
    completed_at: datetime | None
    event_count: int
    version: int | None = None
    parent_execution_id: int | None = None
    error: str | None = None
    duration_seconds: float | None = None
    duration_human: str | None = None


class ExecutionEvent(msgspec.Struct, frozen=True):
    """One event in the log of an execution."""

    event_id: int
    event_type: str
    node_name: str | None
    status: str
    created_at: datetime
    result: Any = None
    error: str | None = None


class ExecutionDetail(msgspec.Struct, frozen=True):
    """An execution with all its events, oldest first."""

    execution_id: int
    catalog_id: int
    path: str | None
    status: Status
    started_at: datetime | None
    completed_at: datetime | None
    parent_execution_id: int | None
    workload: Any
    events: list[ExecutionEvent]
    version: int | None = None
    error: str | None = None
    duration_seconds: float | None = None


class Pagination(msgspec.Struct, frozen=True):
    """Where a page is among the others."""

    page: int
    page_size: int
    total_events: int
    total_pages: int
    has_next: bool
    has_prev: bool


class EventPage(msgspec.Struct, frozen=True):
    """Some events of an execution, newest first, and its status before they were read."""

    status: Status
    events: list[ExecutionEvent]
    pagination: Pagination

    @property
    def has_ended(self) -> bool:
        """Whether the execution ended, however."""
        return self.status in ENDED


class Progress(msgspec.Struct, frozen=True):
    """Numbers of steps."""

    total_steps: int
    completed_steps: int
    running_steps: int
    failed_steps: int


class ExecutionStatus(msgspec.Struct, frozen=True):
    """How far an execution is; ``completed_steps`` are names in the order of their completion."""

    execution_id: int
    status: Status
    current_step: str | None
    progress: Progress
    is_cancelled: bool
    completed_steps: list[str] = []
    error: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    duration_seconds: float | None = None
    duration_human: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the execution ended, however."""
        return self.status in ENDED

    @property
    def has_failed(self) -> bool:
        """Whether it ended FAILED."""
        return self.status == "FAILED"


class StoredResult(msgspec.Struct, frozen=True):
    """A stored result: ``ref`` is what `results.get` takes, ``bytes`` and ``sha256`` are of its canonical JSON."""

    ref: str
    store: str
    scope: str
    bytes: int
    sha256: str


class Variable(msgspec.Struct, frozen=True):
    """A variable of an execution."""

    name: str = msgspec.field(name="var_name")
    type: VariableType = msgspec.field(name="var_type")
    value: Any = msgspec.field(name="var_value")
    source_step: str | None
    created_at: datetime
    accessed_at: datetime
    access_count: int


class Credential(msgspec.Struct, frozen=True):
    """A credential; ``data`` is its secret value and absent (None) unless it was asked for."""

    id: int
    name: str
    type: str
    created_at: datetime
    updated_at: datetime
    meta: Any = None
    tags: list[str] | None = None
    description: str | None = None
    data: Any = None

    def __repr__(self) -> str:
        return f"Credential(id={self.id}, name={self.name!r}, type={self.type!r})"


class Worker(msgspec.Struct, frozen=True):
    """A registered worker, or another part of the installation (``kind``)."""

    runtime_id: int
    name: str
    kind: str
    status: str
    heartbeat: datetime
    created_at: datetime
    updated_at: datetime
    uri: str | None = None
    labels: Any = None
    capabilities: Any = None
    capacity: int | None = None
    runtime: Any = None


class Health(msgspec.Struct, frozen=True):
    """State of a server: ``database`` is connected or disconnected, ``nats`` may also be ``not_configured``."""

    status: str
    database: str
    nats: str
    uptime_seconds: float
    version: str
    server_name: str | None = None
