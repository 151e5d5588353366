"""Runs a statement of a caller on a connection of its own and gives the rows as JSON (spec 10, section 10.1, fix 15).

Every value crosses the wire in PostgreSQL's text form, in both directions, so that no type is beyond us. The connection
is closed afterwards: whatever the statement set, opened or locked on it ends with it. It is also cleaned, because a
pooler gives the session to the next client.
"""

from __future__ import annotations

import asyncio
import math
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import msgspec
import orjson

from noetl.errors import OverloadedError, UnprocessableError
from noetl.store.database import RefusedStatementError, translate

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from noetl.store.connection import Record
    from noetl.store.database import Database

STATEMENT_SECONDS: Final = 60
HIGHEST_ROWS: Final = 10_000
HIGHEST_BYTES: Final = 64 << 20
"""JSON text of all rows together."""
BATCH_ROWS: Final = 256
BATCH_BYTES: Final = 4 << 20
"""Rows are fetched so many at a time as have about this size, by those seen so far."""
CONNECTIONS: Final = 4
"""Statements that run at once in this process."""
WAIT_SECONDS: Final = 10.0

_CLEAN: Final = """
    RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; UNLISTEN *; DEALLOCATE ALL; DISCARD TEMP;
    SELECT pg_advisory_unlock_all()"""
"""What `DISCARD ALL` does, inside the transaction, which is all that a pooler keeps together."""
_CALLER_CLASSES: Final = frozenset("0A 21 22 23 25 26 2B 2D 2F 34 3B 3D 3F 42 44 54 55 P0".split())
"""Classes of SQLSTATE that tell of the statement, not of the server."""
_QUERY_CANCELED: Final = "57014"

_NAME: Final = re.compile(r'[^\W\d][\w$]*|"(?:[^"\0]|"")+"')
_NAMES: Final = re.compile(rf"\s*(?:{_NAME.pattern})\s*(?:,\s*(?:{_NAME.pattern})\s*)*")
_MOMENT: Final = re.compile(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d+))?(\+00)?", re.ASCII)

_SET: Final = "SELECT set_config($1, $2, true)"
_TYPES: Final = """
    SELECT type.oid, coalesce(element.typname, type.typname)::text AS name, space.nspname::text AS space,
        element.oid IS NOT NULL AS is_array, coalesce(element.typtype, type.typtype)::text AS kind,
        element.oid IS NULL AND type.typelem <> 0 AND type.typlen = -1 AS is_vector
    FROM pg_catalog.pg_type AS type
    LEFT JOIN pg_catalog.pg_type AS element ON element.typarray = type.oid
    JOIN pg_catalog.pg_namespace AS space ON space.oid = coalesce(element.typnamespace, type.typnamespace)
    WHERE type.oid = ANY ($1::oid[])"""


class _TypeName(Protocol):
    oid: int


class _Attribute(Protocol):
    name: str
    type: _TypeName


class _Cursor(Protocol):
    async def fetch(self, n: int) -> list[Record]: ...


class _Statement(Protocol):
    def get_attributes(self) -> Sequence[_Attribute]: ...
    def get_parameters(self) -> Sequence[_TypeName]: ...
    async def fetch(self, *args: object) -> list[Record]: ...
    async def cursor(self, *args: object) -> _Cursor: ...


class _Connection(Protocol):
    """What is needed of the driver's connection beyond `noetl.store.connection.Connection`."""

    async def prepare(self, query: str) -> _Statement: ...
    async def fetch(self, query: str, *args: object) -> list[Record]: ...
    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str,
        encoder: Callable[[Any], str],
        decoder: Callable[[str], object],
        format: str,
    ) -> None: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...
    def is_closed(self) -> bool: ...
    async def execute(self, query: str) -> str: ...
    async def close(self, *, timeout: float) -> None: ...  # noqa: ASYNC109 (the driver's signature)
    def terminate(self) -> None: ...


class _Type(msgspec.Struct):
    """The type of a column or parameter; ``name``, ``space``, ``kind`` (pg_type.typtype) are an array's element's."""

    oid: int
    name: str
    space: str
    is_array: bool
    kind: str
    is_vector: bool

    @property
    def has_text_codec(self) -> bool:
        """Whether the driver can be told to leave values of the type as text; not for ranges, rows and old vectors."""
        return self.kind in "bdep" and not self.is_vector


class SqlConsole:
    """Runs statements, a few at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def run(self, sql: str, parameters: Sequence[Any], search_path: str | None = None) -> list[bytes]:
        """Run one statement in a transaction and return its rows, each as a JSON object with its members sorted.

        Args:
            sql: one statement; nothing is done for a blank text.
            parameters: values of ``$1``, ``$2``, ... as decoded JSON; their types are the statement's.
            search_path: names of schemas, separated by commas, as in ``SET search_path TO``.

        Raises:
            UnprocessableError: PostgreSQL refused the statement for a reason that lies with it, it took longer than
                `STATEMENT_SECONDS`, has more rows than `HIGHEST_ROWS`, or does not fit the parameters.
            DatabaseError: PostgreSQL failed otherwise.
            OverloadedError, DatabaseUnavailableError: no connection became free, or none can be made.
        """
        path = None if search_path is None else quoted_search_path(search_path)
        if not sql.strip():
            return []
        async with self._connection() as connection:
            try:
                async with connection.transaction():
                    await connection.fetch(_SET, "statement_timeout", f"{STATEMENT_SECONDS}s")
                    if path is not None:
                        await connection.fetch(_SET, "search_path", path)
                    rows = await _rows(connection, sql.strip(), parameters)
                    await connection.execute(_CLEAN)
                    return rows
            except asyncpg.UnsupportedClientFeatureError as error:
                raise UnprocessableError(f"A type is not supported here, cast it from or to text: {error}") from error
            except asyncpg.InterfaceError as error:
                # The driver's own word on parameters and types: wrong values, nothing it could not send.
                if connection.is_closed():
                    raise translate(error) or error from error
                raise UnprocessableError(f"Invalid parameters: {error}") from error
            except (asyncpg.PostgresError, asyncpg.InternalClientError, OSError) as error:
                raise _explained(error) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[_Connection]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise OverloadedError("Too many SQL statements are running") from None
        try:
            connection = cast("_Connection", await self._database.connect_dedicated())
            try:
                yield connection
                await connection.close(timeout=5)
            finally:
                if not connection.is_closed():
                    connection.terminate()
        finally:
            self._slots.release()


def quoted_search_path(text: str) -> str:
    """The names of schemas in ``text`` with quotes around each.

    Raises:
        UnprocessableError: the text is something else than names separated by commas.
    """
    if _NAMES.fullmatch(text) is None:
        raise UnprocessableError("db_schema must be schema names separated by commas")
    return ", ".join(name if name.startswith('"') else f'"{name.lower()}"' for name in _NAME.findall(text))


async def _rows(connection: _Connection, sql: str, parameters: Sequence[Any]) -> list[bytes]:
    statement = await connection.prepare(sql)
    columns = statement.get_attributes()
    wanted = statement.get_parameters()
    if len(wanted) != len(parameters):
        raise UnprocessableError(f"The statement has {len(wanted)} parameters, {len(parameters)} were given")
    types = await _types_of(connection, [*(column.type.oid for column in columns), *(one.oid for one in wanted)])
    column_types = [types[column.type.oid] for column in columns]
    await _use_text(connection, types.values())
    if all(one.has_text_codec for one in column_types):
        statement = await connection.prepare(sql)
    else:
        try:
            statement = await connection.prepare(_with_text_columns(sql, column_types))
        except asyncpg.PostgresSyntaxError as error:
            raise UnprocessableError("A column has a type that only a query can show; cast it to text") from error
    if not columns:
        await statement.fetch(*parameters)
        return []
    names = [column.name for column in columns]
    cursor = await statement.cursor(*parameters)
    rows: list[bytes] = []
    size = 0
    batch_rows = 1
    while batch := await cursor.fetch(batch_rows):
        for record in batch:
            row = orjson.dumps(
                dict(zip(names, record.values(), strict=True)), default=_text_of_bytes, option=orjson.OPT_SORT_KEYS
            )
            rows.append(row)
            size += len(row)
        if len(rows) > HIGHEST_ROWS:
            raise UnprocessableError(f"The statement has more than {HIGHEST_ROWS} rows; add a LIMIT")
        if size > HIGHEST_BYTES:
            raise UnprocessableError(f"The rows have more than {HIGHEST_BYTES >> 20} MiB; add a LIMIT")
        batch_rows = min(2 * batch_rows, BATCH_ROWS, 1 + BATCH_BYTES * len(rows) // size)
    return rows


async def _types_of(connection: _Connection, oids: list[int]) -> dict[int, _Type]:
    if not oids:
        return {}
    return {record["oid"]: _Type(**record) for record in await connection.fetch(_TYPES, oids)}


def _with_text_columns(sql: str, types: Sequence[_Type]) -> str:
    """The query with the columns that have no codec cast to text; what is no query makes a syntax error of it."""
    names = [f"c{number}" for number in range(len(types))]
    shown = [
        name if one.has_text_codec else f"{name}::text{'[]' if one.is_array else ''}"
        for name, one in zip(names, types, strict=True)
    ]
    query = sql.rstrip("; \t\r\n")
    return f"SELECT {', '.join(shown)} FROM ({query}\n) AS given ({', '.join(names)})"


async def _use_text(connection: _Connection, types: Iterable[_Type]) -> None:
    """Let values of the types pass as text from now on."""
    for one in types:
        if one.has_text_codec:
            decoder = _DECODERS.get(one.name, str) if one.space == "pg_catalog" else str
            await connection.set_type_codec(
                one.name, schema=one.space, encoder=_parameter_text, decoder=decoder, format="text"
            )


def _explained(error: Exception) -> Exception:
    """What a driver error is to the caller."""
    translated = translate(error)
    if isinstance(translated, RefusedStatementError) and (
        translated.sqlstate[:2] in _CALLER_CLASSES or translated.sqlstate == _QUERY_CANCELED
    ):
        # The bare message, as the reference: without PostgreSQL's detail and hint.
        return UnprocessableError(f"Database error: error returned from database: {error.args[0]}")
    return translated or error


def _parameter_text(value: Any) -> str:
    """A parameter as PostgreSQL reads its type: text as it is, anything else as JSON writes it."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _json_value(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # a number beyond any double
        return orjson.Fragment(text)


def _number(text: str) -> object:
    return orjson.Fragment(text) if text.lstrip("-")[0].isdigit() else None


def _float(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _moment(text: str) -> str:
    """ISO 8601 with 0, 3 or 6 fraction digits (spec 10, section 2.8), and ``+00:00`` where there is an offset."""
    found = _MOMENT.fullmatch(text)
    if found is None:  # infinity, years before Christ
        return text
    fraction = found[3] or ""
    if fraction:
        fraction = "." + fraction.ljust(3 if len(fraction) <= 3 else 6, "0")
    return f"{found[1]}T{found[2]}{fraction}{'+00:00' if found[4] else ''}"


def _text_of_bytes(value: object) -> str:
    """The driver keeps the one-byte type ``"char"`` to itself."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _is_true(text: str) -> bool:
    return text == "t"


_DECODERS: Final[dict[str, Callable[[str], object]]] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), int),
    **dict.fromkeys(("float4", "float8"), _float),
    **dict.fromkeys(("json", "jsonb"), _json_value),
    **dict.fromkeys(("timestamp", "timestamptz"), _moment),
    "bool": _is_true,
    "numeric": _number,
}
