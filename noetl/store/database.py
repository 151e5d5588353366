"""The connection pool to one PostgreSQL database, and the translation of its errors.

Nothing here is session-scoped (no ``SET``, no session lock, no ``LISTEN``), so every statement works through a pooler
in transaction mode; behind one, which `Database.connect` notices, the statement cache is 0 (spec 70, I18). ``jsonb`` is
read and written as JSON text, never decoded on the way.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast
from urllib.parse import urlencode

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from noetl.errors import DatabaseError, DatabaseUnavailableError, NoetlError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping

    from noetl.store.connection import Connection, Record

log = logging.getLogger("noetl.store")

T = TypeVar("T")

POOL_TIMEOUT: Final = "Database error: pool timed out while waiting for an open connection"
UNREACHABLE: Final = "Database error: the database is unreachable"
MAXIMUM_IDLE_SECONDS: Final = 600.0
MAXIMUM_LIFETIME_SECONDS: Final = 1800.0
WAITERS_PER_CONNECTION: Final = 100
"""Waiting requests per connection of the pool beyond which a further one is refused at once (promise P5)."""

_SCHEMA_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}")
_CONNECTION_LOST: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    # What the driver raises, instead of one of the above, when a connection dies just as a statement is sent.
    asyncpg.InternalClientError,
)
_CANNOT_WRITE_NOW: Final = (
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.ReadOnlySQLTransactionError,  # a standby, as after a failover that has not reached us
)
_DRIVER_ERRORS: Final = (*_CONNECTION_LOST, asyncpg.PostgresError, asyncpg.InterfaceError)


class DatabaseSettings(Protocol):
    """What a pool needs to know (the database group of the configuration, spec 60, section 2.2).

    ``host`` starting with ``/`` is a socket directory. ``connection_options`` are libpq options by name
    (``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey``); what is absent follows the ``PG*`` environment.
    ``acquire_timeout_seconds`` also bounds the wait for the database in `Database.connect`.
    """

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def database(self) -> str: ...
    @property
    def schema(self) -> str: ...
    @property
    def application_name(self) -> str: ...
    @property
    def min_connections(self) -> int: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def acquire_timeout_seconds(self) -> float: ...
    @property
    def statement_cache_capacity(self) -> int: ...
    @property
    def connection_options(self) -> Mapping[str, str]: ...
    def reveal_password(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """Connections of a pool by state, and the requests that wait for one."""

    minimum: int
    maximum: int
    size: int
    idle: int
    waiting: int


class _Pool(Protocol):
    """The part of `asyncpg.Pool` that we use, typed."""

    def __await__(self) -> Generator[Any, None, object]: ...
    async def acquire(self, *, timeout: float) -> Connection: ...  # noqa: ASYNC109 (the driver's signature)
    async def release(self, connection: Connection) -> None: ...
    async def fetchval(self, query: str) -> Any: ...
    async def expire_connections(self) -> None: ...
    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


class RefusedStatementError(DatabaseError):
    """PostgreSQL refused a statement; ``sqlstate`` is its code, for example ``23505`` for a unique violation."""

    def __init__(self, message: str, *, detail: str, sqlstate: str) -> None:
        super().__init__(message, detail=detail)
        self.sqlstate = sqlstate


class ConnectionLostError(DatabaseUnavailableError):
    """The connection broke under a statement, or could not be made; the next attempt opens a new one."""


def quote_schema(name: str) -> str:
    """Validate a schema name and return it quoted for SQL text (spec 50, section 1, rule 4).

    Raises:
        ValueError: the name has characters other than letters, digits, ``_`` and ``$``, or more than 63.
    """
    if _SCHEMA_NAME.fullmatch(name) is None:
        raise ValueError(f"not a schema name: {name!r} (letters, digits, _ and $, at most 63, no digit first)")
    return f'"{name}"'


def hide_row(error: BaseException) -> None:
    """Take from a driver's error what PostgreSQL tells of the refused row: its values belong in no log (promise P7)."""
    if isinstance(error, asyncpg.PostgresError):
        vars(error)["detail"] = None


def translate(error: BaseException) -> NoetlError | None:
    """The error of `noetl.errors` that stands for a driver error, or None if it is not one.

    The detail of a refused statement has the reference's text, ``Database error: error returned from database:
    <message>`` (spec 10, section 2.5).
    """
    hide_row(error)
    if isinstance(error, _CONNECTION_LOST):
        return ConnectionLostError(UNREACHABLE, detail=f"Database error: {error}")
    if isinstance(error, _CANNOT_WRITE_NOW):
        return DatabaseUnavailableError(UNREACHABLE, detail=f"Database error: {error}")
    if isinstance(error, asyncpg.PostgresError):
        detail = f"Database error: error returned from database: {error}"
        return RefusedStatementError("Database error", detail=detail, sqlstate=str(getattr(error, "sqlstate", "")))
    if isinstance(error, asyncpg.InterfaceError):
        return DatabaseError("Database error", detail=f"Database error: {error}")
    return None


class Database:
    """A pool of connections to one database; the only source of connections for `noetl.store` and `noetl.ledger`.

    A lone database is its own cluster database and its own only shard: it has what `noetl.store.shards.Shards` has.
    """

    def __init__(self, pool: _Pool, settings: DatabaseSettings, connect_arguments: Mapping[str, Any]) -> None:
        """Use `Database.connect`."""
        self.schema: Final = settings.schema
        self.quoted_schema: Final = quote_schema(settings.schema)
        self._settings = settings
        self._connect_arguments = connect_arguments
        self._pool = pool
        self._acquire_timeout = settings.acquire_timeout_seconds
        self._maximum_waiting = settings.max_connections * WAITERS_PER_CONNECTION
        self._waiting = 0
        self.on_acquire: Callable[[float], None] | None = None
        """Called with the seconds that each request waited for its connection, also when it got none."""
        self._expire_at = monotonic() + MAXIMUM_LIFETIME_SECONDS
        self.cluster: Final = self
        self.shards: Final[tuple[Database, ...]] = (self,)
        self.named: Final[Mapping[str, Database]] = {"cluster": self}

    @classmethod
    async def connect(cls, settings: DatabaseSettings) -> Database:
        """Open the pool; a refused connection is tried again until the acquire timeout is over.

        Raises:
            DatabaseUnavailableError: nothing answered in time.
            DatabaseError: the server refused the user, the password or the database; waiting would not help.
        """
        arguments = _connect_arguments(settings)
        deadline = monotonic() + settings.acquire_timeout_seconds
        pause = 0.1
        while True:
            pool = None
            try:
                async with asyncio.timeout(max(deadline - monotonic(), 0.1)):
                    if arguments["statement_cache_size"] and await _is_pooled(arguments):
                        log.info("PostgreSQL is behind a pooler: statements are not prepared ahead")
                        arguments["statement_cache_size"] = 0
                    pool = _create_pool(settings, arguments)
                    await pool
                    await pool.fetchval("SELECT 1")
                return cls(pool, settings, arguments)
            except (*_CONNECTION_LOST, asyncpg.TooManyConnectionsError, TimeoutError) as error:
                _discard(pool)
                if monotonic() + pause >= deadline:
                    raise DatabaseUnavailableError(POOL_TIMEOUT, detail=f"Database error: {error}") from error
            except _DRIVER_ERRORS as error:
                _discard(pool)
                raise translate(error) or error from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    def of(self, _execution_id: int) -> Database:
        """The database of an execution: this one."""
        return self

    async def connect_dedicated(self) -> Connection:
        """A connection outside the pool with the same settings, for a ledger lane; the caller closes it.

        Raises:
            DatabaseUnavailableError: the database is unreachable.
        """
        try:
            return await _connect(**self._connect_arguments)
        except _DRIVER_ERRORS as error:
            raise translate(error) or error from error

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Connection]:
        """A connection of the pool for the time of the block, inside which driver errors become errors of ours.

        Raises:
            DatabaseUnavailableError: no connection became free within the acquire timeout, too many requests wait
                already, or the connection broke.
            DatabaseError: PostgreSQL refused a statement.
        """
        connection = await self._checkout()
        try:
            yield connection
        except asyncpg.InterfaceError as error:
            if _is_lost(connection):
                raise ConnectionLostError(UNREACHABLE, detail=f"Database error: {error}") from error
            raise translate(error) or error from error
        except asyncpg.InternalClientError as error:
            connection.terminate()  # its protocol state is undefined; it must not go back to the pool
            raise translate(error) or error from error
        except _DRIVER_ERRORS as error:
            raise translate(error) or error from error
        finally:
            await self._pool.release(connection)

    async def _checkout(self) -> Connection:
        if self._waiting >= self._maximum_waiting:
            raise DatabaseUnavailableError(POOL_TIMEOUT, detail=f"{self._waiting} requests wait already")
        if monotonic() >= self._expire_at:
            self._expire_at = monotonic() + MAXIMUM_LIFETIME_SECONDS
            await self._pool.expire_connections()
        self._waiting += 1
        started = monotonic()
        try:
            return await self._pool.acquire(timeout=self._acquire_timeout)
        except TimeoutError as error:
            raise DatabaseUnavailableError(POOL_TIMEOUT) from error
        except _DRIVER_ERRORS as error:
            raise translate(error) or error from error
        finally:
            self._waiting -= 1
            if self.on_acquire is not None:
                self.on_acquire(monotonic() - started)

    @asynccontextmanager
    async def transaction(self, *, readonly: bool = False) -> AsyncGenerator[Connection]:
        """A connection with an open transaction, committed at the end of the block; errors as `acquire`."""
        async with self.acquire() as connection, connection.transaction(readonly=readonly):
            yield connection

    async def fetch(self, sql: str, *arguments: object, retry: bool = True) -> list[Record]:
        """All rows of one statement. ``retry`` False for a statement that writes: see `fetchrow`."""
        return await self._run(lambda connection: connection.fetch(sql, *arguments), retry=retry)

    async def fetchrow(self, sql: str, *arguments: object, retry: bool = True) -> Record | None:
        """The first row of one statement, or None.

        A connection that died while it lay idle is replaced and the statement sent once more. Whether a broken
        connection had executed the statement cannot be known, so pass ``retry=False`` where twice is once too often.
        """
        return await self._run(lambda connection: connection.fetchrow(sql, *arguments), retry=retry)

    async def fetchval(self, sql: str, *arguments: object, retry: bool = True) -> Any:
        """The first column of the first row, or None; ``retry`` as in `fetchrow`."""
        return await self._run(lambda connection: connection.fetchval(sql, *arguments), retry=retry)

    async def execute(self, sql: str, *arguments: object, retry: bool = False) -> str:
        """Run one statement and return its command tag, for example ``UPDATE 1``; ``retry`` as in `fetchrow`."""
        return await self._run(lambda connection: connection.execute(sql, *arguments), retry=retry)

    @property
    def generic_plans(self) -> str:
        """SQL that makes the rest of a transaction use generic plans; empty where no plan outlives its statement.

        Without named statements, as behind a pooler, a generic plan would be made anew each time, for all partitions.
        """
        keeps_statements = self._connect_arguments["statement_cache_size"] > 0
        return "SET LOCAL plan_cache_mode = force_generic_plan" if keeps_statements else ""

    async def read_one(self, operation: Callable[[Connection], Awaitable[T]]) -> T:
        """Run statements that read one execution, in a read-only transaction; errors as `fetchrow`.

        Their plans do not depend on which execution it is. Left to itself PostgreSQL takes a plan for all partitions of
        the log for dearer than one for the partition at hand, and plans anew each time: ten times as long as it runs.
        """

        async def run(connection: Connection) -> T:
            try:
                await connection.execute(f"BEGIN READ ONLY; {self.generic_plans}")
                found = await operation(connection)
                await connection.execute("COMMIT")
            except BaseException:
                if not _is_lost(connection):
                    await connection.execute("ROLLBACK")
                raise
            return found

        return await self._run(run, retry=True)

    async def _run(self, operation: Callable[[Connection], Awaitable[T]], *, retry: bool) -> T:
        try:
            async with self.acquire() as connection:
                return await operation(connection)
        except ConnectionLostError:
            # After a restart of the database every idle connection is dead: the second attempt needs a new one.
            await self._pool.expire_connections()
            if not retry:
                raise
        async with self.acquire() as connection:
            return await operation(connection)

    async def health(self, timeout_seconds: float) -> bool:
        """Whether ``SELECT 1`` comes back in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self.fetchval("SELECT 1") == 1
        except (TimeoutError, NoetlError):
            return False

    def statistics(self) -> PoolStatistics:
        """The present state of the pool."""
        return PoolStatistics(
            minimum=min(self._settings.min_connections, self._settings.max_connections),
            maximum=self._settings.max_connections,
            size=self._pool.get_size(),
            idle=self._pool.get_idle_size(),
            waiting=self._waiting,
        )

    async def close(self, timeout_seconds: float = 5.0) -> None:
        """Close all connections; those still in use after the timeout are cut."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()


_connect = cast("Callable[..., Awaitable[Connection]]", asyncpg.connect)  # pyright: ignore[reportUnknownMemberType]
_make_pool = cast("Callable[..., _Pool]", asyncpg.create_pool)  # pyright: ignore[reportUnknownMemberType]


async def _is_pooled(connect_arguments: Mapping[str, Any]) -> bool:
    """Whether somebody between us and PostgreSQL made up the process id that cancels statements, as poolers do.

    A statement prepared on one connection of a pooler in transaction mode is not there on the next one (spec 70, I18).
    """
    connection = await _connect(**{**connect_arguments, "statement_cache_size": 0})
    try:
        return connection.get_server_pid() != await connection.fetchval("SELECT pg_backend_pid()")
    finally:
        await connection.close()


def _discard(pool: _Pool | None) -> None:
    if pool is not None:
        pool.terminate()


async def connect_url(url: str) -> Connection:
    """One connection to the database of a ``postgresql://`` URL, with the session settings of `Database`.

    Raises:
        DatabaseUnavailableError, DatabaseError: as `Database.connect`, without a second attempt.
    """
    try:
        return await _connect(dsn=url, statement_cache_size=0, server_settings={"TimeZone": "UTC"})
    except _DRIVER_ERRORS as error:
        raise translate(error) or error from error


def _create_pool(settings: DatabaseSettings, connect_arguments: Mapping[str, Any]) -> _Pool:
    return _make_pool(
        **connect_arguments,
        min_size=min(settings.min_connections, settings.max_connections),
        max_size=settings.max_connections,
        max_queries=2**62,
        max_inactive_connection_lifetime=MAXIMUM_IDLE_SECONDS,
        reset=_keep_session,
    )


def _is_lost(connection: Connection) -> bool:
    """Whether a connection of the pool is closed; one that broke may have been taken back from its user already."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


async def _keep_session(_connection: object) -> None:
    """Replaces the pool's ``RESET ALL`` at release: no session state is ever set, and it would cost a round trip."""


def _connect_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    return {
        "dsn": "postgresql://?" + urlencode(settings.connection_options),
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.reveal_password(),
        "database": settings.database,
        "timeout": settings.acquire_timeout_seconds,
        "statement_cache_size": settings.statement_cache_capacity,
        "max_cached_statement_lifetime": 0,
        # Columns without time zone hold UTC, also through CURRENT_TIMESTAMP defaults (spec 50, sections 2 and 5.3).
        "server_settings": {"TimeZone": "UTC", "application_name": settings.application_name},
    }
