"""Executions on several databases: what concerns one goes to its shard, lists are merged."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias

from noetl.store.executions import ExecutionStore
from noetl.store.shards import on_each

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Sequence

    from noetl.store.connection import Record
    from noetl.store.database import Database
    from noetl.store.executions import DetailPage, EventRow, ExecutionDetail, ExecutionProgress, ExecutionRow
    from noetl.store.shards import Shards

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class ShardedExecutions:
    """The methods of `ExecutionStore`; one that needs all shards fails when one of them does, and never leaves it out.

    A list reads ``limit + offset`` rows of each shard, so far pages cost more than on one database.
    """

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self.stores: Final = {database: ExecutionStore(database) for database in shards.shards}
        """The store of each shard."""
        execution = f"{shards.quoted_schema}.execution"
        self._children = f"""
            SELECT execution_id, end_time IS NULL AS is_unfinished FROM {execution}
            WHERE parent_execution_id = ANY($1::bigint[])"""

    async def page(
        self,
        *,
        limit: int,
        offset: int = 0,
        catalog_id: int | None = None,
        path: str | None = None,
        status: str | None = None,
    ) -> list[ExecutionRow]:
        """One page of the executions of all shards, newest start first."""
        if limit == 0:
            return []

        async def newest(store: ExecutionStore) -> list[ExecutionRow]:
            return await store.page(limit=limit + offset, catalog_id=catalog_id, path=path, status=status)

        rows = [row for part in await on_each([*self.stores.values()], newest) for row in part]
        rows.sort(key=attrgetter("execution_id"), reverse=True)
        rows.sort(key=lambda row: row.started_at or _LONG_AGO, reverse=True)
        return rows[offset : offset + limit]

    def detail(self, execution_id: int, page: DetailPage | None = None) -> Awaitable[ExecutionDetail | None]:
        """`ExecutionStore.detail`."""
        return self._of(execution_id).detail(execution_id, page)

    def progress(self, execution_id: int) -> Awaitable[ExecutionProgress | None]:
        """`ExecutionStore.progress`."""
        return self._of(execution_id).progress(execution_id)

    def is_cancelled(self, execution_id: int) -> Awaitable[bool]:
        """`ExecutionStore.is_cancelled`."""
        return self._of(execution_id).is_cancelled(execution_id)

    def events(self, execution_id: int, detail: ExecutionDetail) -> AsyncGenerator[Sequence[EventRow]]:
        """`ExecutionStore.events`."""
        return self._of(execution_id).events(execution_id, detail)

    async def unfinished_descendants(self, execution_id: int) -> list[int]:
        """Executions that this one started, directly or not, and that have not ended, by id; one query per generation.

        A child has its own id and so its own shard, wherever its parent is.
        """
        unfinished: list[int] = []
        seen = {execution_id}
        parents = [execution_id]
        while parents:
            generation = parents

            async def children(database: Database, parents: Sequence[int] = generation) -> list[Record]:
                return await database.fetch(self._children, parents)

            found = [record for part in await on_each(self._shards.shards, children) for record in part]
            found = [record for record in found if record["execution_id"] not in seen]
            parents = [record["execution_id"] for record in found]
            seen.update(parents)
            unfinished += [record["execution_id"] for record in found if record["is_unfinished"]]
        return sorted(unfinished)

    def _of(self, execution_id: int) -> ExecutionStore:
        return self.stores[self._shards.of(execution_id)]


Executions: TypeAlias = ExecutionStore | ShardedExecutions
"""Executions of one database, or of several."""
