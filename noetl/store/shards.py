"""The databases of one server: one for what all executions share, and the shards that executions are spread over.

Which table is where: docs/sharding.md (spec 50, section 11.3). Log, commands and variables of an execution are on the
shard that `shard_for` gives to its id, with copies of the catalog entries they refer to (`noetl.store.catalog_copies`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from noetl._fast.sharding import shard_for
from noetl.errors import NoetlError
from noetl.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from noetl.store.database import DatabaseSettings

P = TypeVar("P")
T = TypeVar("T")


class Shards:
    """Several databases. ``named`` has each of them once, the cluster database first, under the name of its pool."""

    def __init__(self, cluster: Database, shards: Sequence[Database]) -> None:
        """``shards`` in the order of their numbers; the cluster database may be one of them."""
        self.schema: Final = cluster.schema
        self.quoted_schema: Final = cluster.quoted_schema
        self.cluster: Final = cluster
        self.shards: Final = tuple(shards)
        self.named: Final[Mapping[str, Database]] = {
            "cluster": cluster,
            **{f"shard-{index}": shard for index, shard in enumerate(shards) if shard is not cluster},
        }

    @classmethod
    async def connect(cls, cluster: DatabaseSettings | None, shards: Sequence[DatabaseSettings]) -> Shards:
        """Open all pools; without ``cluster`` the first shard is the cluster database, and equal settings share a pool.

        Raises:
            DatabaseUnavailableError, DatabaseError: one of them cannot be opened (`Database.connect`).
        """
        opened: list[tuple[DatabaseSettings, Database]] = []
        try:
            for settings in (*shards, *(() if cluster is None else (cluster,))):
                if not any(settings == known for known, _ in opened):
                    opened.append((settings, await Database.connect(settings)))
        except BaseException:
            for _, database in opened:
                await database.close()
            raise
        of = [next(database for known, database in opened if known == settings) for settings in shards]
        return cls(of[0] if cluster is None else next(one for known, one in opened if known == cluster), of)

    def of(self, execution_id: int) -> Database:
        """The database that has everything of an execution."""
        return self.shards[shard_for(execution_id, len(self.shards))]

    async def close(self) -> None:
        """Close all pools as `Database.close` does."""
        async with asyncio.TaskGroup() as closing:
            for database in self.named.values():
                closing.create_task(database.close())


Databases: TypeAlias = Database | Shards
"""Where a server keeps its data: one database, or several."""


async def on_each(parts: Sequence[P], operation: Callable[[P], Awaitable[T]]) -> list[T]:
    """The results of an operation on all parts at once, in their order.

    Raises:
        NoetlError: of the first part that failed, after all others are done.
    """
    if len(parts) == 1:
        return [await operation(parts[0])]
    results: list[T] = []
    for outcome in await _outcomes(parts, operation):
        if isinstance(outcome, NoetlError):
            raise outcome
        results.append(outcome)
    return results


async def first_of(parts: Sequence[P], operation: Callable[[P], Awaitable[T | None]]) -> T | None:
    """What the first part, in their order, found; all are asked at once.

    Raises:
        NoetlError: nobody found anything, and this one could not look.
    """
    failure: NoetlError | None = None
    for outcome in await _outcomes(parts, operation):
        if isinstance(outcome, NoetlError):
            failure = failure or outcome
        elif outcome is not None:
            return outcome
    if failure is not None:
        raise failure
    return None


async def _outcomes(parts: Sequence[P], operation: Callable[[P], Awaitable[T]]) -> list[T | NoetlError]:
    async def attempt(part: P) -> T | NoetlError:
        try:
            return await operation(part)
        except NoetlError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(part)) for part in parts]
    return [task.result() for task in tasks]
