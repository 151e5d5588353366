"""What is in the configured schema, and bringing it up to date on request (spec 50, sections 10.12 and 10.13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from noetl.store.migrations import SchemaNotReadyError, load_migrations, upgrade

if TYPE_CHECKING:
    from noetl.store.shards import Databases

REQUIRED_TABLES: Final = (
    "resource", "catalog", "transient", "event", "credential", "runtime", "schedule", "keychain",
)  # fmt: skip


class Initialisation(msgspec.Struct):
    """``applied`` migrations by name; ``exists`` is False for a schema that this role could not create."""

    exists: bool
    applied: list[str]
    version: int


class SchemaStore:
    """The schema, which is the same in all databases of a server."""

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self.name: Final = databases.schema
        self._tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1"
        self._exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"

    async def tables(self) -> list[str]:
        """Names of the tables and views of the schema that this role has rights on, sorted; partitions too.

        Those of the cluster database.
        """
        records = await self._databases.cluster.fetch(self._tables, self.name)
        return sorted(record["table_name"] for record in records)

    async def initialise(self) -> Initialisation:
        """Create the schema if need be and apply pending migrations; drops nothing, and may run at once in many places.

        On each database; ``applied`` names what any of them lacked.

        Raises:
            SchemaNotReadyError: the schema exists, but this role may not complete it or lacks rights on it.
            ChangedMigrationError: the schema belongs to another version.
        """
        version = load_migrations()[-1].version
        applied: dict[str, None] = {}
        for database in self._databases.named.values():
            try:
                applied.update(dict.fromkeys(await upgrade(database)))
            except SchemaNotReadyError:
                if await database.fetchval(self._exists, self.name):
                    raise
                return Initialisation(exists=False, applied=[], version=version)
        return Initialisation(exists=True, applied=[*applied], version=version)
