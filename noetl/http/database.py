"""The database routes: SQL of callers, creating the schema, looking at it (spec 10, section 10; 00-decisions, 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from noetl.errors import UnauthorizedError, UnprocessableError
from noetl.http.requests import decode_json, json_text, refuse_nul, refuse_shape
from noetl.http.responses import error_response, json_bytes_response, json_response
from noetl.secrets.strict_base64 import Base64Error, decode_base64
from noetl.store.schema import REQUIRED_TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.http.internal_auth import InternalToken
    from noetl.http.routing import Handler
    from noetl.store.schema import SchemaStore

ABSENT: Final = msgspec.UNSET


class Console(Protocol):
    """What runs statements."""

    async def run(self, sql: str, parameters: Sequence[Any], search_path: str | None = None) -> list[bytes]:
        """Run one statement and return its rows as JSON objects."""
        ...


class StatementRequest(msgspec.Struct):
    """Body of a statement; the first of ``query_base64``, ``query``, ``procedure`` that is not null is run."""

    query_base64: str | None = None
    query: str | None = None
    procedure: str | None = None
    db_schema: str | msgspec.UnsetType | None = ABSENT
    schema: str | msgspec.UnsetType | None = ABSENT
    parameters: list[Any] | None = None
    database: str | None = None
    credential: str | None = None
    connection_string: str | None = None


_EXECUTE: Final = msgspec.json.Decoder(StatementRequest)


class DatabaseRoutes:
    """SQL and schema.

    Args:
        console: runs statements on the server's own database.
        schema: the schema that the server works in.
        access: who may run SQL and create the schema (NOETL_SQL_API): ``token`` for holders of the internal token,
            ``open`` for everybody, ``off`` for nobody; then both routes are unknown.
        token: the internal token.
    """

    def __init__(self, console: Console, schema: SchemaStore, access: str, token: InternalToken) -> None:
        self._console = console
        self._schema = schema
        self._access = access
        self._token = token

    def register(self, application: HttpApplication) -> None:
        """Add the routes. Those for the schema also serve while the server waits for its schema."""
        if self._access != "off":
            application.add_route("POST", "/api/postgres/execute", self._guarded(self.execute))
            application.add_route("POST", "/api/db/init", self._guarded(self.initialise), always=True)
        application.add_route("GET", "/api/db/validate", self.validate, always=True)

    async def execute(self, request: Request) -> Response:
        """Run one statement; its rows as objects, none for a statement without rows."""
        body = decode_json(await json_text(request), _EXECUTE)
        if body.db_schema is not ABSENT and body.schema is not ABSENT:
            refuse_shape("duplicate field `db_schema`")
        for field in ("database", "credential", "connection_string"):
            if getattr(body, field) is not None:
                raise UnprocessableError(f"{field} is not supported: statements run on the server's own database")
        sql = _statement(body)
        search_path = body.schema if body.db_schema is ABSENT else body.db_schema
        rows = await self._console.run(
            sql, body.parameters or [], search_path if isinstance(search_path, str) else None
        )
        return json_bytes_response(b'{"status":"ok","result":[' + b",".join(rows) + b"]}")

    async def initialise(self, _request: Request) -> Response:
        """Create the schema if it is missing and apply pending migrations; drops nothing."""
        name = self._schema.name
        done = await self._schema.initialise()
        if not done.exists:
            message = f"Schema '{name}' does not exist. Run noetlctl db init to create it."
        elif done.applied:
            message = f"Schema '{name}' is up to date (migration {done.version})."
        else:
            message = f"Schema '{name}' already exists. Run noetlctl db init to reinitialize."
        return json_response({"status": "ok", "message": message, "valid": done.exists})

    async def validate(self, _request: Request) -> Response:
        """Whether the tables that make up the schema are there."""
        tables = await self._schema.tables()
        missing = [name for name in REQUIRED_TABLES if name not in tables]
        message = f"Missing tables: {', '.join(missing)}" if missing else "Database schema is valid"
        return json_response(
            {"status": "ok", "message": message, "valid": not missing, "tables": tables, "missing": missing}
        )

    def _guarded(self, handler: Handler) -> Handler:
        if self._access == "open":
            return handler

        async def guarded(request: Request) -> Response:
            try:
                self._token.require(request)
            except UnauthorizedError as error:
                message = f"{error.message} This route needs the token because of NOETL_SQL_API=token."
                return error_response(message, error.status, [(b"www-authenticate", b"Bearer")])
            return await handler(request)

        return guarded


def _statement(body: StatementRequest) -> str:
    if body.query_base64 is not None:
        try:
            sql = decode_base64(body.query_base64).decode()
        except Base64Error as error:
            raise UnprocessableError(f"Invalid base64: {error}") from None
        except UnicodeDecodeError as error:
            reason = f"invalid utf-8 sequence of {error.end - error.start} bytes from index {error.start}"
            raise UnprocessableError(f"Invalid UTF-8 in query: {reason}") from None
    elif body.query is not None:
        sql = body.query
    elif body.procedure is not None:
        sql = body.procedure
    else:
        raise UnprocessableError("Either 'query' or 'procedure' must be provided")
    refuse_nul("query", sql)
    return sql
