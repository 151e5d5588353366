"""Rotation: wraps the data keys of stored values under the current key, without touching the values (spec 40, 12)."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from noetl.errors import EncryptionError, NoetlError
from noetl.secrets.envelope import RecordSyntaxError, parse_record
from noetl.secrets.key_managers import KeyServiceError

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


class KeyStates(msgspec.Struct):
    """Rows by who can read them: ``current`` needs no former key, ``former`` does, ``unreadable`` nobody can."""

    current: int = 0
    former: int = 0
    unreadable: int = 0


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
        only while it still is what was read. Only rewrapped rows use up the limit: a call goes on where another one
        stopped, and rows that cannot be rewrapped never keep it from those behind them.

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
        async for key, stored in _walk(rows):
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
            if outcome.rewrapped >= row_limit:
                break
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

    async def states(self) -> dict[str, KeyStates]:
        """By which key the rows of each table really are wrapped: each data key is unwrapped, nothing is changed.

        A row that a key management service wrapped with its current key is not unwrapped; others cost one call each.

        Raises:
            EncryptionError: the key management service does not answer, so that nothing is known of the rest.
            DatabaseUnavailableError, DatabaseError: a table cannot be read.
        """
        is_current = await self._wallet.current_key_test()
        states: dict[str, KeyStates] = {}
        for name, rows in self._tables.items():
            state = states[name] = KeyStates()
            async for _, stored in _walk(rows):
                await self._add_state(state, stored, is_current)
        return states

    async def _add_state(self, state: KeyStates, stored: str, is_current: Callable[[WrappedKey], bool]) -> None:
        try:
            record = parse_record(stored)
            if is_current(record.dek):
                state.current += 1
                return
            await self._wallet.unwrap(record.dek)
            state.former += 1
        except KeyServiceError:
            raise
        except EncryptionError:
            state.unreadable += 1


async def key_versions(tables: Mapping[str, Rows[Any]]) -> dict[str, dict[str, int]]:
    """Rows of each table by the version of the key that wrapped them, sorted; ``invalid`` for what is no record."""
    counts: dict[str, dict[str, int]] = {}
    for name, rows in tables.items():
        versions: Counter[str] = Counter()
        async for _, stored in _walk(rows):
            versions[_version(stored)] += 1
        counts[name] = dict(sorted(versions.items()))
    return counts


async def _walk(rows: Rows[Any]) -> AsyncGenerator[tuple[Any, str]]:
    """All rows, in pages so that memory stays bounded."""
    after: object = None
    while True:
        page = await rows.page(after, PAGE_ROWS)
        for row in page:
            yield row
        if len(page) < PAGE_ROWS:
            return
        after = page[-1][0]


def _version(stored: str) -> str:
    try:
        return parse_record(stored).dek.key_version
    except RecordSyntaxError:
        return INVALID
