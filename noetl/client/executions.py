"""`client.executions`: start, look at, follow and end executions."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from noetl.client.calls import segment
from noetl.client.models import (
    EventPage,
    ExecutionDetail,
    ExecutionEvent,
    ExecutionStatus,
    ExecutionSummary,
    StartedExecution,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncGenerator, Mapping

    from noetl.client.calls import Calls

POLL_SECONDS: Final = 0.2
PAGE_SIZE: Final = 500
"""The largest page that the server gives."""
NEWEST: Final = 50
"""Events that are fetched to see whether there are new ones."""


class _Cancelled(msgspec.Struct):
    cancelled_executions: list[int] = []


class _Check(msgspec.Struct):
    is_cancelled: bool


class ExecutionsApi:
    """Calls under ``/api/executions``, and ``/api/execute``."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def start(
        self,
        path: str | None = None,
        payload: Mapping[str, Any] | None = None,
        *,
        version: int | None = None,
        catalog_id: int | None = None,
        parent_execution_id: int | None = None,
        idempotency_key: str | None = None,
    ) -> StartedExecution:
        """Start an execution of the playbook at ``path``, or of the one with ``catalog_id``.

        Args:
            payload: overlays the playbook's workload.
            version: the newest by default.
            parent_execution_id: the execution on whose behalf this one runs.
            idempotency_key: two starts with one key are one execution. Without it every call has a key of its own, so
                that the request can be repeated when its answer is lost.
        """
        body = {
            "path": path,
            "catalog_id": catalog_id,
            "version": version,
            "payload": dict(payload or {}),
            "parent_execution_id": parent_execution_id,
        }
        given = {name: value for name, value in body.items() if value is not None}
        headers = {"Idempotency-Key": idempotency_key or secrets.token_hex(16)}
        return await self._calls.call(StartedExecution, "POST", "/api/execute", given, headers=headers, repeatable=True)

    async def list(
        self,
        *,
        limit: int = 50,
        offset: int = 0,
        status: str | None = None,
        path: str | None = None,
        catalog_id: int | None = None,
    ) -> builtins.list[ExecutionSummary]:
        """Executions, newest first, at most 100 of them.

        Args:
            status: ``RUNNING``, ``COMPLETED``, ``FAILED`` or ``CANCELLED``.
            path: a part of the playbook's path; case does not matter.
            catalog_id: of one version of a playbook.
        """
        query = {"limit": limit, "offset": offset or None, "status": status, "path": path, "catalog_id": catalog_id}
        return await self._calls.call(list[ExecutionSummary], "GET", "/api/executions", query=query)

    async def get(self, execution_id: int | str) -> ExecutionDetail:
        """An execution with all its events, oldest first."""
        return await self._calls.call(ExecutionDetail, "GET", _path(execution_id))

    async def status(self, execution_id: int | str) -> ExecutionStatus:
        """How far an execution is."""
        return await self._calls.call(ExecutionStatus, "GET", _path(execution_id, "status"))

    async def event_page(
        self,
        execution_id: int | str,
        *,
        page: int = 1,
        page_size: int = 100,
        event_type: str | None = None,
        since_event_id: int | None = None,
    ) -> EventPage:
        """A page of events, newest first; ``page_size`` is at most 500, ``since_event_id`` wants only higher ids."""
        query = {"page": page, "page_size": page_size, "event_type": event_type, "since_event_id": since_event_id}
        return await self._calls.call(EventPage, "GET", _path(execution_id), query=query)

    async def events(
        self, execution_id: int | str, *, event_type: str | None = None, since_event_id: int | None = None
    ) -> AsyncGenerator[ExecutionEvent]:
        """The events that are there, newest first, a page at a time; each of them once, even when new ones come."""
        last: int | None = None
        number, has_next = 0, True
        while has_next:
            number += 1
            page = await self.event_page(
                execution_id,
                page=number,
                page_size=PAGE_SIZE,
                event_type=event_type,
                since_event_id=since_event_id,
            )
            for event in page.events:
                if last is None or event.event_id < last:  # what new events push to the next page is known already
                    last = event.event_id
                    yield event
            has_next = page.pagination.has_next

    async def follow(
        self, execution_id: int | str, *, poll_seconds: float = POLL_SECONDS
    ) -> AsyncGenerator[ExecutionEvent]:
        """The events as they come, those that are there first; ends with the execution.

        Events that come together are in the order of their times. Bound it with ``asyncio.timeout``.
        """
        seen: set[int] = set()
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            page = await self.event_page(execution_id, page_size=NEWEST)
            new = await self._unseen(execution_id, page, seen)
            for event in sorted(new, key=lambda event: (event.created_at, event.event_id)):
                yield event
            if page.has_ended:
                return
            # of a long execution the answers are long: most of the time nobody should be busy with them
            await asyncio.sleep(max(poll_seconds, 4 * (clock() - began)))

    async def wait(self, execution_id: int | str, *, poll_seconds: float = POLL_SECONDS) -> ExecutionStatus:
        """Wait for the end of an execution. Bound it with ``asyncio.timeout``."""
        while True:
            status = await self.status(execution_id)
            if status.has_ended:
                return status
            await asyncio.sleep(poll_seconds)

    async def cancel(
        self, execution_id: int | str, reason: str | None = None, *, cascade: bool = False
    ) -> builtins.list[int]:
        """Cancel an execution, and with ``cascade`` those that it started; returns the ids, this one first."""
        body = {"reason": reason, "cascade": cascade}
        answer = await self._calls.call(_Cancelled, "POST", _path(execution_id, "cancel"), body)
        return answer.cancelled_executions or [int(execution_id)]

    async def is_cancelled(self, execution_id: int | str) -> bool:
        """Whether an execution was cancelled; False also for an unknown one."""
        return (await self._calls.call(_Check, "GET", _path(execution_id, "cancellation-check"))).is_cancelled

    async def finalize(
        self, execution_id: int | str, status: Literal["COMPLETED", "FAILED"], error: str | None = None
    ) -> None:
        """End an execution from outside; nothing happens if it ended like that already."""
        body = {"status": status, "error": error}
        await self._calls.call(object, "POST", _path(execution_id, "finalize"), body, repeatable=True)

    async def _unseen(
        self, execution_id: int | str, newest: EventPage, seen: set[int]
    ) -> builtins.list[ExecutionEvent]:
        """The events that are not among those seen, to which they are added.

        Ids are stamped by several clocks, so new events are not always those with the highest ids: what tells that some
        are missing is their number.
        """
        new = _take_new(newest, seen)
        number = 0
        page = newest
        while len(seen) < page.pagination.total_events and (number == 0 or page.pagination.has_next):
            number += 1
            page = await self.event_page(execution_id, page=number, page_size=PAGE_SIZE)
            new += _take_new(page, seen)
        return new


def _take_new(page: EventPage, seen: set[int]) -> list[ExecutionEvent]:
    new = [event for event in page.events if event.event_id not in seen]
    seen.update(event.event_id for event in new)
    return new


def _path(execution_id: int | str, *rest: str) -> str:
    return "/".join(("/api/executions", segment(execution_id), *rest))
