"""Appending one batch of the ledger: rows in columns, one round trip, all or none."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from noetl.errors import DatabaseError, DatabaseUnavailableError
from noetl.store.database import ConnectionLostError, hide_row, translate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from noetl.store.connection import Connection

_EVENT_TYPES: Final = (
    "bigint[], bigint[], bigint[], bigint[], bigint[], timestamp[], text[], text[], text[], text[], text[], text[],"
    " text[], text[], text[], text[], bigint[], integer[]"
).split(", ")
_UPDATE_TYPES: Final = "bigint[], bigint[], text[], text[], timestamptz[], text[], bigint[], integer[]".split(", ")
_KEY_TYPES: Final = ["text[]", "bigint[]", "integer[]"]


class BatchRows:
    """The rows of one batch, collected in the order in which they are written."""

    __slots__ = ("events", "keys", "updates", "witness")

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.updates: list[tuple[Any, ...]] = []
        self.keys: list[tuple[str, int, int]] = []
        self.witness: tuple[int, int] | None = None
        """Execution and event id of a row under an id that this attempt minted: it is in the log if, and only if, the
        batch was committed. An id that a client chose proves nothing, the client may have sent it elsewhere as well."""

    def add_event(
        self,
        execution_id: int,
        event_id: int,
        catalog_id: int,
        event_type: str,
        node_name: str,
        status: str,
        created_at: datetime,
        *,
        node_id: str | None = None,
        node_type: str | None = None,
        parent_event_id: int | None = None,
        parent_execution_id: int | None = None,
        context: str | None = None,
        result: str | None = None,
        meta: str | None = None,
        error: str | None = None,
        worker_id: str | None = None,
        command_row_id: int | None = None,
        iteration_index: int | None = None,
    ) -> None:
        """Add one event; ``command_row_id`` also makes its row in ``noetl.command``. JSON columns are texts."""
        self.events.append(
            (
                execution_id,
                event_id,
                catalog_id,
                parent_event_id,
                parent_execution_id,
                created_at,
                event_type,
                node_name if node_id is None else node_id,
                node_name,
                node_type,
                status,
                context,
                result,
                meta,
                error,
                worker_id,
                command_row_id,
                iteration_index,
            )
        )

    def update_command(
        self,
        execution_id: int,
        issued_event_id: int,
        status: str,
        latest_event_id: int | None,
        at: datetime,
        *,
        worker_id: str | None = None,
        error: str | None = None,
        attempt: int | None = None,
    ) -> None:
        """Let the row of a command follow its event; ``at`` is timezone-aware."""
        self.updates.append((execution_id, issued_event_id, status, worker_id, at, error, latest_event_id, attempt))

    def remember_key(self, idempotency_key: str, execution_id: int, commands_generated: int) -> None:
        """Bind an idempotency key to the execution that it started."""
        self.keys.append((idempotency_key, execution_id, commands_generated))


class StaleStateError(Exception):
    """Another process appended to these executions since their state was folded; nothing was written."""

    def __init__(self, executions: list[int]) -> None:
        super().__init__(f"stale state of {len(executions)} executions")
        self.executions = executions


class RepeatedEventError(DatabaseError):
    """The batch holds an event id that its execution has already; nothing was written."""


class RepeatedKeyError(DatabaseError):
    """The batch holds an idempotency key that is bound already; nothing was written."""


class LedgerConnection:
    """The connection of one lane: opened on demand, replaced when it breaks."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Connection]:
        """The connection for the time of the block, inside which driver errors become errors of ours.

        Raises:
            ConnectionLostError: the connection broke; whether the last statement took effect is unknown.
            RepeatedEventError, RepeatedKeyError, DatabaseError: PostgreSQL refused a statement.
        """
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await self._connect()
        try:
            yield connection
        except asyncpg.LockNotAvailableError as error:
            raise DatabaseUnavailableError("The execution is busy in another process", detail=str(error)) from error
        except asyncpg.UniqueViolationError as error:
            hide_row(error)
            kind = RepeatedKeyError if "execute_idempotency" in str(error) else RepeatedEventError
            raise kind("Database error", detail=str(error)) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            translated = translate(error)
            if translated is None or connection.is_closed() or isinstance(translated, ConnectionLostError):
                self.discard()
                raise ConnectionLostError("Database error: the database is unreachable", detail=str(error)) from error
            raise translated from error
        except asyncio.CancelledError:
            self.discard()
            raise

    async def reconnect(self, within_seconds: float) -> None:
        """Replace the connection, trying for some time.

        Raises:
            DatabaseUnavailableError: the time is over.
        """
        self.discard()
        deadline = monotonic() + within_seconds
        pause = 0.05
        while True:
            try:
                async with asyncio.timeout(within_seconds):
                    self._connection = await self._connect()
            except (DatabaseUnavailableError, TimeoutError) as error:
                if isinstance(error, TimeoutError):
                    raise DatabaseUnavailableError("Database error: the database is unreachable") from error
                if monotonic() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 0.5)
            else:
                return

    def discard(self) -> None:
        """Cut the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        """Close in good order."""
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close()
        self._connection = None


class LedgerStore:
    """Statements of the ledger for one schema."""

    def __init__(self, schema: str, generic_plans: str = "") -> None:
        """``generic_plans`` is `Database.generic_plans`: planning over all partitions takes longer than a batch."""
        types = ["bigint[]", "bigint[]", *_EVENT_TYPES, *_UPDATE_TYPES, *_KEY_TYPES]
        arguments = ", ".join(f"${number}::{kind}" for number, kind in enumerate(types, 1))
        self._append = f"SELECT execution_id, log_position, is_stale FROM {schema}.ledger_append_4({arguments})"
        self._bound = (
            f"SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '15s'; {generic_plans}"
        )
        self._lock = "SELECT pg_advisory_xact_lock(held.id) FROM unnest($1::bigint[]) AS held(id)"
        self._positions = f"""
            SELECT held.id AS execution_id, coalesce((
                SELECT log_position FROM {schema}.event
                WHERE execution_id = held.id AND log_position IS NOT NULL
                ORDER BY log_position DESC LIMIT 1), 0) AS log_position
            FROM unnest($1::bigint[]) AS held(id)"""
        self._find_key = (
            f"SELECT execution_id, commands_generated FROM {schema}.execute_idempotency WHERE idempotency_key = $1"
        )
        self._purge_keys = f"DELETE FROM {schema}.execute_idempotency WHERE created_at < now() - $1::interval"
        self._exists = f"SELECT EXISTS (SELECT FROM {schema}.event WHERE execution_id = $1 AND event_id = $2)"

    async def append(self, connection: Connection, held: Sequence[tuple[int, int]], rows: BatchRows) -> dict[int, int]:
        """Write the batch if every execution is still at the position given; ``held`` ascends by execution id.

        Returns the new position of each execution that got a row. Raises StaleStateError (nothing written), or what
        PostgreSQL raises (nothing written either: the function is one statement).
        """
        columns = [
            *_columns(held, 2),
            *_columns(rows.events, len(_EVENT_TYPES)),
            *_columns(rows.updates, len(_UPDATE_TYPES)),
            *_columns(rows.keys, len(_KEY_TYPES)),
        ]
        records = await connection.fetch(self._append, *columns)
        stale = [record["execution_id"] for record in records if record["is_stale"]]
        if stale:
            raise StaleStateError(stale)
        return {record["execution_id"]: record["log_position"] for record in records}

    async def lock(self, connection: Connection, executions: Sequence[int]) -> None:
        """Take the executions' locks for the rest of the transaction; ascending ids, or two batches deadlock."""
        await connection.execute(self._bound)
        await connection.execute(self._lock, executions)

    async def positions(self, connection: Connection, executions: Sequence[int]) -> list[tuple[int, int]]:
        """Where the logs of executions end, as pairs of execution and position; under `lock` this stays so."""
        records = await connection.fetch(self._positions, executions)
        return [(record["execution_id"], record["log_position"]) for record in records]

    async def was_committed(self, connection: Connection, execution_id: int, event_id: int) -> bool:
        """Whether an event is in the log, after everybody who is about to write it is done (inside a transaction)."""
        await self.lock(connection, [execution_id])
        return bool(await connection.fetchval(self._exists, execution_id, event_id))

    async def purge_keys(self, connection: Connection, older_than: timedelta) -> None:
        """Forget idempotency keys; a request under one of them starts a new execution afterwards."""
        await connection.execute(self._purge_keys, older_than)

    async def find_key(self, connection: Connection, idempotency_key: str) -> tuple[int, int] | None:
        """The execution that a key started and its number of commands, or None."""
        record = await connection.fetchrow(self._find_key, idempotency_key)
        return None if record is None else (record["execution_id"], record["commands_generated"])


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [() for _ in range(width)]
