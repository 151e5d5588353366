"""`client.variables`: values that belong to an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from noetl.client.calls import segment
from noetl.client.models import Variable

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from noetl.client.calls import Calls
    from noetl.client.models import VariableType


class _Deleted(msgspec.Struct):
    variables_deleted: int


class VariablesApi:
    """Calls under ``/api/vars``."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(self, execution_id: int | str) -> builtins.list[Variable]:
        """All variables of an execution, by name; reading them so is not counted."""
        return await self._calls.call(list[Variable], "GET", _path(execution_id))

    async def get(self, execution_id: int | str, name: str) -> Variable:
        """One variable; the server counts how often."""
        return await self._calls.call(Variable, "GET", _path(execution_id, name))

    async def set(
        self,
        execution_id: int | str,
        values: Mapping[str, Any],
        *,
        type: VariableType = "user_defined",
        source_step: str | None = None,
    ) -> None:
        """Set variables, all of them or (when one is refused) none; the others stay."""
        variables = [
            {"var_name": name, "var_value": value, "var_type": type, "source_step": source_step}
            for name, value in values.items()
        ]
        await self._calls.call(object, "POST", _path(execution_id), {"variables": variables}, repeatable=True)

    async def delete(self, execution_id: int | str, name: str) -> None:
        """Delete one variable."""
        await self._calls.call(object, "DELETE", _path(execution_id, name))

    async def clear(self, execution_id: int | str) -> int:
        """Delete all variables of an execution; returns how many there were."""
        return (await self._calls.call(_Deleted, "DELETE", _path(execution_id))).variables_deleted


def _path(execution_id: int | str, *name: str) -> str:
    return "/".join(("/api/vars", segment(execution_id), *map(segment, name)))
