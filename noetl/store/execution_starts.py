"""What an execution started with, for secrets that its playbook declares (spec 40, section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson

if TYPE_CHECKING:
    from noetl.store.shards import Databases


class ExecutionStart(msgspec.Struct, kw_only=True):
    """An execution, its playbook, and its workload (any JSON value, not redacted)."""

    execution_id: int
    catalog_id: int
    parent_execution_id: int | None
    workload: Any


class ExecutionStartStore:
    """Reads start events; raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._find = f"""
            SELECT catalog_id, parent_execution_id, context -> 'workload' AS workload
            FROM {databases.quoted_schema}.event
            WHERE execution_id = $1 AND event_type IN ('playbook.initialized', 'playbook_started')
                AND catalog_id IS NOT NULL
            ORDER BY event_id LIMIT 1"""

    async def find(self, execution_id: int) -> ExecutionStart | None:
        """The start of an execution, or None when there is none."""
        record = await self._databases.of(execution_id).fetchrow(self._find, execution_id)
        if record is None:
            return None
        workload = record["workload"]
        return ExecutionStart(
            execution_id=execution_id,
            catalog_id=record["catalog_id"],
            parent_execution_id=record["parent_execution_id"],
            workload=None if workload is None else orjson.loads(workload),
        )
