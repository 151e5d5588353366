"""Copies of catalog entries on a shard: foreign keys and joins of its executions need them (spec 50, section 11.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from noetl.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from noetl.store.database import Database

REMEMBERED: Final = 10_000
"""Entries known to be on the shard; beyond that they are looked up again."""
_COLUMNS: Final = "catalog_id, path, version, kind, content, layout, payload, meta, created_at"


class CatalogCopies:
    """Brings entries of the cluster database to one shard. Entries never change, so a copy is made once and kept."""

    def __init__(self, cluster: Database, shard: Database) -> None:
        """``cluster`` and ``shard`` may be the same database, which needs no copies."""
        self._cluster = cluster
        self._shard = shard
        self._present: set[int] = set()
        self._read = f"SELECT {_COLUMNS} FROM {cluster.quoted_schema}.catalog WHERE catalog_id = ANY($1::bigint[])"
        self._add_kind = f"INSERT INTO {shard.quoted_schema}.resource (name) VALUES ($1) ON CONFLICT DO NOTHING"
        self._add = f"""
            INSERT INTO {shard.quoted_schema}.catalog ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            ON CONFLICT DO NOTHING"""
        self._is_same = f"""
            SELECT EXISTS (SELECT FROM {shard.quoted_schema}.catalog
                WHERE catalog_id = $1 AND path = $2 AND version = $3)"""

    def lacks(self, catalog_id: int) -> bool:
        """Whether `copy` has to be called before an event may refer to the entry."""
        return self._shard is not self._cluster and catalog_id not in self._present

    async def copy(self, catalog_ids: Iterable[int]) -> None:
        """Copy those entries that are not known to be there; ids that the catalog does not have are left out.

        Raises:
            InternalError: the shard has another entry under the id, or under the path and version.
            DatabaseUnavailableError, DatabaseError: as `Database.fetch`.
        """
        missing = [catalog_id for catalog_id in catalog_ids if self.lacks(catalog_id)]
        if not missing:
            return
        for record in await self._cluster.fetch(self._read, missing):
            catalog_id, path, version, kind = record["catalog_id"], record["path"], record["version"], record["kind"]
            await self._shard.execute(self._add_kind, kind, retry=True)
            await self._shard.execute(self._add, *record.values(), retry=True)
            if not await self._shard.fetchval(self._is_same, catalog_id, path, version):
                detail = f"the shard has another catalog entry in place of {catalog_id} ({path}, version {version})"
                raise InternalError("Internal error", detail=detail)
            if len(self._present) >= REMEMBERED:
                self._present.clear()
            self._present.add(catalog_id)
