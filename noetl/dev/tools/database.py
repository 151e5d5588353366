"""The ``postgres`` kind: one query on a database of the user's."""

# Commands and results are JSON of any shape; what is read out of them stays untyped.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import base64
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import orjson

from noetl.dev.tools.outcome import ToolFailure, ToolResult
from noetl.dev.tools.scripts import timeout_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIXED = {"db_host": "host", "db_port": "port", "db_user": "user", "db_password": "password", "db_name": "database"}


async def run_postgres(config: Mapping[str, Any], _variables: Mapping[str, Any]) -> ToolResult:
    """Run ``query`` (or ``command``) with ``params``; rows come back as objects."""
    query = config.get("query") or config.get("command")
    if not isinstance(query, str):
        raise ToolFailure("postgres: 'query' must be a string")
    parameters = config.get("params")
    values = list(parameters.values()) if isinstance(parameters, dict) else (parameters or [])
    begin = perf_counter()
    try:
        connection: Any = await asyncpg.connect(  # pyright: ignore[reportUnknownMemberType]
            timeout=10, command_timeout=timeout_of(config), **_target(config)
        )
        try:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(kind, encoder=_text, decoder=orjson.loads, schema="pg_catalog")
            columns, records, affected = await _run(connection, query, values)
        finally:
            await connection.close()
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        raise ToolFailure(f"Database error: {error or type(error).__name__}") from error
    duration = int((perf_counter() - begin) * 1000)
    if not columns:
        return ToolResult("success", data={"affected_rows": affected}, duration_ms=duration)
    rows = [{name: _json(value) for name, value in record.items()} for record in records]
    return ToolResult(
        "success",
        data={"columns": columns, "row_count": len(rows), "rows": rows},
        duration_ms=duration,
    )


async def _run(connection: Any, query: str, values: list[Any]) -> tuple[list[str], list[Any], int]:
    """Columns, rows and affected rows; a script of several statements runs as one transaction and has no rows."""
    try:
        statement = await connection.prepare(query)
    except asyncpg.PostgresSyntaxError as error:
        if "multiple commands" not in str(error) or values:
            raise
        return [], [], _affected(await connection.execute(query))
    columns = [attribute.name for attribute in statement.get_attributes()]
    return columns, await statement.fetch(*values), _affected(statement.get_statusmsg())


def _affected(tag: str | None) -> int:
    """Rows in a command tag such as ``INSERT 0 3``."""
    last = (tag or "").rpartition(" ")[2]
    return int(last) if last.isdecimal() else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _target(config: Mapping[str, Any]) -> dict[str, Any]:
    connection = config.get("connection")
    if isinstance(connection, str) and connection:
        return {"dsn": connection}
    target: dict[str, Any] = {}
    for source in (config.get("auth"), config):
        if isinstance(source, dict | type(config)):
            members = cast("Mapping[str, Any]", source)
            for name, plain in _PREFIXED.items():
                for key in (name, plain):
                    if members.get(key) not in (None, ""):
                        target[plain] = members[key]
    if not target:
        raise ToolFailure("postgres: give 'connection' (a URL) or 'auth' with host, port, user, password, database")
    if "port" in target:
        target["port"] = int(target["port"])
    return target


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta | UUID):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list | tuple):
        return [_json(item) for item in cast("list[Any]", value)]
    return value if value is None or isinstance(value, bool | int | float | str | dict) else str(value)
