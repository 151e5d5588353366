"""Taking old executions out of the log: a partition at a time, first detached, then dropped (docs/retention.md)."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.errors import ConflictError
from noetl.store.database import RefusedStatementError
from noetl.store.partitions import Partition, PartitionStore, id_at, is_lock_timeout
from noetl.store.tally import TallyStore

if TYPE_CHECKING:
    from noetl.store.database import Database

LOCK_TIMEOUT: Final = "1s"
"""How long to wait for the log in one attempt: writers queue behind it for as long."""
LOCK_ATTEMPTS: Final = 30
BATCH: Final = 1_000
"""Executions whose rows are deleted in one transaction."""
OF_EXECUTIONS: Final = ("frame", "stage", "command", "transient", "execution")
"""Tables beside the log with rows of executions, in an order that foreign keys allow."""
_NOTE: Final = re.compile(r"noetl: detached from event, executions (-?\d+) to (-?\d+)")


class OldPartition(msgspec.Struct):
    """A partition without events since a date; ``newest`` is naive UTC, None for an empty one."""

    partition: Partition
    newest: datetime | None
    unfinished: int
    size: int


class RetentionStore:
    """Statements that take partitions of ``event`` away from one database; they need the owner of the tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._partitions = PartitionStore(database)
        self._schema = schema = database.quoted_schema
        self._unfinished = f"""
            SELECT count(*) FROM {schema}.execution
            WHERE execution_id >= $1 AND execution_id < $2 AND end_time IS NULL"""
        self._detached = f"""
            SELECT relname::text AS name, obj_description(oid, 'pg_class') AS note, pg_total_relation_size(oid) AS size
            FROM pg_class
            WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' AND NOT relispartition
                AND relname LIKE 'event%' ORDER BY 1"""
        self._pending = f"""
            SELECT true FROM pg_inherits
            WHERE inhparent = '{schema}.event'::regclass AND inhrelid = $1::text::regclass AND inhdetachpending"""
        self._has_default = f"""
            SELECT partdefid <> 0 FROM pg_partitioned_table WHERE partrelid = '{schema}.event'::regclass"""
        self._without_log = f"""
            SELECT execution_id FROM {schema}.execution AS head
            WHERE execution_id >= $1 AND execution_id < $2
                AND NOT EXISTS (SELECT FROM {schema}.event WHERE event.execution_id = head.execution_id)
            ORDER BY 1 LIMIT {BATCH}"""

    async def old(self, before: datetime, now: datetime) -> list[OldPartition]:
        """Partitions without an event since ``before`` that new executions do not go to, oldest first.

        The events decide, not the range: ranges for ids of the old Python server hold other years than their numbers
        say. An empty partition is old when its range is.
        """
        found: list[OldPartition] = []
        limit = before.astimezone(UTC).replace(tzinfo=None)
        for partition in await self._partitions.present():
            if id_at(now) in partition:
                continue
            table = self._table(partition.name)
            newest = await self._database.fetchval(f"SELECT max(created_at) FROM {table}")
            if newest >= limit if newest is not None else partition.high > id_at(before):
                continue
            unfinished = await self._database.fetchval(self._unfinished, partition.low, partition.high)
            size = await self._database.fetchval("SELECT pg_total_relation_size($1::text::regclass)", table)
            found.append(OldPartition(partition, newest, unfinished, size))
        return found

    async def detach(self, partition: Partition) -> None:
        """Take a partition out of the log; its table stays, with a note that `detached` finds.

        Writers wait for less than a second while it happens: a log with a default partition, as the canonical one,
        cannot be detached from CONCURRENTLY.

        Raises:
            ConflictError: executions in it have not ended.
            RefusedStatementError: the role does not own the table, or the log is never free.
        """
        if count := await self._database.fetchval(self._unfinished, partition.low, partition.high):
            raise ConflictError(f"{partition.name} has {count} unfinished executions")
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            try:
                await self._detach(partition)
                return
            except RefusedStatementError as error:
                if not is_lock_timeout(error) or attempt == LOCK_ATTEMPTS:
                    raise
                await asyncio.sleep(0.1 * attempt)

    async def _detach(self, partition: Partition) -> None:
        table = self._table(partition.name)
        detach = f"ALTER TABLE {self._schema}.event DETACH PARTITION {table}"
        note = (
            f"COMMENT ON TABLE {table} IS 'noetl: detached from event, executions {partition.low} to {partition.high}'"
        )
        if await self._database.fetchval(self._has_default):
            async with self._database.transaction() as connection:
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                await connection.execute(detach)
                await connection.execute(note)
            return
        # The note comes first: a detachment that is interrupted is finished by the next one, and must be known then.
        await self._database.execute(note)
        is_pending = await self._database.fetchval(self._pending, table)
        await self._database.execute(f"{detach} {'FINALIZE' if is_pending else 'CONCURRENTLY'}")

    async def detached(self) -> list[tuple[Partition, int]]:
        """Tables that were detached, and their sizes in bytes."""
        found: list[tuple[Partition, int]] = []
        for record in await self._database.fetch(self._detached):
            match = _NOTE.fullmatch(record["note"] or "")
            if match is not None:
                found.append((Partition(record["name"], int(match[1]), int(match[2])), record["size"]))
        return found

    async def drop(self, detached: Partition) -> int:
        """Drop a detached table, and what other tables have of its executions; returns how many those were."""
        await self._database.execute(f"DROP TABLE {self._table(detached.name)}")
        deleted = 0
        while True:
            records = await self._database.fetch(self._without_log, detached.low, detached.high)
            executions = [record["execution_id"] for record in records]
            if not executions:
                break
            async with self._database.transaction() as connection:
                for table in OF_EXECUTIONS:
                    await connection.execute(
                        f"DELETE FROM {self._schema}.{table} WHERE execution_id = ANY($1::bigint[])", executions
                    )
            deleted += len(executions)
        if deleted:
            await TallyStore(self._database).recount()
        return deleted

    def _table(self, name: str) -> str:
        quoted = name.replace('"', '""')
        return f'{self._schema}."{quoted}"'
