"""Records every attempt to get at a secret: in the background, or before the secret is given out (spec 40, 13)."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, overload

import msgspec

from noetl.errors import DatabaseError, InternalError, NoetlError
from noetl.store.database import RefusedStatementError
from noetl.store.secret_audit import AuditRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

log = logging.getLogger("noetl.secrets")

QUEUE_ROWS: Final = 10_000
BATCH_ROWS: Final = 500
RETRY_SECONDS: Final = 1.0
ATTEMPTS: Final = 5
_CONTENT: Final = ("22", "23", "54")
"""Classes of SQLSTATE in which PostgreSQL refuses what a statement brings: another attempt brings the same."""

GET_CREDENTIAL: Final = "get_credential"
GET_SEALED: Final = "get_sealed"
GET_KEYCHAIN: Final = "get_keychain"
CROSS_REGION: Final = "cross_region_broker_serve"
RESOLVE_KEYCHAIN: Final = "resolve_keychain"


class SecretAccess(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to get at a secret: which, how (an operation above), by whom and for which execution.

    ``client`` is the address that the request came from: of the worker, or of a proxy before it.
    """

    credential: str
    operation: str
    client: str | None = None
    worker_id: str | None = None
    execution_id: int | None = None
    parent_execution_id: int | None = None


class AuditSink(Protocol):
    """Where rows go."""

    async def insert(self, rows: Sequence[AuditRow]) -> None:
        """Add rows, or raise a NoetlError and add none."""
        ...


class SecretAudit:
    """The writer of the audit. Without `enabled` and `required` it writes nothing.

    Args:
        sink: the table.
        mint: gives the ids of rows.
        server_region: region of this server, for every row; None for none.
        enabled: rows are kept in memory and written by `run`; when too many wait, further ones are lost and counted.
        required: a row is written before `record` returns.
        count: told about each row: operation, outcome, and ``written``, ``dropped_async`` or ``failed_strict``.
    """

    def __init__(
        self,
        sink: AuditSink,
        mint: Callable[[], int],
        *,
        server_region: str | None = None,
        enabled: bool = True,
        required: bool = False,
        count: Callable[[str, str, str], None] | None = None,
        queue_rows: int = QUEUE_ROWS,
    ) -> None:
        self._sink = sink
        self._mint = mint
        self._region = server_region or None
        self._enabled = enabled
        self._required = required
        self._count = count
        self._queue_rows = queue_rows
        self._waiting: deque[AuditRow] = deque()
        self._filled = asyncio.Event()
        self._singly = 0  # rows in front that must not share a statement, because they were refused together

    async def record(
        self,
        access: SecretAccess,
        outcome: str,
        *,
        broker_region: str | None = None,
        kek_version: str | None = None,
        notes: str | None = None,
    ) -> None:
        """Record how an attempt ended; call it before the value leaves.

        Raises:
            InternalError: audit is required and the row cannot be written; the value must not be given out.
        """
        if not (self._enabled or self._required):
            return
        row = AuditRow(
            audit_id=self._mint(),
            occurred_at=datetime.now(UTC),
            credential=_storable(access.credential),
            operation=access.operation,
            outcome=outcome,
            worker_id=_storable(access.worker_id),
            execution_id=access.execution_id,
            parent_execution_id=access.parent_execution_id,
            server_region=self._region,
            broker_region=_storable(broker_region),
            kek_version=_storable(kek_version),
            notes=_storable(_notes(access.client, notes)),
        )
        if self._required:
            await self._record_now(row)
        elif len(self._waiting) >= self._queue_rows:
            self._tell([row], "dropped_async")
        else:
            self._waiting.append(row)
            self._filled.set()

    async def run(self) -> None:
        """Write what waits until cancelled; a batch that cannot be written several times is lost and counted."""
        while True:
            await self._filled.wait()
            await self._write_batch(ATTEMPTS)

    async def flush(self, timeout_seconds: float) -> None:
        """Write what still waits, for the end of the process; call it when `run` has ended."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._waiting:
                    await self._write_batch(1)
        except TimeoutError:
            self._tell(self._waiting, "dropped_async")
            log.error("Audit rows lost at shutdown", extra={"rows": len(self._waiting)})
            self._waiting.clear()

    async def _record_now(self, row: AuditRow) -> None:
        try:
            await self._sink.insert([row])
        except NoetlError as error:
            self._tell([row], "failed_strict")
            raise InternalError("secret audit is required and could not be written", detail=error.detail) from error
        self._tell([row], "written")

    async def _write_batch(self, attempts: int) -> None:
        """Write the first rows; those that the table refuses for what is in one of them stay, to be written singly."""
        limit = 1 if self._singly else BATCH_ROWS
        batch = [self._waiting[position] for position in range(min(len(self._waiting), limit))]
        for attempt in range(1, attempts + 1):
            try:
                await self._sink.insert(batch)
            except NoetlError as error:
                refused = _is_refusal(error)
                if refused and len(batch) > 1:
                    self._singly = len(batch)
                    return
                if not refused and attempt < attempts:
                    await asyncio.sleep(RETRY_SECONDS * attempt)
                    continue
                self._tell(batch, "dropped_async")
                log.error("Audit rows lost", extra={"rows": len(batch), "error": error.message})
            else:
                self._tell(batch, "written")
            break
        # Only now: a cancellation above leaves the rows to `flush`, and their ids make writing them twice harmless.
        for _ in batch:
            self._waiting.popleft()
        self._singly = max(0, self._singly - len(batch))
        if not self._waiting:
            self._filled.clear()

    def _tell(self, rows: Sequence[AuditRow], status: str) -> None:
        if self._count is not None:
            for row in rows:
                self._count(row.operation, row.outcome, status)


def _notes(client: str | None, notes: str | None) -> str | None:
    """What has no column of its own, for a reader."""
    parts = [notes, None if client is None else f"client {client}"]
    return "; ".join(part for part in parts if part) or None


def _is_refusal(error: NoetlError) -> bool:
    """Whether the rows themselves are the cause."""
    if isinstance(error, RefusedStatementError):
        return error.sqlstate.startswith(_CONTENT)
    return isinstance(error, DatabaseError)  # of the driver, which cannot encode a value


@overload
def _storable(text: str) -> str: ...
@overload
def _storable(text: str | None) -> str | None: ...
def _storable(text: str | None) -> str | None:
    """What a client chose, as a text column takes it."""
    if text is None:
        return None
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
