"""Rows of ``noetl.transient``: the variables of executions (spec 50, section 4.8)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from noetl.store.shards import Databases

TYPES: Final = ("user_defined", "step_result", "computed", "iterator_state")
PAGE_ROWS: Final = 50


class NewVariable(msgspec.Struct):
    """A variable to set; ``value`` is a JSON text."""

    name: str
    value: str
    type: str
    source_step: str | None


class VariableRow(msgspec.Struct):
    """A variable as it is stored; ``var_value`` is a JSON text."""

    var_name: str
    var_type: str
    var_value: str
    source_step: str | None
    created_at: datetime
    accessed_at: datetime
    access_count: int


class VariableStore:
    """All statements on ``transient``; every method raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        table = f"{databases.quoted_schema}.transient"
        columns = "var_name, var_type, var_value, source_step, created_at, accessed_at, access_count"
        self._set = f"""
            INSERT INTO {table} (execution_id, var_name, var_type, var_value, source_step)
            SELECT $1, name, type, value::jsonb, source_step
            FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS given (name, type, value, source_step)
            ON CONFLICT (execution_id, var_name) DO UPDATE SET
                var_type = excluded.var_type, var_value = excluded.var_value, source_step = excluded.source_step,
                accessed_at = now()"""
        self._use = f"""
            UPDATE {table} SET access_count = access_count + 1, accessed_at = now()
            WHERE execution_id = $1 AND var_name = $2 RETURNING {columns}"""
        self._page = f"""
            SELECT {columns} FROM {table}
            WHERE execution_id = $1 AND ($2::text IS NULL OR var_name > $2) ORDER BY var_name LIMIT {PAGE_ROWS}"""
        self._delete = f"DELETE FROM {table} WHERE execution_id = $1 AND var_name = $2 RETURNING 1"
        self._clear = f"""
            WITH deleted AS (DELETE FROM {table} WHERE execution_id = $1 RETURNING 1) SELECT count(*) FROM deleted"""

    async def set(self, execution_id: int, variables: Sequence[NewVariable]) -> None:
        """Set all of them or none; of two with one name the last counts."""
        last = {variable.name: variable for variable in variables}.values()
        if not last:
            return
        await self._databases.of(execution_id).execute(
            self._set, execution_id, [one.name for one in last], [one.type for one in last],
            [one.value for one in last], [one.source_step for one in last], retry=True,
        )  # fmt: skip

    async def use(self, execution_id: int, name: str) -> VariableRow | None:
        """The variable, this access counted, or None."""
        record = await self._databases.of(execution_id).fetchrow(self._use, execution_id, name, retry=False)
        return None if record is None else VariableRow(**record)

    async def all(self, execution_id: int) -> AsyncGenerator[Sequence[VariableRow]]:
        """All variables of an execution by name, in pages; no access is counted."""
        after: str | None = None
        while True:
            records = await self._databases.of(execution_id).fetch(self._page, execution_id, after)
            page = [VariableRow(**record) for record in records]
            if page:
                yield page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1].var_name

    async def delete(self, execution_id: int, name: str) -> bool:
        """Delete one variable; False when there is none."""
        return (
            await self._databases.of(execution_id).fetchval(self._delete, execution_id, name, retry=False) is not None
        )

    async def clear(self, execution_id: int) -> int:
        """Delete all variables of an execution; returns how many there were."""
        return int(await self._databases.of(execution_id).fetchval(self._clear, execution_id, retry=False))
