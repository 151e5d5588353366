"""Brings the database schema up to date: numbered SQL files, each applied once, in order, in one transaction.

A file is ``NNN_name.sql`` with ``{schema}`` for the quoted schema name. The table ``schema_migration`` records what
was applied. Every transaction first takes one transaction-scoped advisory lock and looks again, so any number of
servers can start at once, also through a pooler in transaction mode. When nothing is pending no DDL is run at all, so a
role that may only read and write rows can start (spec 50, sections 9 and 14).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

import asyncpg  # pyright: ignore[reportMissingTypeStubs]

from noetl.errors import InternalError, UnavailableError
from noetl.store.database import connect_url, quote_schema
from noetl.store.migrations.privileges import missing_grants, share_privileges

if TYPE_CHECKING:
    from noetl.store.connection import Connection
    from noetl.store.database import Database

LOCK_TIMEOUT: Final = "3s"
"""How long a migration waits for a table: writers queue behind it for as long."""
LOCK_ATTEMPTS: Final = 20

_FILE_NAME: Final = re.compile(r"(\d{3})_(\w+)\.sql")
_COMMENT: Final = re.compile(r"--[^\n]*")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. ``checksum`` is of the statements only: comments and spacing may change."""

    version: int
    name: str
    sql: str
    checksum: str


class SchemaNotReadyError(UnavailableError):
    """The schema lacks something, and this role may not add it (503 until somebody who may has done so).

    ``remedy`` is text for the operator: what to run, as whom. The server starts, is not ready, and looks again.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__("The database schema is not ready", detail=f"{reason}\n{remedy}", retry_after=5)
        self.reason = reason
        self.remedy = remedy


class ChangedMigrationError(InternalError):
    """A migration that this database has applied reads differently now; the program and the database do not match."""


def load_migrations() -> tuple[Migration, ...]:
    """All migrations of this version, ascending."""
    found: list[Migration] = []
    for file in resources.files(__name__).iterdir():
        match = _FILE_NAME.fullmatch(file.name)
        if match is not None:
            sql = file.read_text(encoding="utf-8")
            statements = " ".join(_COMMENT.sub("", sql).split())
            found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(statements.encode()).hexdigest()))
    return tuple(sorted(found, key=lambda migration: migration.version))


def upgrade_script(schema: str) -> str:
    """All migrations as one SQL text, for a database administrator to read; `upgrade` also records them."""
    quoted = quote_schema(schema)
    return "\n".join(migration.sql.replace("{schema}", quoted) for migration in load_migrations())


async def upgrade(database: Database) -> list[str]:
    """Apply what is pending with a connection of the pool and return the names, empty if there was nothing.

    Raises:
        SchemaNotReadyError: something is missing and this role may not create it, or lacks rights on what is there.
        ChangedMigrationError: see there.
        DatabaseUnavailableError: the database is unreachable.
    """
    async with database.acquire() as connection:
        return await Upgrade(database.schema).run(connection)


async def upgrade_url(url: str, schema: str = "noetl") -> list[str]:
    """`upgrade` for the database of a ``postgresql://`` URL."""
    connection = await connect_url(url)
    try:
        return await Upgrade(schema).run(connection)
    finally:
        await connection.close()


class Upgrade:
    """The statements of an upgrade for one schema. ``migrations`` other than this version's are for tests."""

    def __init__(self, schema: str, migrations: tuple[Migration, ...] | None = None) -> None:
        self._schema = schema
        self._quoted = quote_schema(schema)
        self._migrations = load_migrations() if migrations is None else migrations
        self._table = f"{self._quoted}.schema_migration"
        # Not to_regclass(): it may answer from a cache that is older than the lock taken just before.
        self._has_table = """
            SELECT EXISTS (
                SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                WHERE nspname = $1 AND relname = 'schema_migration'
            )"""
        self._create_table = f"""
            CREATE TABLE IF NOT EXISTS {self._table} (
                version integer PRIMARY KEY,
                name text NOT NULL,
                checksum text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )"""
        self._select = f"SELECT version, checksum FROM {self._table}"
        self._insert = f"INSERT INTO {self._table} (version, name, checksum) VALUES ($1, $2, $3)"

    async def run(self, connection: Connection) -> list[str]:
        """Apply what is pending, verify the role's rights, and return the names of what was applied."""
        try:
            applied = [
                f"{migration.version:03}_{migration.name}"
                for migration in await self.pending(connection)
                if await self._apply_patiently(connection, migration)
            ]
            grants = await missing_grants(connection, self._quoted)
        except asyncpg.InsufficientPrivilegeError as error:
            raise await self._not_ready(connection, str(error)) from error
        if grants:
            raise SchemaNotReadyError(
                f"the role lacks rights in schema {self._schema}",
                "Run as the owner of the tables:\n" + "\n".join(grants),
            )
        return applied

    async def pending(self, connection: Connection) -> list[Migration]:
        """What this database has not applied yet, ascending."""
        known: dict[int, str] = {}
        if await connection.fetchval(self._has_table, self._schema):
            known = {record["version"]: record["checksum"] for record in await connection.fetch(self._select)}
        for migration in self._migrations:
            if known.get(migration.version, migration.checksum) != migration.checksum:
                raise ChangedMigrationError(
                    "The database schema does not belong to this version",
                    detail=f"migration {migration.version:03}_{migration.name} was applied with another text",
                )
        return [migration for migration in self._migrations if migration.version not in known]

    async def _apply_patiently(self, connection: Connection, migration: Migration) -> bool:
        """Apply unless another server just did; tables in use are waited for in short turns, to let writers through."""
        for attempt in range(1, LOCK_ATTEMPTS + 1):
            try:
                return await self._apply(connection, migration)
            except asyncpg.LockNotAvailableError as error:
                if attempt == LOCK_ATTEMPTS:
                    raise SchemaNotReadyError(
                        f"migration {migration.version:03}_{migration.name} found its tables in use",
                        "It is tried again; end long transactions on the database if it does not get through.",
                    ) from error
                await asyncio.sleep(attempt * 0.1)
        return False

    async def _apply(self, connection: Connection, migration: Migration) -> bool:
        async with connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"noetl.schema_migration.{self._schema}"
            )
            if migration not in await self.pending(connection):
                return False
            await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            await connection.execute("SET LOCAL statement_timeout = 0")
            async with share_privileges(connection, self._quoted):
                await connection.execute(migration.sql.replace("{schema}", self._quoted))
                await connection.execute(self._create_table)
            await connection.execute(self._insert, migration.version, migration.name, migration.checksum)
        return True

    async def _not_ready(self, connection: Connection, reason: str) -> SchemaNotReadyError:
        role = await connection.fetchval("SELECT quote_ident(current_user)")
        return SchemaNotReadyError(
            reason,
            f"Run as the owner of schema {self._schema}, or as a superuser: noetl-server db upgrade\n"
            "(with DATABASE_URL of that role). It also gives the roles that may insert events rights on what it adds;\n"
            "a role that has no rights yet needs:\n"
            f"GRANT USAGE ON SCHEMA {self._quoted} TO {role};\n"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {self._quoted} TO {role};\n"
            f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {self._quoted} TO {role};",
        )
