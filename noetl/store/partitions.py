"""Partitions of ``event`` by ranges of execution ids, which are ranges of time: what there is, and what is missing.

An id of a server holds the milliseconds since 2024 above 22 bits (spec 60, section 8.1). The canonical schema has
ranges for some years; rows beyond them, and in its gaps, would go to ``event_default``, which cannot be detached.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from noetl._fast.snowflake import EPOCH_MS, compose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noetl.store.connection import Connection, Record
    from noetl.store.database import Database, RefusedStatementError

AHEAD: Final = timedelta(days=365)
"""How far ahead of the clock there must be partitions."""
LOWEST_ID: Final = -(2**63)
HIGHEST_ID: Final = 2**63 - 1
LOCK_NOT_AVAILABLE: Final = "55P03"
INSUFFICIENT_PRIVILEGE: Final = "42501"
_ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtextextended('noetl.event_partitions', 0))"
_RANGE: Final = re.compile(r"FOR VALUES FROM \((MINVALUE|'-?\d+')\) TO \((MAXVALUE|'-?\d+')\)")


class Partition(msgspec.Struct, frozen=True):
    """A partition with the execution ids from ``low`` up to, not including, ``high``."""

    name: str
    low: int
    high: int

    def __contains__(self, execution_id: int) -> bool:
        return self.low <= execution_id < self.high


def id_at(moment: datetime) -> int:
    """The lowest execution id that a server mints at this moment (timezone-aware)."""
    return compose(int(moment.timestamp() * 1000) - EPOCH_MS, 0, 0)


def moment_of(execution_id: int) -> datetime | None:
    """When a server mints this id; None for an id that no server mints."""
    if execution_id < 0:
        return None
    return datetime.fromtimestamp(((execution_id >> 22) + EPOCH_MS) / 1000, UTC)


def missing_partitions(present: Iterable[Partition], start: datetime, end: datetime) -> list[Partition]:
    """Quarters, or what is free of them, so that every id minted from ``start`` to ``end`` has a partition."""
    ranges = sorted(present, key=lambda partition: partition.low)
    missing: list[Partition] = []
    first = datetime(start.year, start.month - (start.month - 1) % 3, 1, tzinfo=UTC)
    while first < end:
        following = datetime(first.year + first.month // 10, (first.month + 2) % 12 + 1, 1, tzinfo=UTC)
        name = f"event_{first.year}_q{first.month // 3 + 1}"
        low, high = id_at(first), id_at(following)
        for taken in ranges:
            if taken.high <= low or taken.low >= high:
                continue
            if taken.low > low:
                missing.append(Partition(name, low, taken.low))
            low = taken.high
        if low < high:
            missing.append(Partition(name, low, high))
        first = following
    return missing


class PartitionStore:
    """Statements on the partitions of ``event`` in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = schema = database.quoted_schema
        self._list = f"""
            SELECT part.relname::text AS name, pg_get_expr(part.relpartbound, part.oid) AS bound
            FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
            WHERE inhparent = '{schema}.event'::regclass ORDER BY 1"""
        self._has_table = f"SELECT to_regclass('{schema}.' || quote_ident($1)) IS NOT NULL"
        self._is_taken = f"""
            SELECT EXISTS (SELECT FROM {schema}.event_default WHERE execution_id >= $1 AND execution_id < $2)"""

    async def present(self) -> list[Partition]:
        """All partitions but the default one, by range."""
        return _ranges(await self._database.fetch(self._list))

    async def make_ahead(self, now: datetime) -> list[str]:
        """Make the partitions that executions of the coming year need; returns their names.

        Neither readers nor writers wait: a table is made first and attached empty. A range of which ``event_default``
        has rows already is left to it, as the canonical schema does. Any number of processes may do this at once.

        Raises:
            RefusedStatementError: the role does not own the table, or the table was in use for too long.
        """
        if not missing_partitions(await self.present(), now, now + AHEAD):
            return []
        made: list[str] = []
        async with self._database.transaction() as connection:
            await connection.execute(_ONE_AT_A_TIME)
            await connection.execute("SET LOCAL lock_timeout = '3s'")
            for wanted in missing_partitions(_ranges(await connection.fetch(self._list)), now, now + AHEAD):
                if not await connection.fetchval(self._is_taken, wanted.low, wanted.high):
                    made.append(await self._make(connection, wanted))
        return made

    async def _make(self, connection: Connection, wanted: Partition) -> str:
        name, number = wanted.name, 1
        while await connection.fetchval(self._has_table, name):
            number += 1
            name = f"{wanted.name}_{number}"
        table = f'{self._schema}."{name}"'
        await connection.execute(
            f"CREATE TABLE {table} (LIKE {self._schema}.event INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
            " INCLUDING STORAGE INCLUDING COMPRESSION)"
        )
        await connection.execute(
            f"ALTER TABLE {self._schema}.event ATTACH PARTITION {table}"
            f" FOR VALUES FROM ({wanted.low}) TO ({wanted.high})"
        )
        return name


def _ranges(records: Iterable[Record]) -> list[Partition]:
    found: list[Partition] = []
    for record in records:
        match = _RANGE.fullmatch(record["bound"])
        if match is not None:
            low, high = match[1].strip("'"), match[2].strip("'")
            found.append(
                Partition(
                    record["name"],
                    LOWEST_ID if low == "MINVALUE" else int(low),
                    HIGHEST_ID if high == "MAXVALUE" else int(high),
                )
            )
    return sorted(found, key=lambda partition: partition.low)


def is_not_owner(error: RefusedStatementError) -> bool:
    """Whether a statement needs the owner of the tables."""
    return error.sqlstate == INSUFFICIENT_PRIVILEGE


def is_lock_timeout(error: RefusedStatementError) -> bool:
    """Whether a statement gave up waiting for a table that is in use."""
    return error.sqlstate == LOCK_NOT_AVAILABLE
