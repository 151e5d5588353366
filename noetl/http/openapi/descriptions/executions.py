"""Describes the routes of `noetl.http.executions_start` and `noetl.http.executions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from noetl.http.executions import CancelRequest, FinalizeRequest
from noetl.http.executions_start import ExecuteRequest
from noetl.http.openapi.description import (
    DIGITS,
    Answer,
    AnyId,
    Body,
    Count,
    IdText,
    Int64,
    Moment,
    Operation,
    Parameter,
    Tag,
    never_both,
)

Status = Literal["RUNNING", "COMPLETED", "FAILED", "CANCELLED"]
Bound = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Duration = Annotated[float, Meta(ge=0, description="Seconds, up to now while it runs")]
HumanDuration = Annotated[str, Meta(pattern="^([0-9]+[dhms] ?)+$", extra_json_schema={"examples": ["1d 2h 3m 4s"]})]
StepNames = Annotated[list[str], Meta(description="Names of steps, in the order in which they were completed")]


class StartedExecution(Struct):
    """An execution that was started. The id is a text here, whatever `X-Noetl-Ids` says."""

    execution_id: IdText
    status: Literal["started"]
    commands_generated: Count


class ExecutionSummary(Struct):
    """One execution in a list."""

    execution_id: AnyId
    catalog_id: AnyId | None
    path: Annotated[str | None, Meta(description="Path of its playbook; null when that is gone")]
    status: Status
    started_at: Moment | None
    completed_at: Annotated[Moment | None, Meta(description="When it ended")]
    event_count: Count
    version: Annotated[int | None, Meta(description="Version of its playbook")]
    parent_execution_id: AnyId | None
    error: str | None
    start_time: Moment | None
    end_time: Moment | None
    duration_seconds: Duration
    duration_human: HumanDuration


class ExecutionEvent(Struct):
    """One event of an execution."""

    event_id: AnyId
    event_type: str
    node_name: str | None
    status: Annotated[str, Meta(description="`UNKNOWN` for an event without status")]
    created_at: Moment | None
    result: Annotated[Any, Meta(description="`{status, reference?, context?}`, or null")]
    error: str | None


class Pagination(Struct):
    """Which page of the events this is."""

    page: Annotated[int, Meta(ge=1)]
    page_size: Annotated[int, Meta(ge=1, le=500)]
    total_events: Count
    total_pages: Count
    has_next: bool
    has_prev: bool


class ExecutionDetail(Struct):
    """An execution with its events."""

    execution_id: AnyId
    catalog_id: AnyId | None
    path: str | None
    status: Status
    started_at: Moment | None
    completed_at: Annotated[Moment | None, Meta(description="When it ended")]
    parent_execution_id: AnyId | None
    workload: Annotated[Any, Meta(description="The playbook's workload overlaid by the payload of the start")]
    version: int | None
    completed: Annotated[bool, Meta(description="Whether it has ended, however")]
    failed: bool
    completed_steps: StepNames
    error: str | None
    start_time: Moment | None
    end_time: Moment | None
    duration_seconds: Duration
    duration_human: HumanDuration
    events: list[ExecutionEvent]
    pagination: Pagination | UnsetType = UNSET


class Progress(Struct):
    """Numbers of steps."""

    total_steps: Count
    completed_steps: Count
    running_steps: Annotated[int, Meta(ge=0, description="Steps that ever started")]
    failed_steps: Count


class ExecutionStatus(Struct):
    """Status and progress of an execution; poll `completed`."""

    execution_id: AnyId
    status: Status
    current_step: str | None
    progress: Progress
    is_cancelled: bool
    completed: Annotated[bool, Meta(description="Whether it has ended, however")]
    failed: bool
    completed_steps: StepNames
    error: str | None
    start_time: Moment | None
    end_time: Moment | None
    duration_seconds: Duration
    duration_human: HumanDuration


class Cancelled(Struct):
    """What was cancelled."""

    execution_id: AnyId
    message: str
    status: Literal["cancelled"]
    cancelled_executions: Annotated[list[IdText], Meta(description="This execution first, then its descendants")]


class CancellationCheck(Struct):
    """Whether an execution is cancelled."""

    execution_id: AnyId
    is_cancelled: bool


class Finalized(Struct):
    """How the execution was ended."""

    execution_id: AnyId
    status: Literal["COMPLETED", "FAILED"]
    message: str


EXECUTIONS = Tag(
    "Executions",
    "Starting, watching and ending executions of playbooks.",
    (
        Operation(
            method="POST",
            route="/api/execute",
            summary="Start an execution",
            text="Starts a playbook given by `catalog_id`, or by `path` and `version`. What is answered with 200 is "
            "committed, together with the first commands; their notifications follow. With an idempotency key a "
            "repeated request is answered with the execution that the first one started.",
            parameters=(
                Parameter(
                    "Idempotency-Key",
                    Annotated[str, Meta(min_length=1, max_length=255)],
                    "Makes the request safe to repeat; the member `idempotency_key` may say the same",
                    place="header",
                ),
            ),
            body=Body(
                (ExecuteRequest,),
                {
                    "": {
                        **never_both("payload", "workload"),
                        "anyOf": [
                            {"required": ["catalog_id"], "properties": {"catalog_id": {"not": {"type": "null"}}}},
                            {"required": ["path"], "properties": {"path": {"not": {"type": "null"}}}},
                        ],
                    },
                    "path": "Path of the playbook",
                    "catalog_id": {**DIGITS, "description": "Id of one version of a playbook; wins over `path`"},
                    "version": {
                        "minimum": 1,
                        "maximum": 32767,
                        "pattern": "^(latest|[+]?[0-9]+)$",
                        "description": "`latest` (default), digits, or a number",
                    },
                    "payload": {
                        "type": ["object", "null"],
                        "description": "Overlays the playbook's `workload`, member by member",
                    },
                    "workload": {"type": ["object", "null"], "description": "Another name of `payload`"},
                    "parent_execution_id": {**DIGITS, "description": "The execution that starts this one"},
                    "idempotency_key": {
                        "minLength": 1,
                        "maxLength": 255,
                        "description": "As the header `Idempotency-Key`",
                    },
                },
            ),
            answers=(
                Answer(
                    StartedExecution,
                    "Started",
                    links={
                        summary: {"execution_id": "/execution_id"}
                        for summary in (
                            "Get an execution",
                            "Get status and progress",
                            "Cancel an execution",
                            "Is the execution cancelled",
                            "End an execution",
                            "Replay an execution",
                            "Store a result",
                            "Set variables",
                            "Get a credential sealed",
                        )
                    },
                ),
            ),
            refusals={
                400: ("metadata: missing field `name` at line 2 column 11",),
                404: ("Playbook not found: nope", "Catalog entry not found: 1"),
                422: (
                    "Either 'path' or 'catalog_id' must be provided",
                    'version must be between 1 and 32767, or "latest"',
                    "idempotency_key must have 1 to 255 bytes",
                    "payload must not contain U+0000",
                ),
                500: ("Template render error: unknown function: nofn is unknown (in <string>:1)",),
            },
        ),
        Operation(
            method="GET",
            route="/api/executions",
            summary="List executions",
            text="A page of executions, newest first. Filters look at all executions, not only at the newest.",
            parameters=(
                Parameter(
                    "limit", Annotated[int, Meta(ge=0, le=2**31 - 1)], "At most so many; 50 by default, at most 100"
                ),
                Parameter("offset", Bound, "Leave out so many"),
                Parameter("catalog_id", Int64, "Only executions of this version of a playbook"),
                Parameter("path", str, "Only where the playbook's path contains this text, in whatever letter case"),
                Parameter(
                    "status", str, "Only `RUNNING`, `COMPLETED`, `FAILED` or `CANCELLED`; another text finds none"
                ),
            ),
            answers=(Answer(list[ExecutionSummary], "The page"),),
            refusals={400: ("limit must not be negative",), 422: ("path must not contain U+0000",)},
            ids=True,
        ),
        Operation(
            method="GET",
            route="/api/executions/{execution_id}",
            summary="Get an execution",
            text="The execution with all its events, oldest first, as a stream. With any of the four parameters: with "
            "one page of its events, newest first, and `pagination`.",
            parameters=(
                Parameter("page", Annotated[int, Meta(ge=1, le=2**31 - 1)], "Number of the page, from 1"),
                Parameter("page_size", Annotated[int, Meta(ge=1, le=500)], "Events of a page, 100 by default"),
                Parameter("since_event_id", Int64, "Only events with a greater id"),
                Parameter("event_type", str, "Only events of this type"),
            ),
            answers=(
                Answer(
                    ExecutionDetail,
                    "The execution",
                    links={
                        "Get a command": {"event_id": "/events/0/event_id"},
                        "Claim a command": {"event_id": "/events/0/event_id"},
                    },
                ),
            ),
            refusals={
                400: ("page must be at least 1", "page_size must be from 1 to 500"),
                404: ("Execution not found: 5555",),
                422: ("event_type must not contain U+0000",),
            },
            ids=True,
        ),
        Operation(
            method="GET",
            route="/api/executions/{execution_id}/status",
            summary="Get status and progress",
            answers=(Answer(ExecutionStatus, "The status"),),
            refusals={404: ("Execution not found: 5555",)},
            ids=True,
        ),
        Operation(
            method="POST",
            route="/api/executions/{execution_id}/cancel",
            summary="Cancel an execution",
            text="No further command is issued or given out, and what workers still say is stored without effect. "
            "Cancelling is final.",
            body=Body(
                (CancelRequest,),
                {
                    "reason": "Kept in the log",
                    "cascade": "Also cancel all unfinished descendants",
                },
                text="May be left out. One that cannot be read is as none.",
                optional=True,
            ),
            answers=(Answer(Cancelled, "Cancelled"),),
            refusals={
                404: ("Execution not found: 5555",),
                422: ("Cannot cancel execution in COMPLETED state", "reason must not contain U+0000"),
            },
            ids=True,
        ),
        Operation(
            method="GET",
            route="/api/executions/{execution_id}/cancellation-check",
            summary="Is the execution cancelled",
            text="What workers ask during long work. `false` for an unknown execution.",
            answers=(Answer(CancellationCheck, "Whether it is"),),
            ids=True,
        ),
        Operation(
            method="POST",
            route="/api/executions/{execution_id}/finalize",
            summary="End an execution",
            text="Ends an execution from outside. An execution ends once: the same end again is answered alike and "
            "changes nothing, another one is refused.",
            body=Body(
                (FinalizeRequest,),
                {"status": {"enum": ["COMPLETED", "FAILED"], "description": "How it ends"}, "error": "Why it failed"},
            ),
            answers=(Answer(Finalized, "Ended"),),
            refusals={
                404: ("Execution not found: 5555",),
                422: (
                    "Invalid finalization status: completed",
                    "Cannot finalize execution in COMPLETED state",
                    "error must not contain U+0000",
                ),
            },
            ids=True,
        ),
    ),
)
