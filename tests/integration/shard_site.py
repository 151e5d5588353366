"""Three databases as shards, and what must hold of their rows."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from benchmarks.load.connection import Connection
from noetl._fast.sharding import shard_for
from tests.faults.checker import query, violations
from tests.faults.wire import address

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

TABLES = ("event", "command", "execution", "transient", "execute_idempotency")
"""Tables whose rows are where their execution is."""


def dsn(url: str, port: int | None = None) -> str:
    """A ``postgresql://`` URL in the grammar of NOETL_SHARDS; ``port`` instead of that of the URL."""
    parts = urlsplit(url)
    return f"host={parts.hostname};port={port or parts.port};user={parts.username};database={parts.path[1:]}"


async def misplaced(urls: Sequence[str]) -> list[tuple[str, int, int]]:
    """Table, shard and execution of every row that is on another shard than that of its execution."""
    found: list[tuple[str, int, int]] = []
    for index, url in enumerate(urls):
        for table in TABLES:
            rows = await query(url, f"SELECT DISTINCT execution_id FROM noetl.{table}")
            found += [(table, index, row[0]) for row in rows if shard_for(row[0], len(urls)) != index]
    return found


async def executions_of(urls: Sequence[str]) -> list[set[int]]:
    """The executions that have a log on each shard."""
    return [{row[0] for row in await query(url, "SELECT DISTINCT execution_id FROM noetl.event")} for url in urls]


async def broken_rules(urls: Sequence[str]) -> dict[int, dict[str, list[Any]]]:
    """What does not hold, by shard (`tests.faults.checker`); the worker here does not wait for the ends of children."""
    broken: dict[int, dict[str, list[Any]]] = {}
    for index, url in enumerate(urls):
        found = await violations(url)
        found.pop("a parent that went on before its child had ended", None)
        if found:
            broken[index] = found
    return broken


class Api:
    """JSON in, JSON out."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded body."""
        answer = await self._connection.call(method, path, body)
        return answer.status, orjson.loads(answer.body) if answer.body[:1] in (b"{", b"[") else answer.body

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that must be 200."""
        status, answer = await self.call(method, path, body)
        assert status == 200, (method, path, status, answer)
        return answer


@asynccontextmanager
async def open_api(url: str) -> AsyncGenerator[Api]:
    """One connection to a server."""
    connection = Connection(*address(url))
    try:
        yield Api(connection)
    finally:
        connection.close()
