"""Rotation: wraps the data keys of stored values under the current key, without touching the values (spec 40, 12)."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from noetl.errors import NoetlError
from noetl.secrets.envelope import RecordSyntaxError, parse_record

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from noetl.secrets.envelope import WrappedKey
    from noetl.secrets.wallet import Wallet

log = logging.getLogger("noetl.secrets")

PAGE_ROWS: Final = 100
INVALID: Final = "invalid"

Key = TypeVar("Key")


class Rows(Protocol[Key]):
    """A table with encrypted values, in the order of its keys."""

    async def page(self, after: Key | None, limit: int) -> Sequence[tuple[Key, str]]: ...
    async def replace(self, key: Key, old: str, new: str) -> bool: ...


class Outcome(msgspec.Struct):
    """What one pass did to one table; ``last_id`` is 0 for a table whose key is a text."""

    processed: int = 0
    rewrapped: int = 0
    skipped: int = 0
    failed: int = 0
    last_id: int = 0


class Rotation:
    """Passes over the tables with encrypted values, by table name.

    ``count`` is told about each row: table, and ``rewrapped``, ``skipped`` or the kind of failure.
    """

    def __init__(
        self, wallet: Wallet, tables: Mapping[str, Rows[Any]], count: Callable[[str, str], None] | None = None
    ) -> None:
        self._wallet = wallet
        self._tables = tables
        self._count = count

    async def run(self, row_limit: int) -> dict[str, Outcome]:
        """Rewrap what another key than the current one wrapped, at most ``row_limit`` rows of each table.

        Can be stopped and repeated at any time, on any number of servers: each row is exchanged by one statement, and
        only while it still is what was read.

        Raises:
            EncryptionError: the key management service does not answer; nothing was changed.
            DatabaseUnavailableError, DatabaseError: a table cannot be read.
        """
        is_current = await self._wallet.current_key_test()
        return {name: await self._rotate(name, rows, is_current, row_limit) for name, rows in self._tables.items()}

    async def _rotate(
        self, table: str, rows: Rows[Any], is_current: Callable[[WrappedKey], bool], row_limit: int
    ) -> Outcome:
        outcome = Outcome()
        async for key, stored in _walk(rows, row_limit):
            status = await self._rotate_row(table, rows, key, stored, is_current)
            outcome.processed += 1
            if status == "rewrapped":
                outcome.rewrapped += 1
            elif status == "skipped":
                outcome.skipped += 1
            else:
                outcome.failed += 1
            if isinstance(key, int):
                outcome.last_id = key
            if self._count is not None:
                self._count(table, status)
        return outcome

    async def _rotate_row(
        self, table: str, rows: Rows[Any], key: object, stored: str, is_current: Callable[[WrappedKey], bool]
    ) -> str:
        step = "parse_error"
        try:
            record = parse_record(stored)
            record.dek.decoded()
            if is_current(record.dek):
                return "skipped"
            step = "failed_unwrap"
            data_key = await self._wallet.unwrap(record.dek)
            step = "failed_wrap"
            new = record.rewrapped(await self._wallet.wrap(data_key)).text()
            step = "failed_write"
            return "rewrapped" if await rows.replace(key, stored, new) else "skipped"
        except NoetlError as error:
            log.warning("Key not rotated", extra={"table": table, "row": str(key), "error": error.message})
            return step


async def key_versions(tables: Mapping[str, Rows[Any]]) -> dict[str, dict[str, int]]:
    """Rows of each table by the version of the key that wrapped them, sorted; ``invalid`` for what is no record."""
    counts: dict[str, dict[str, int]] = {}
    for name, rows in tables.items():
        versions: Counter[str] = Counter()
        async for _, stored in _walk(rows, None):
            versions[_version(stored)] += 1
        counts[name] = dict(sorted(versions.items()))
    return counts


async def _walk(rows: Rows[Any], row_limit: int | None) -> AsyncGenerator[tuple[Any, str]]:
    """All rows, or the first ``row_limit``, in pages so that memory stays bounded."""
    after: object = None
    left = row_limit
    while left is None or left > 0:
        size = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        page = await rows.page(after, size)
        for row in page:
            yield row
        if len(page) < size:
            return
        after = page[-1][0]
        left = None if left is None else left - size


def _version(stored: str) -> str:
    try:
        return parse_record(stored).dek.key_version
    except RecordSyntaxError:
        return INVALID
