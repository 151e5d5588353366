"""Describes the routes of `noetl.http.database`, `noetl.http.system`, `noetl.http.dashboard` and of the document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from noetl.http.database import StatementRequest
from noetl.http.openapi.description import Answer, AnyId, Body, Count, Operation, Tag, never_both

Percent = Annotated[float, Meta(ge=0)]
Mebibytes = Annotated[float, Meta(ge=0)]


class Rows(Struct):
    """The rows of a statement; none for a statement without rows. Of columns of one name the last wins."""

    status: Literal["ok"]
    result: list[dict[str, Any]]


class SchemaState(Struct):
    """What was done about the schema."""

    status: Literal["ok"]
    message: str
    valid: bool


class SchemaCheck(Struct):
    """Whether the tables that make up the schema are there."""

    status: Literal["ok"]
    message: str
    valid: bool
    tables: list[str]
    missing: list[str]


class MachineUsage(Struct):
    """The machine (or container)."""

    cpu_percent: Percent
    memory_percent: Percent
    total_memory_mb: Mebibytes
    used_memory_mb: Mebibytes
    available_memory_mb: Mebibytes


class ProcessUsage(Struct):
    """The process that answers."""

    pid: int
    cpu_percent: Percent
    memory_rss_mb: Mebibytes
    memory_vms_mb: Mebibytes
    num_threads: Count
    start_time: Annotated[int, Meta(description="Seconds since 1970")]
    uptime_seconds: Count


class Usage(Struct):
    """CPU and memory."""

    system: MachineUsage
    process: ProcessUsage


class Thread(Struct):
    """A thread of the process that answers."""

    thread_id: int
    name: str
    is_alive: bool


class Profiler(Struct):
    """Whether a profiler runs; none does."""

    is_profiling: bool
    profiler_type: str | None
    message: str


class Information(Struct):
    """Nothing was done, and why."""

    status: Literal["info"]
    message: str


class DashboardNumbers(Struct):
    """Numbers of executions, playbooks and workers."""

    total_executions: Count
    successful_executions: Count
    failed_executions: Count
    cancelled_executions: Count
    running_executions: Count
    total_playbooks: Count
    total_workers: Count


class DashboardStats(Struct):
    """Numbers, at most five seconds old."""

    status: Literal["ok"]
    stats: DashboardNumbers


class DayCount(Struct):
    """Executions that were started on a day (UTC)."""

    count: Count
    date: Annotated[str, Meta(extra_json_schema={"format": "date"})]


class RecentExecution(Struct):
    """One of the newest executions."""

    execution_id: AnyId
    path: str | None
    status: str


class ChartConfig(Struct):
    """How to draw a chart."""

    chart_type: Literal["line"]
    time_range: Literal["7d"]


class TableConfig(Struct):
    """How to draw a table."""

    columns: list[str]


class TrendWidget(Struct):
    """Executions per day of the last seven days with starts."""

    id: Literal["execution-trend"]
    type: Literal["chart"]
    title: str
    config: ChartConfig
    data: list[DayCount]


class RecentWidget(Struct):
    """The newest executions."""

    id: Literal["recent-executions"]
    type: Literal["table"]
    title: str
    config: TableConfig
    data: list[RecentExecution]


class Widgets(Struct):
    """What a first page shows."""

    widgets: tuple[TrendWidget, RecentWidget]


DATABASE = Tag(
    "Database",
    "SQL and schema of the server's own database. `NOETL_SQL_API` says who may run SQL: `token` (default) holders of "
    "the internal token, `open` everybody, `off` nobody (then the two POST routes do not exist).",
    (
        Operation(
            method="POST",
            route="/api/postgres/execute",
            summary="Run a statement",
            body=Body(
                (StatementRequest,),
                {
                    "": never_both("db_schema", "schema"),
                    "query": "One SQL statement",
                    "query_base64": "The same in base64; wins",
                    "procedure": "The same; used without the other two",
                    "parameters": "Values of `$1`, `$2` ...",
                    "db_schema": "`search_path` for the statement",
                    "schema": "Another name of `db_schema`",
                    **{
                        name: {"type": "null", "description": "Refused: statements run on the server's own database"}
                        for name in ("database", "credential", "connection_string")
                    },
                },
            ),
            answers=(Answer(Rows, "The rows"),),
            refusals={
                422: (
                    "Either 'query' or 'procedure' must be provided",
                    'Database error: error returned from database: syntax error at or near "SELEC"',
                    "The statement has more than 10000 rows; add a LIMIT",
                )
            },
            guard="by setting",
        ),
        Operation(
            method="POST",
            route="/api/db/init",
            summary="Create the schema",
            text="Creates it if it is missing, and applies pending migrations; drops nothing.",
            answers=(Answer(SchemaState, "It is there"),),
            guard="by setting",
        ),
        Operation(
            method="GET",
            route="/api/db/validate",
            summary="Validate the schema",
            answers=(Answer(SchemaCheck, "What is there, and what is not"),),
        ),
    ),
)

DASHBOARD = Tag(
    "Dashboard",
    "Numbers for the first page of a user interface.",
    (
        Operation(
            method="GET",
            route="/api/dashboard/stats",
            summary="Dashboard numbers",
            answers=(Answer(DashboardStats, "The numbers"),),
        ),
        Operation(
            method="GET",
            route="/api/dashboard/widgets",
            summary="Dashboard widgets",
            answers=(Answer(Widgets, "The widgets"),),
            ids=True,
        ),
    ),
)

SYSTEM = Tag(
    "System",
    "The process that answers, and its machine.",
    (
        Operation(
            method="GET",
            route="/api/status",
            summary="CPU and memory",
            answers=(Answer(Usage, "What is used"),),
            database=False,
        ),
        Operation(
            method="GET",
            route="/api/threads",
            summary="List threads",
            answers=(Answer(list[Thread], "The threads"),),
            database=False,
        ),
        Operation(
            method="GET",
            route="/api/profiler/status",
            summary="State of the profiler",
            answers=(Answer(Profiler, "None runs"),),
            database=False,
        ),
        *(
            Operation(
                method="POST",
                route=f"/api/profiler/memory/{word}",
                summary=f"{word.capitalize()} the profiler",
                text="There is none; kept for clients that ask.",
                answers=(Answer(Information, "Nothing was done"),),
                database=False,
            )
            for word in ("start", "stop")
        ),
    ),
)

DOCUMENT = Tag(
    "Documentation",
    "This document, and the page that shows it.",
    (
        Operation(
            method="GET",
            route="/openapi.json",
            summary="This document",
            text="OpenAPI 3.1, with an `etag`, compressed for those who accept gzip.",
            answers=(
                Answer(dict[str, Any], "The document"),
                Answer(None, "`if-none-match` has the `etag` of the document", 304),
            ),
            database=False,
        ),
        *(
            Operation(
                method="GET",
                route=route,
                summary=summary,
                answers=(
                    Answer(str, "The file", media=media),
                    Answer(None, "`if-none-match` has the `etag` of the file", 304),
                ),
                database=False,
            )
            for route, summary, media in (
                ("/docs", "API page", "text/html; charset=utf-8"),
                ("/docs/page.css", "Style of the API page", "text/css; charset=utf-8"),
                ("/docs/page.js", "Program of the API page", "text/javascript; charset=utf-8"),
            )
        ),
    ),
)
