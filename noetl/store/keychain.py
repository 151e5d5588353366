"""Rows of ``noetl.keychain``: sealed tokens and resolved secrets with an expiry (spec 40, section 7)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.database import Database

# The reference writes years that neither Python nor RFC 3339 knows.
_EXPIRES = (
    "greatest(least(expires_at, timestamptz '9999-12-31 23:59:59+00'), timestamptz '0001-01-02 00:00:00+00')"
    " AS expires_at"
)
SCOPES: Final = ("local", "global", "shared")


class KeychainEntry(msgspec.Struct, kw_only=True):
    """A value to keep; ``renew_config`` is a JSON text, ``data_encrypted`` a record of the wallet."""

    cache_key: str
    keychain_name: str
    catalog_id: int
    scope_type: str
    execution_id: int | None
    data_encrypted: str
    expires_at: datetime
    auto_renew: bool = False
    renew_config: bytes | None = None


class KeychainRow(msgspec.Struct, kw_only=True):
    """One row as a reader sees it; ``expired`` by the clock of the database."""

    data_encrypted: str
    expires_at: datetime
    auto_renew: bool
    access_count: int
    expired: bool


class EndingRow(msgspec.Struct, kw_only=True):
    """A row that renews itself and ends soon."""

    cache_key: str
    keychain_name: str
    catalog_id: int
    scope_type: str
    execution_id: int | None


class KeychainSummary(msgspec.Struct, kw_only=True):
    """One row of a listing, without its value."""

    keychain_name: str
    scope_type: str
    execution_id: int | None
    expires_at: datetime
    expired: bool
    access_count: int
    accessed_at: datetime
    created_at: datetime


def cache_key(name: str, catalog_id: int, scope: str, execution_id: int | None) -> str:
    """The primary key of an entry (spec 40, section 7); every unknown scope is the global one."""
    if scope == "local":
        return f"{name}:{catalog_id}:{'local' if execution_id is None else execution_id}"
    if scope == "shared":
        return f"{name}:{catalog_id}:shared" + ("" if execution_id is None else f":{execution_id}")
    return f"{name}:{catalog_id}:global"


class KeychainStore:
    """All statements on ``noetl.keychain``; every method raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.keychain"
        shown = (
            f"data_encrypted, {_EXPIRES}, coalesce(auto_renew, false) AS auto_renew,"
            " coalesce(access_count, 0) AS access_count, expires_at < now() AS expired"
        )
        self._use = (
            f"UPDATE {table} SET access_count = coalesce(access_count, 0) + 1, accessed_at = now()"
            f" WHERE cache_key = $1 AND expires_at >= now() RETURNING {shown}"
        )
        self._look = f"SELECT {shown} FROM {table} WHERE cache_key = $1"
        self._put = (
            f"INSERT INTO {table} (cache_key, keychain_name, catalog_id, credential_type, cache_type, scope_type,"
            " execution_id, data_encrypted, expires_at, auto_renew, renew_config)"
            " VALUES ($1, $2, $3, 'secret', 'secret', $4, $5, $6, $7, $8, $9::text::jsonb)"
            " ON CONFLICT (cache_key) DO UPDATE SET data_encrypted = excluded.data_encrypted,"
            " expires_at = excluded.expires_at, auto_renew = excluded.auto_renew, renew_config = excluded.renew_config"
        )
        self._delete = f"DELETE FROM {table} WHERE cache_key = $1 RETURNING 1"
        self._list = (
            f"SELECT keychain_name, scope_type, execution_id, {_EXPIRES}, expires_at < now() AS expired,"
            " coalesce(access_count, 0) AS access_count, accessed_at, created_at"
            f" FROM {table} WHERE catalog_id = $1 ORDER BY keychain.created_at DESC, cache_key"
        )
        ended = (
            f"EXISTS (SELECT FROM {database.quoted_schema}.execution"
            " WHERE execution.execution_id = keychain.execution_id AND execution.end_time IS NOT NULL)"
        )
        self._clean = (
            f"DELETE FROM {table} WHERE expires_at < now() - interval '1 day'"
            f" AND (coalesce(auto_renew, false) = false OR {ended})"
        )
        self._ending = (
            f"SELECT cache_key, keychain_name, catalog_id, scope_type, execution_id FROM {table}"
            " WHERE auto_renew AND expires_at BETWEEN now() AND now() + $1::interval"
            f" AND accessed_at > now() - $2::interval AND NOT (scope_type = 'local' AND {ended})"
            " ORDER BY expires_at LIMIT $3"
        )
        self._page = (
            f"SELECT cache_key, data_encrypted FROM {table} WHERE $1::text IS NULL OR cache_key > $1"
            " ORDER BY cache_key LIMIT $2"
        )
        self._replace = f"UPDATE {table} SET data_encrypted = $3 WHERE cache_key = $1 AND data_encrypted = $2"

    async def use(self, key: str) -> KeychainRow | None:
        """The row; a live one is counted as accessed first, an expired one is left as it is."""
        record = await self._database.fetchrow(self._use, key, retry=False)
        return await self.look(key) if record is None else KeychainRow(**record)

    async def look(self, key: str) -> KeychainRow | None:
        """The row, without counting the access."""
        record = await self._database.fetchrow(self._look, key)
        return None if record is None else KeychainRow(**record)

    async def put(self, entry: KeychainEntry) -> None:
        """Create the entry, or give the one of this key a new value and expiry; its counts and scope stay."""
        await self._database.execute(
            self._put, entry.cache_key, entry.keychain_name, entry.catalog_id, entry.scope_type, entry.execution_id,
            entry.data_encrypted, entry.expires_at, entry.auto_renew,
            None if entry.renew_config is None else entry.renew_config.decode(),
        )  # fmt: skip

    async def delete(self, key: str) -> bool:
        """Delete an entry; False when there is none."""
        return await self._database.fetchval(self._delete, key, retry=False) is not None

    async def list(self, catalog_id: int) -> Sequence[KeychainSummary]:
        """The entries of a catalog entry, newest first."""
        return [KeychainSummary(**record) for record in await self._database.fetch(self._list, catalog_id)]

    async def delete_expired(self) -> None:
        """Delete what expired more than a day ago and is renewed no more (spec 40, section 7.5).

        What has ``auto_renew`` stays, unless its execution has ended.
        """
        await self._database.execute(self._clean)

    async def ending(self, within: timedelta, used_within: timedelta, limit: int) -> Sequence[EndingRow]:
        """Live rows with ``auto_renew`` that end soon, were read of late, and whose execution (if local) still runs."""
        records = await self._database.fetch(self._ending, within, used_within, limit)
        return [EndingRow(**record) for record in records]

    async def page(self, after: str | None, limit: int) -> Sequence[tuple[str, str]]:
        """The next rows by key, as (key, record), for rotation."""
        records = await self._database.fetch(self._page, after, limit)
        return [(record["cache_key"], record["data_encrypted"]) for record in records]

    async def replace(self, key: str, old: str, new: str) -> bool:
        """Exchange the record if nobody else has written it since it was read."""
        return await self._database.execute(self._replace, key, old, new) == "UPDATE 1"
