"""Rows of ``noetl.credential``: named secrets, encrypted before they come here (spec 40, section 5)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.connection import Record
    from noetl.store.database import Database

_SHOWN = "id, name, type, meta::text, tags, description, created_at, updated_at"


class NewCredential(msgspec.Struct, kw_only=True):
    """What a caller stores under a name; ``meta`` is a JSON text, ``data_encrypted`` a record of the wallet."""

    name: str
    type: str
    data_encrypted: str
    meta: bytes | None = None
    tags: list[str] | None = None
    description: str | None = None


class Credential(msgspec.Struct, kw_only=True):
    """One row; ``data_encrypted`` is None where it was not read."""

    id: int
    name: str
    type: str
    meta: str | None
    tags: list[str] | None
    description: str | None
    created_at: datetime
    updated_at: datetime
    data_encrypted: str | None = None


class CredentialStore:
    """All statements on ``noetl.credential``; every method raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.credential"
        # One statement, so that simultaneous first writes of one name cannot collide.
        self._put = (
            f"INSERT INTO {table} AS known (name, type, data_encrypted, meta, tags, description)"
            " VALUES ($1, $2, $3, $4::text::jsonb, $5, $6)"
            " ON CONFLICT (name) DO UPDATE SET type = excluded.type, data_encrypted = excluded.data_encrypted,"
            " meta = excluded.meta, tags = excluded.tags, description = excluded.description, updated_at = now()"
            f" RETURNING {_SHOWN}"
        )
        self._list = (
            f"SELECT {_SHOWN} FROM {table} WHERE ($1::text IS NULL OR type = $1)"
            " AND ($2::text IS NULL OR name ILIKE '%' || $2 || '%' OR description ILIKE '%' || $2 || '%')"
            " ORDER BY created_at DESC, id DESC"
        )
        # An id wins over a name of the same digits.
        found = f"FROM {table} WHERE id = $1 OR name = $2 ORDER BY (id = $1) DESC NULLS LAST LIMIT 1"
        self._find = f"SELECT {_SHOWN} {found}"
        self._find_with_data = f"SELECT {_SHOWN}, data_encrypted {found}"
        self._delete = f"DELETE FROM {table} WHERE id = (SELECT id {found}) RETURNING id"
        self._page = f"SELECT id, data_encrypted FROM {table} WHERE id > $1 ORDER BY id LIMIT $2"
        self._replace = f"UPDATE {table} SET data_encrypted = $3 WHERE id = $1 AND data_encrypted = $2"

    async def put(self, given: NewCredential) -> Credential:
        """Create or wholly replace the credential of this name."""
        record = await self._database.fetchrow(
            self._put, given.name, given.type, given.data_encrypted,
            None if given.meta is None else given.meta.decode(), given.tags, given.description,
        )  # fmt: skip
        assert record is not None
        return _credential(record)

    async def list(self, type_: str | None, pattern: str | None) -> Sequence[Credential]:
        """Newest first, without their data: of exactly this type, with ``pattern`` in name or description.

        ``%``, ``_`` and ``\\`` in the pattern have their meaning for ILIKE.
        """
        return [_credential(record) for record in await self._database.fetch(self._list, type_, pattern)]

    async def find(self, id_: int | None, name: str, *, with_data: bool) -> Credential | None:
        """The credential with this id, else the one with this name."""
        sql = self._find_with_data if with_data else self._find
        record = await self._database.fetchrow(sql, id_, name)
        return None if record is None else _credential(record)

    async def delete(self, id_: int | None, name: str) -> int | None:
        """Delete what `find` would find; its id, or None."""
        return await self._database.fetchval(self._delete, id_, name, retry=False)

    async def page(self, after: int | None, limit: int) -> Sequence[tuple[int, str]]:
        """The next rows by id, as (id, record), for rotation; ``after`` None starts from the lowest id."""
        first = -(1 << 63) if after is None else after
        return [(record["id"], record["data_encrypted"]) for record in await self._database.fetch(
            self._page, first, limit
        )]  # fmt: skip

    async def replace(self, key: int, old: str, new: str) -> bool:
        """Exchange the record if nobody else has written it since it was read; leaves ``updated_at`` alone."""
        return await self._database.execute(self._replace, key, old, new) == "UPDATE 1"


def _credential(record: Record) -> Credential:
    return Credential(**record)
