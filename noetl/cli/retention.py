"""`db retention`: tells which partitions of the event log are old, and takes them away."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from noetl.store.partitions import moment_of
from noetl.store.retention import RetentionStore

if TYPE_CHECKING:
    from noetl.store.database import Database
    from noetl.store.partitions import Partition


class Retention:
    """One run over one or several databases. ``refused`` tells afterwards whether something old had to stay."""

    def __init__(self, before: datetime, *, apply: bool, drop: bool) -> None:
        """``before`` is timezone-aware; without ``apply`` nothing is changed."""
        self._before = before
        self._apply = apply
        self._drop = drop
        self.refused = False

    async def on(self, database: Database) -> None:
        """Detach what is old in one database, then drop what is detached if that is wanted; prints each step."""
        store = RetentionStore(database)
        to_drop = await store.detached() if self._drop else []
        for old in await store.old(self._before, datetime.now(UTC)):
            newest = "empty" if old.newest is None else f"newest event {old.newest:%Y-%m-%d %H:%M}"
            facts = f"{old.partition.name}: {_range(old.partition)}, {newest}, {_size(old.size)}"
            if old.unfinished:
                self.refused = True
                typer.echo(f"refused   {facts}: {old.unfinished} unfinished executions; cancel or finalize them first")
                continue
            if self._apply:
                await store.detach(old.partition)
            self._tell("detached", "detach", facts)
            if self._drop:
                to_drop.append((old.partition, old.size))
        for partition, size in to_drop:
            facts = f"{partition.name}: {_range(partition)}, {_size(size)}"
            if self._apply:
                facts += f", with {await store.drop(partition)} executions"
            self._tell("dropped", "drop", facts)
        if not self._apply:
            typer.echo("Nothing was changed; add --apply to do it.")

    def _tell(self, done: str, would: str, facts: str) -> None:
        typer.echo(f"{done:<9} {facts}" if self._apply else f"would {would} {facts}")


def _range(partition: Partition) -> str:
    """The times at which servers mint the ids of a partition."""
    low, high = moment_of(partition.low), moment_of(partition.high)
    return f"{'...' if low is None else f'{low:%Y-%m-%d}'} to {'...' if high is None else f'{high:%Y-%m-%d}'}"


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
