"""The part of the PostgreSQL driver's interface that we use, typed (asyncpg itself carries no annotations)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping
    from contextlib import AbstractAsyncContextManager

    Record: TypeAlias = Mapping[str, Any]
    """One row, by column name. ``jsonb`` columns are JSON text (str), ``timestamp`` columns naive datetimes."""


class Connection(Protocol):
    """A connection, of the pool or dedicated."""

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement, or without arguments several, and return the last command tag."""
        ...

    async def fetch(self, query: str, *args: object) -> list[Record]:
        """All rows."""
        ...

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """The first row, or None."""
        ...

    async def fetchval(self, query: str, *args: object, column: int = 0) -> Any:
        """One column of the first row, or None."""
        ...

    def cursor(self, query: str, *args: object, prefetch: int | None = None) -> AsyncIterable[Record]:
        """The rows of a statement, ``prefetch`` at a time; inside a transaction only."""
        ...

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> AbstractAsyncContextManager[object]:
        """A transaction, or inside one a savepoint."""
        ...

    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def get_server_pid(self) -> int:
        """Process id of the backend, as the other end gave it."""
        ...

    def is_closed(self) -> bool:
        """Whether the connection is gone."""
        ...

    async def close(self) -> None:
        """Close in good order."""
        ...

    def terminate(self) -> None:
        """Cut without waiting."""
        ...
