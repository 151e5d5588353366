"""The executions' routes: list, detail, status, cancel, cancellation check, finalize (spec 10, section 6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec
import orjson

from noetl.errors import BadRequestError, NotFoundError, RejectedRequestError
from noetl.http.ids import JsonIds
from noetl.http.requests import Query, json_body, path_integer, refuse_nul
from noetl.http.responses import json_response, timestamp
from noetl.http.streams import json_stream_response
from noetl.store.executions import DetailPage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.http.ids import WriteId
    from noetl.store.executions import EventRow, ExecutionDetail, ExecutionHead, ExecutionProgress, ExecutionRow
    from noetl.store.sharded_executions import Executions

DEFAULT_LIMIT: Final = 50
HIGHEST_LIMIT: Final = 100
DEFAULT_PAGE_SIZE: Final = 100
HIGHEST_PAGE_SIZE: Final = 500


class ExecutionLedger(Protocol):
    """What these routes need of the ledger."""

    async def cancel(self, execution_id: int, reason: str | None = None, *, cascade: bool = False) -> list[int]:
        """Cancel an execution, and its unfinished descendants; returns the ids, this one first."""
        ...

    async def finalize(self, execution_id: int, status: str, error: str | None) -> None:
        """End an execution."""
        ...


class CancelRequest(msgspec.Struct):
    """Optional body of cancel."""

    reason: str | None = None
    cascade: bool = False


class FinalizeRequest(msgspec.Struct):
    """Body of finalize."""

    status: str
    error: str | None = None


_CANCEL: Final = msgspec.json.Decoder(CancelRequest)
_FINALIZE: Final = msgspec.json.Decoder(FinalizeRequest)


class ExecutionRoutes:
    """The routes under ``/api/executions``. Reads go to the database, never through the ledger."""

    def __init__(self, executions: Executions, ledger: ExecutionLedger, ids: JsonIds | None = None) -> None:
        self._executions = executions
        self._ledger = ledger
        self._ids = JsonIds() if ids is None else ids

    def register(self, application: HttpApplication) -> None:
        """Add the routes."""
        application.add_route("GET", "/api/executions", self.list_executions)
        application.add_route("GET", "/api/executions/{execution_id}", self.detail)
        application.add_route("GET", "/api/executions/{execution_id}/status", self.status)
        application.add_route("POST", "/api/executions/{execution_id}/cancel", self.cancel)
        application.add_route(
            "GET", "/api/executions/{execution_id}/cancellation-check", self.cancellation_check, quiet=True
        )
        application.add_route("POST", "/api/executions/{execution_id}/finalize", self.finalize)

    async def list_executions(self, request: Request) -> Response:
        """A page of executions, newest first."""
        query = Query(request)
        limit = query.integer("limit", bits=32)
        offset = query.integer("offset", bits=32)
        for name, value in (("limit", limit), ("offset", offset)):
            if value is not None and value < 0:
                raise BadRequestError(f"{name} must not be negative")
        catalog_id, path, status = query.integer("catalog_id"), query.text("path"), query.text("status")
        refuse_nul("path", path)
        rows = await self._executions.page(
            limit=DEFAULT_LIMIT if limit is None else min(limit, HIGHEST_LIMIT),
            offset=offset or 0,
            catalog_id=catalog_id,
            path=path,
            status=status,
        )
        write_id = self._ids.of(request)
        now = datetime.now(UTC)
        return json_response([_row_members(row, write_id, now) for row in rows])

    async def detail(self, request: Request) -> Response:
        """One execution with its events: all of them in order of time, or a page of them, newest first (fix 16)."""
        execution_id = path_integer(request, "execution_id")
        filtered = EventFilter.of(Query(request))
        page = None if filtered is None else filtered.page_of_store()
        write_id = self._ids.of(request)
        detail = await self._executions.detail(execution_id, page)
        if detail is None:
            raise NotFoundError(f"Execution not found: {execution_id}")
        pagination = None if filtered is None else filtered.pagination(detail.total)
        return await json_stream_response(self._detail_parts(execution_id, detail, pagination, write_id))

    async def _detail_parts(
        self, execution_id: int, detail: ExecutionDetail, pagination: dict[str, Any] | None, write_id: WriteId
    ) -> AsyncGenerator[bytes]:
        yield orjson.dumps(_head_members(detail.head, detail.progress, write_id))[:-1] + b',"events":['
        separator = b""
        async for rows in self._executions.events(execution_id, detail):
            for row in rows:
                yield separator + orjson.dumps(_event_members(row, write_id))
                separator = b","
        yield b"]}" if pagination is None else b'],"pagination":' + orjson.dumps(pagination) + b"}"

    async def status(self, request: Request) -> Response:
        """Status and progress of an execution; also of one that has events but no start."""
        execution_id = path_integer(request, "execution_id")
        progress = await self._executions.progress(execution_id)
        if progress is None:
            raise NotFoundError(f"Execution not found: {execution_id}")
        return json_response(
            {
                "execution_id": self._ids.of(request)(execution_id),
                "status": progress.status,
                "current_step": progress.current_step,
                "progress": {
                    "total_steps": progress.total_steps,
                    "completed_steps": len(progress.completed_steps),
                    "running_steps": progress.running_steps,
                    "failed_steps": progress.failed_steps,
                },
                "is_cancelled": progress.is_cancelled,
                **_outcome_members(progress),
            }
        )

    async def cancel(self, request: Request) -> Response:
        """Cancel an execution; the body is optional, and one of another shape is as none."""
        execution_id = path_integer(request, "execution_id")
        body = await _cancel_body(request)
        refuse_nul("reason", body.reason)
        cancelled = await self._ledger.cancel(execution_id, body.reason, cascade=body.cascade)
        return json_response(
            {
                "execution_id": self._ids.of(request)(execution_id),
                "message": "Execution cancellation requested",
                "status": "cancelled",
                "cancelled_executions": [str(identity) for identity in cancelled],
            }
        )

    async def cancellation_check(self, request: Request) -> Response:
        """Whether an execution is cancelled; false for an unknown one."""
        execution_id = path_integer(request, "execution_id")
        is_cancelled = await self._executions.is_cancelled(execution_id)
        return json_response({"execution_id": self._ids.of(request)(execution_id), "is_cancelled": is_cancelled})

    async def finalize(self, request: Request) -> Response:
        """End an execution from outside."""
        execution_id = path_integer(request, "execution_id")
        body = await json_body(request, _FINALIZE)
        refuse_nul("error", body.error)
        await self._ledger.finalize(execution_id, body.status, body.error)
        return json_response(
            {
                "execution_id": self._ids.of(request)(execution_id),
                "status": body.status,
                "message": f"Execution finalized with status: {body.status}",
            }
        )


class EventFilter(msgspec.Struct):
    """Which events of an execution a request wants."""

    page: int
    page_size: int
    since_event_id: int | None
    event_type: str | None

    @classmethod
    def of(cls, query: Query) -> EventFilter | None:
        """The filter of a query, None when it names none of the parameters; raises BadRequestError out of bounds."""
        page, page_size = query.integer("page", bits=32), query.integer("page_size", bits=32)
        since_event_id, event_type = query.integer("since_event_id"), query.text("event_type")
        if page is None and page_size is None and since_event_id is None and event_type is None:
            return None
        if page is not None and page < 1:
            raise BadRequestError("page must be at least 1")
        if page_size is not None and not 1 <= page_size <= HIGHEST_PAGE_SIZE:
            raise BadRequestError(f"page_size must be from 1 to {HIGHEST_PAGE_SIZE}")
        refuse_nul("event_type", event_type)
        return cls(
            page=1 if page is None else page,
            page_size=DEFAULT_PAGE_SIZE if page_size is None else page_size,
            since_event_id=since_event_id,
            event_type=event_type,
        )

    def page_of_store(self) -> DetailPage:
        """What the store is asked for."""
        offset = (self.page - 1) * self.page_size
        return DetailPage(self.page_size, offset, self.since_event_id, self.event_type)

    def pagination(self, total: int) -> dict[str, Any]:
        """The member that tells which page this is, of so many events."""
        pages = -(-total // self.page_size)
        return {
            "page": self.page,
            "page_size": self.page_size,
            "total_events": total,
            "total_pages": pages,
            "has_next": self.page < pages,
            "has_prev": self.page > 1,
        }


async def _cancel_body(request: Request) -> CancelRequest:
    try:
        return _CANCEL.decode(await request.read() or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RejectedRequestError, RecursionError):
        return CancelRequest()


def _row_members(row: ExecutionRow, write_id: WriteId, now: datetime) -> dict[str, Any]:
    return {
        "execution_id": write_id(row.execution_id),
        "catalog_id": write_id(row.catalog_id),
        "path": row.path,
        "status": row.status,
        "started_at": timestamp(row.started_at),
        "completed_at": timestamp(row.ended_at),
        "event_count": row.event_count,
        "version": row.version,
        "parent_execution_id": write_id(row.parent_execution_id),
        "error": row.error,
        **_times(row.started_at, row.ended_at, now),
    }


def _head_members(head: ExecutionHead, progress: ExecutionProgress, write_id: WriteId) -> dict[str, Any]:
    return {
        "execution_id": write_id(head.execution_id),
        "catalog_id": write_id(head.catalog_id),
        "path": head.path,
        "status": progress.status,
        "started_at": timestamp(progress.started_at),
        "completed_at": timestamp(progress.ended_at),
        "parent_execution_id": write_id(head.parent_execution_id),
        "workload": None if head.workload is None else orjson.Fragment(head.workload),
        "version": head.version,
        **_outcome_members(progress),
    }


def _outcome_members(progress: ExecutionProgress) -> dict[str, Any]:
    """What clients wait for beyond the reference's members (fix 6)."""
    return {
        "completed": progress.status != "RUNNING",
        "failed": progress.status == "FAILED",
        "completed_steps": progress.completed_steps,
        "error": progress.error,
        **_times(progress.started_at, progress.ended_at, datetime.now(UTC)),
    }


def _times(started_at: datetime | None, ended_at: datetime | None, now: datetime) -> dict[str, Any]:
    seconds = 0.0 if started_at is None else (_aware(ended_at or now) - _aware(started_at)).total_seconds()
    seconds = max(seconds, 0.0)
    return {
        "start_time": timestamp(started_at),
        "end_time": timestamp(ended_at),
        "duration_seconds": round(seconds, 3),
        "duration_human": human_duration(int(seconds)),
    }


def human_duration(seconds: int) -> str:
    """``1d 2h 3m 4s`` without the parts that are 0; ``0s`` for nothing."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((day, "d"), (hour, "h"), (minute, "m"), (second, "s")) if count]
    return " ".join(parts) or "0s"


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _event_members(row: EventRow, write_id: WriteId) -> dict[str, Any]:
    return {
        "event_id": write_id(row.event_id),
        "event_type": row.event_type,
        "node_name": row.node_name,
        "status": "UNKNOWN" if row.status is None else row.status,
        "created_at": timestamp(row.created_at),
        "result": None if row.result is None else orjson.Fragment(row.result),
        "error": row.error,
    }
