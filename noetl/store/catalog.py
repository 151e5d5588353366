"""The catalog: versions of playbooks and other resources, registered once and never changed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.errors import ConflictError
from noetl.store.database import RefusedStatementError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from noetl.store.connection import Record
    from noetl.store.database import Database

HIGHEST_VERSION: Final = 32_767
"""The column is a smallint."""
UNIQUE_VIOLATION: Final = "23505"
REGISTER_ATTEMPTS: Final = 10
PAGE_ROWS: Final = 100


class CatalogEntry(msgspec.Struct, gc=False):
    """One version of a resource. ``content`` is its YAML text; ``payload``, ``layout`` and ``meta`` are JSON texts."""

    catalog_id: int
    path: str
    version: int
    kind: str
    content: str | None
    payload: str | None
    layout: str | None
    meta: str | None
    created_at: datetime

    @property
    def source(self) -> str | None:
        """The playbook's text: the content, or the payload where there is none (spec 20, section 3.2)."""
        return self.content or self.payload


class NewEntry(msgspec.Struct):
    """A resource to register; ``layout``, ``payload`` and ``meta`` are JSON texts or None for SQL NULL."""

    path: str
    kind: str
    content: str
    layout: str | None
    payload: str | None
    meta: str | None


class CatalogStore:
    """Statements on ``catalog`` and ``resource`` of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.catalog"
        columns = "catalog_id, path, version, kind, content, payload, layout, meta, created_at"
        self._by_id = f"SELECT {columns} FROM {table} WHERE catalog_id = $1"
        self._latest = f"SELECT {columns} FROM {table} WHERE path = $1 ORDER BY version DESC LIMIT 1"
        self._by_version = f"SELECT {columns} FROM {table} WHERE path = $1 AND version = $2"
        # The Python server takes the same lock.
        self._lock_path = "SELECT pg_advisory_xact_lock(hashtext($1))"
        self._add_kind = f"INSERT INTO {database.quoted_schema}.resource (name) VALUES ($1) ON CONFLICT DO NOTHING"
        self._insert = f"""
            INSERT INTO {table} (path, version, kind, content, layout, payload, meta)
            SELECT $1, highest + 1, $2, $3, $4, $5, $6
            FROM (SELECT coalesce(max(version), 0)::integer AS highest FROM {table} WHERE path = $1) AS known
            WHERE highest < {HIGHEST_VERSION}
            RETURNING catalog_id, version"""
        self._page = f"""
            SELECT catalog_id, path, version, kind, CASE WHEN $4 THEN content END AS content,
                payload, layout, meta, created_at
            FROM {table} AS entry
            WHERE ($1::text IS NULL OR lower(kind) = lower($1))
                AND ($2::timestamp IS NULL OR (created_at, catalog_id) < ($2, $3::bigint))
                AND (NOT $5 OR NOT EXISTS (
                    SELECT FROM {table} AS newer WHERE newer.path = entry.path AND newer.version > entry.version))
            ORDER BY created_at DESC, catalog_id DESC
            LIMIT $6 OFFSET $7"""

    async def get_entry(self, catalog_id: int) -> CatalogEntry | None:
        """The entry with this id, or None."""
        return _entry(await self._database.fetchrow(self._by_id, catalog_id))

    async def latest(self, path: str) -> CatalogEntry | None:
        """The newest version of a path, or None."""
        return _entry(await self._database.fetchrow(self._latest, path))

    async def by_version(self, path: str, version: int) -> CatalogEntry | None:
        """One version of a path, or None."""
        if not -HIGHEST_VERSION - 1 <= version <= HIGHEST_VERSION:
            return None
        return _entry(await self._database.fetchrow(self._by_version, path, version))

    async def register(self, entry: NewEntry) -> tuple[int, int]:
        """Store the next version of a path and return (catalog id, version).

        Versions of one path are given under a lock. A server that does not take it can still be first; then the next
        number is tried. The kind gets its row in ``resource`` (00-decisions, 1).

        Raises:
            ConflictError: the path has as many versions as the column can count.
        """
        for attempt in range(1, REGISTER_ATTEMPTS + 1):
            try:
                return await self._register(entry)
            except RefusedStatementError as error:
                if error.sqlstate != UNIQUE_VIOLATION or attempt == REGISTER_ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _register(self, entry: NewEntry) -> tuple[int, int]:
        async with self._database.transaction() as connection:
            await connection.execute(self._lock_path, entry.path)
            await connection.execute(self._add_kind, entry.kind)
            record = await connection.fetchrow(
                self._insert, entry.path, entry.kind, entry.content, entry.layout, entry.payload, entry.meta
            )
        if record is None:
            raise ConflictError(f"Version limit {HIGHEST_VERSION} reached for '{entry.path}'")
        return record["catalog_id"], record["version"]

    async def entries(
        self,
        kind: str | None = None,
        *,
        latest_only: bool = False,
        with_content: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> AsyncGenerator[Sequence[CatalogEntry]]:
        """Entries of a kind (case does not matter; None: all), newest first, in pages so that memory stays bounded."""
        created_at: datetime | None = None
        catalog_id: int | None = None
        while limit is None or limit > 0:
            size = PAGE_ROWS if limit is None else min(limit, PAGE_ROWS)
            records = await self._database.fetch(
                self._page, kind, created_at, catalog_id, with_content, latest_only, size, offset
            )
            page = [CatalogEntry(**record) for record in records]
            if page:
                yield page
            if len(page) < size:
                return
            created_at, catalog_id, offset = page[-1].created_at, page[-1].catalog_id, 0
            limit = None if limit is None else limit - size


def _entry(record: Record | None) -> CatalogEntry | None:
    return None if record is None else CatalogEntry(**record)
