"""The routes of executions' variables: set, get, list, delete (spec 10, section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import orjson

from noetl.errors import NotFoundError, UnprocessableError
from noetl.http.canonical_pieces import canonical
from noetl.http.ids import JsonIds
from noetl.http.requests import decode_json, json_text, path_integer, path_text, refuse_nul, refuse_nul_in_json
from noetl.http.responses import json_response, stored_json, timestamp
from noetl.http.streams import json_stream_response
from noetl.store.variables import TYPES, NewVariable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.variables import VariableRow, VariableStore

DEFAULT_TYPE: Final = "user_defined"


class GivenVariable(msgspec.Struct):
    """A variable of a request; ``var_value`` may be any JSON."""

    var_name: str
    var_value: msgspec.Raw
    var_type: str = DEFAULT_TYPE
    source_step: str | None = None


class SetRequest(msgspec.Struct):
    """Body of a write; a map goes from names to values."""

    variables: list[GivenVariable] | dict[str, msgspec.Raw]


_MAP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SET: Final = msgspec.json.Decoder(SetRequest)


class VariableRoutes:
    """The routes under ``/api/vars``."""

    def __init__(self, store: VariableStore, ids: JsonIds | None = None) -> None:
        self._store = store
        self._ids = JsonIds() if ids is None else ids

    def register(self, application: HttpApplication) -> None:
        """Add the routes."""
        application.add_route("GET", "/api/vars/{execution_id}", self.list)
        application.add_route("POST", "/api/vars/{execution_id}", self.set)
        application.add_route("DELETE", "/api/vars/{execution_id}", self.clear)
        application.add_route("GET", "/api/vars/{execution_id}/{var_name}", self.get)
        application.add_route("DELETE", "/api/vars/{execution_id}/{var_name}", self.delete)

    async def list(self, request: Request) -> Response:
        """All variables by name; their accesses are not counted."""
        execution_id = path_integer(request, "execution_id")
        return await json_stream_response(_list_parts(self._store.all(execution_id)))

    async def set(self, request: Request) -> Response:
        """Set all variables of the body or, if one of them is wrong, none."""
        execution_id = path_integer(request, "execution_id")
        write_id = self._ids.of(request)
        given = _given(await json_text(request))
        await self._store.set(execution_id, [_checked(variable) for variable in given])
        return json_response({"execution_id": write_id(execution_id), "status": "ok", "variables_set": len(given)})

    async def clear(self, request: Request) -> Response:
        """Delete all variables of an execution."""
        execution_id = path_integer(request, "execution_id")
        write_id = self._ids.of(request)
        deleted = await self._store.clear(execution_id)
        return json_response({"execution_id": write_id(execution_id), "status": "ok", "variables_deleted": deleted})

    async def get(self, request: Request) -> Response:
        """One variable; counts the access."""
        execution_id, name = _place(request)
        row = await self._store.use(execution_id, name)
        if row is None:
            raise _not_found(execution_id, name)
        return json_response(_members(row))

    async def delete(self, request: Request) -> Response:
        """Delete one variable."""
        execution_id, name = _place(request)
        write_id = self._ids.of(request)
        if not await self._store.delete(execution_id, name):
            raise _not_found(execution_id, name)
        return json_response({"execution_id": write_id(execution_id), "var_name": name, "status": "deleted"})


def _place(request: Request) -> tuple[int, str]:
    execution_id, name = path_integer(request, "execution_id"), path_text(request, "var_name")
    refuse_nul("var_name", name)
    return execution_id, name


def _not_found(execution_id: int, name: str) -> NotFoundError:
    return NotFoundError(f"Variable not found: {name} for execution {execution_id}")


def _given(body: bytes) -> Sequence[GivenVariable]:
    """The variables of a body: a list or a map under ``variables`` or, as the worker sends it, the body is the map."""
    values = decode_json(body, _MAP)
    if "variables" in values:
        variables = decode_json(body, _SET).variables
        if not isinstance(variables, dict):
            return variables
        values = variables
    return [GivenVariable(var_name=name, var_value=value) for name, value in values.items()]


def _checked(variable: GivenVariable) -> NewVariable:
    if not variable.var_name:
        raise UnprocessableError("var_name must not be empty")
    if variable.var_type not in TYPES:
        raise UnprocessableError(f"Invalid var_type: {variable.var_type}")
    refuse_nul("var_name", variable.var_name)
    refuse_nul("source_step", variable.source_step)
    text = bytes(variable.var_value)
    refuse_nul_in_json("var_value", text)
    # In canonical form numbers are the doubles that the reference makes of them.
    value = canonical(text).decode()
    return NewVariable(name=variable.var_name, value=value, type=variable.var_type, source_step=variable.source_step)


async def _list_parts(pages: AsyncGenerator[Sequence[VariableRow]]) -> AsyncGenerator[bytes]:
    separator = b"["
    async for page in pages:
        for row in page:
            yield separator + orjson.dumps(_members(row))
            separator = b","
    yield b"]" if separator == b"," else b"[]"


def _members(row: VariableRow) -> dict[str, object]:
    return {
        "var_name": row.var_name,
        "var_type": row.var_type,
        "var_value": stored_json(row.var_value),
        "source_step": row.source_step,
        "created_at": timestamp(row.created_at),
        "accessed_at": timestamp(row.accessed_at),
        "access_count": row.access_count,
    }
