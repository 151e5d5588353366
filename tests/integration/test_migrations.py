"""The schema on empty, foreign and half-migrated databases, and under roles with few rights (spec 50)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from noetl.store.migrations import (
    ChangedMigrationError,
    Migration,
    SchemaNotReadyError,
    Upgrade,
    load_migrations,
    upgrade_script,
    upgrade_url,
)
from noetl.store.migrations.privileges import missing_grants

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase

CANONICAL = 1
APPLIED = {
    1: "3e53066a4b4cba86617d1ea6fc6adf0bdca3edcf16d34583dfd5dcb91a6612ff",
    2: "bacaebd7580acfd16a3528e838e76fc14ba8e48d3aac2ce2b818920162a6cff4",
    3: "632cbb3dc6809661b7257d48de1b8f8786addff0a45979d1cf25ffab237d7ba3",
    10: "599e5bb84c5a1932164dcf0dc5e377cbf0d9899d293c5c0944ebd18efab7761e",
    11: "c2df13ded08422982e41d87afd18ab439eaad4f436d4cd78eff100e42aab43e0",
    12: "3a35aee4bbd30c4f44b3db13b9d9f5719715099656ac3b4b30c27379187bc951",
    13: "0f9f99f2e11e2c4871dbf15d7c8ce6fe52d24577862cecc942048a3bd40f6e76",
    14: "ec5068557893f97c148455b7502bf52d85f5d94686ff96f18f3809521f745ad1",
    20: "0f873de2cc296e9a6c72c24415ff0f92a285dad4a8726ca7b4b18376826e5375",
    21: "9f1a4314241bacd56f753f39dfc26e782f939b6e52c8b10ec13fade73ba46003",
}
"""What databases have applied. A change is a new file: no server starts on a database that applied another text."""
UNUSED_TABLES = {
    "stage", "frame", "projection_snapshot", "result_ref", "manifest", "manifest_part", "schedule",
}  # fmt: skip
"""Tables of the canonical schema that no statement of the server names."""
NAMES = [f"{migration.version:03}_{migration.name}" for migration in load_migrations()]


def test_what_databases_have_applied_does_not_change() -> None:
    assert {migration.version: migration.checksum for migration in load_migrations()} == APPLIED


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def make_foreign_schema(connection: Any) -> None:
    """The schema as another server makes it: canonical, without this server's additions and records."""
    await connection.execute(load_migrations()[0].sql.replace("{schema}", '"noetl"'))


async def insert_events(connection: Any, execution_id: int, *types: str) -> None:
    await connection.execute("INSERT INTO noetl.resource VALUES ('Playbook') ON CONFLICT DO NOTHING")
    await connection.execute(
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind) VALUES (1, 'p', 1, 'Playbook')"
        " ON CONFLICT DO NOTHING"
    )
    for number, event_type in enumerate(types, 1):
        await connection.execute(
            "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, node_name, created_at)"
            " VALUES ($1, $2::bigint, 1, $3, 'p', '2026-01-01'::timestamp + $2::bigint * interval '1 second')",
            execution_id,
            number,
            event_type,
        )


async def role_url(connection: Any, url: str, role: str) -> str:
    """The URL of a database for a role without any right of its own."""
    exists = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role)
    if not exists:
        await connection.execute(f"CREATE ROLE {role} LOGIN")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}"))


async def test_an_empty_database_gets_everything_once(make_database: MakeDatabase) -> None:
    url = await make_database()
    assert await upgrade_url(url) == NAMES
    assert await upgrade_url(url) == []
    async with connected(url) as connection:
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'noetl'::regnamespace AND relkind IN ('r', 'p')"
            " AND NOT relispartition AND relname NOT IN ('schema_migration', 'execute_idempotency', 'server_lease',"
            " 'execution_tally', 'result_part')"
        )
        assert tables == 20
        assert (
            await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'noetl.event'::regclass")
            == 16
        )
        assert (
            await connection.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'noetl.command'::regclass")
            == 16
        )
        assert await connection.fetchval("SELECT count(*) FROM noetl.resource") == 5


async def test_ten_servers_may_start_at_once(make_database: MakeDatabase) -> None:
    url = await make_database()
    applied = await asyncio.gather(*(upgrade_url(url) for _ in range(10)))
    assert sorted(name for names in applied for name in names) == NAMES


async def test_another_schema_of_the_same_database_is_independent(make_database: MakeDatabase) -> None:
    url = await make_database()
    await upgrade_url(url)
    assert await upgrade_url(url, "other$1") == NAMES
    async with connected(url) as connection:
        assert await connection.fetchval("""SELECT "other$1".snowflake_id() > 0""")


@pytest.mark.parametrize("name", ["a;drop", "", "1a", 'a"b', "a" * 64])
async def test_a_schema_name_outside_the_grammar_is_refused(database_url: str, name: str) -> None:
    with pytest.raises(ValueError, match="not a schema name"):
        await upgrade_url(database_url, name)


async def test_ids_of_the_database_have_the_canonical_layout(migrated_database_url: str) -> None:
    async with connected(migrated_database_url) as connection:
        value, milliseconds = await connection.fetchrow(
            "SELECT noetl.snowflake_id(), extract(epoch FROM clock_timestamp()) * 1000 - 1704067200000"
        )
        assert abs((value >> 23) - int(milliseconds)) < 1000
        assert (value >> 18) & 31 == 1
        assert value & 262_143 < 1024


@pytest.mark.parametrize(
    ("result", "accepted"),
    [
        ("null", False), ("{}", False), ("[]", False), ('"s"', False), ('{"status": 1}', False),
        ('{"status": "x", "foo": 1}', False), ('{"status": "x", "context": []}', False),
        ('{"status": "OK"}', True), ('{"status": "x", "reference": {}, "context": {}}', True), (None, True),
    ],
)  # fmt: skip
async def test_the_shape_of_results_is_checked(migrated_database_url: str, result: str | None, accepted: bool) -> None:
    async with connected(migrated_database_url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await insert_events(connection, 7, "x")
        insert = "INSERT INTO noetl.event (execution_id, event_id, catalog_id, result) VALUES (7, 99, 1, $1)"
        if accepted:
            await connection.execute(insert, result)
        else:
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(insert, result)
        await transaction.rollback()


@pytest.mark.parametrize(
    ("execution_id", "partition"),
    [
        (-1, "event_pre_2026"), (0, "event_pre_2026"), (264905529753600000, "event_2026_q1"),
        (383254787144409088, "event_2026_q4"), (529448671641600000, "event_default"),
        (529811059507200000, "event_2026_q1_standard"), (1124137159091200000, "event_default"),
        (2**63 - 1, "event_default"),
    ],
)  # fmt: skip
async def test_events_land_in_the_canonical_partitions(
    migrated_database_url: str, execution_id: int, partition: str
) -> None:
    async with connected(migrated_database_url) as connection:
        await insert_events(connection, execution_id, "x")
        found = await connection.fetchval(
            "SELECT tableoid::regclass::text FROM noetl.event WHERE execution_id = $1", execution_id
        )
        assert found == f"noetl.{partition}"


async def test_a_foreign_database_is_extended_and_keeps_its_rows(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as connection:
        await make_foreign_schema(connection)
        await insert_events(connection, 10, "playbook_started", "playbook.completed")
        await insert_events(connection, 11, "playbook.initialized")
        await insert_events(connection, 12, "playbook.started", "playbook_cancelled", "playbook.failed")
        assert await upgrade_url(url) == NAMES
        positions = await connection.fetch("SELECT DISTINCT log_position FROM noetl.event")
        assert [record[0] for record in positions] == [None]
        executions = await connection.fetch("SELECT execution_id, status FROM noetl.execution ORDER BY 1")
        assert [tuple(record) for record in executions] == [(10, "COMPLETED"), (11, "RUNNING"), (12, "FAILED")]
        await insert_events(connection, 13, "playbook_started")
        assert await connection.fetchval("SELECT log_position FROM noetl.event WHERE execution_id = 13") > 0


async def test_adding_the_log_position_rewrites_no_table(make_database: MakeDatabase) -> None:
    url = await make_database()
    files = (
        "SELECT array_agg(pg_relation_filenode(inhrelid) ORDER BY inhrelid) FROM pg_inherits"
        " WHERE inhparent = 'noetl.event'::regclass"
    )
    async with connected(url) as connection:
        await make_foreign_schema(connection)
        before = await connection.fetchval(files)
        await upgrade_url(url)
        assert await connection.fetchval(files) == before


async def test_contexts_are_compressed_by_lz4_where_the_server_can(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as connection:
        await make_foreign_schema(connection)
        await upgrade_url(url)
        methods = {
            record["attcompression"]
            for record in await connection.fetch(
                "SELECT attcompression FROM pg_partition_tree('noetl.event') JOIN pg_attribute ON attrelid = relid"
                " WHERE attname = 'context'"
            )
        }
        try:
            await connection.execute("SET default_toast_compression = 'lz4'")
        except asyncpg.InvalidParameterValueError:
            assert methods == {b"\0"}
        else:
            assert methods == {b"l"}


async def test_an_older_revision_gets_the_columns_it_lacks(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as connection:
        await make_foreign_schema(connection)
        await connection.execute("DROP VIEW noetl.event_log")
        await connection.execute("ALTER TABLE noetl.event DROP COLUMN prev_event_id, DROP COLUMN tenant_id CASCADE")
        await connection.execute("ALTER TABLE noetl.event DROP CONSTRAINT chk_event_result_shape")
        await upgrade_url(url)
        await insert_events(connection, 5, "x")
        assert await connection.fetchval("SELECT tenant_id FROM noetl.event WHERE execution_id = 5") == "default"
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE noetl.event SET result = '[]'")


async def test_tables_of_later_servers_and_their_columns_are_left_alone(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as connection:
        await make_foreign_schema(connection)
        await connection.execute("ALTER TABLE noetl.catalog ADD COLUMN archived_at timestamptz")
        await connection.execute("CREATE TABLE noetl.object_store (a integer)")
        assert await upgrade_url(url) == NAMES


async def test_a_role_with_dml_rights_only_can_start_when_everything_is_there(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as owner:
        worker_url = await role_url(owner, url, "dml_only")
        await upgrade_url(url)
        await owner.execute("GRANT USAGE ON SCHEMA noetl TO dml_only")
        await owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA noetl TO dml_only")
        await owner.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA noetl TO dml_only")
        assert await upgrade_url(worker_url) == []


async def test_missing_rights_on_tables_are_named_as_grants(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as owner:
        worker_url = await role_url(owner, url, "half_granted")
        await upgrade_url(url)
        await owner.execute("GRANT USAGE ON SCHEMA noetl TO half_granted")
        await owner.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA noetl TO half_granted")
        await owner.execute("REVOKE INSERT ON noetl.event FROM half_granted")
        with pytest.raises(SchemaNotReadyError) as refused:
            await upgrade_url(worker_url)
        grants = refused.value.remedy.splitlines()[1:]
        assert grants == [
            "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE noetl.event TO half_granted;",
            "GRANT USAGE ON SEQUENCE noetl.event_log_position_seq TO half_granted;",
            "GRANT USAGE ON SEQUENCE noetl.snowflake_seq TO half_granted;",
        ]
        await owner.execute("\n".join(grants))
        assert await upgrade_url(worker_url) == []


async def test_every_table_that_a_migration_creates_is_looked_at_for_rights(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as owner:
        await role_url(owner, url, "nothing_granted")
        await upgrade_url(url)
        await owner.execute("GRANT USAGE ON SCHEMA noetl TO nothing_granted")
        tables = await owner.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'noetl'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        await owner.execute("SET ROLE nothing_granted")
        grants = "\n".join(await missing_grants(owner, "noetl"))
        await owner.execute("RESET ROLE")
    missing = {record["relname"] for record in tables if f"TABLE noetl.{record['relname']} " not in grants}
    assert missing == UNUSED_TABLES


async def test_a_role_that_may_not_create_is_told_what_the_owner_must_run(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as owner:
        worker_url = await role_url(owner, url, "no_rights")
        with pytest.raises(SchemaNotReadyError) as refused:
            await upgrade_url(worker_url)
        assert "noetl-server db upgrade" in refused.value.remedy
        assert 'GRANT USAGE ON SCHEMA "noetl" TO no_rights;' in refused.value.remedy
        await upgrade_url(url)
        await owner.execute("\n".join(refused.value.remedy.splitlines()[-3:]))
        assert await upgrade_url(worker_url) == []


async def test_roles_that_may_insert_events_can_still_do_so_after_the_upgrade(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as owner:
        other_url = await role_url(owner, url, "other_server")
        await make_foreign_schema(owner)
        await insert_events(owner, 1, "x")
        await owner.execute("GRANT USAGE ON SCHEMA noetl TO other_server")
        await owner.execute("GRANT SELECT, INSERT ON noetl.event TO other_server")
        await upgrade_url(url)
        async with connected(other_url) as other:
            await other.execute(
                "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type) VALUES (1, 50, 1, 'x')"
            )
            assert await other.fetchval("SELECT log_position FROM noetl.event WHERE event_id = 50") > 0
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await other.fetchval("SELECT count(*) FROM noetl.credential")


async def test_a_failing_migration_leaves_nothing_behind(make_database: MakeDatabase) -> None:
    url = await make_database()
    await upgrade_url(url)
    broken = Migration(999, "broken", "CREATE TABLE {schema}.half (a integer); SELECT 1 / 0;", "checksum")
    async with connected(url) as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await Upgrade("noetl", (*load_migrations(), broken)).run(connection)
        assert await connection.fetchval("SELECT to_regclass('noetl.half')") is None
        assert await upgrade_url(url) == []


async def test_a_migration_that_reads_differently_is_refused(make_database: MakeDatabase) -> None:
    url = await make_database()
    await upgrade_url(url)
    first, *others = load_migrations()
    changed = Migration(first.version, first.name, first.sql, "another")
    async with connected(url) as connection:
        with pytest.raises(ChangedMigrationError):
            await Upgrade("noetl", (changed, *others)).run(connection)


async def test_versions_unknown_to_this_program_do_not_disturb_it(make_database: MakeDatabase) -> None:
    url = await make_database()
    await upgrade_url(url)
    async with connected(url) as connection:
        await connection.execute("INSERT INTO noetl.schema_migration VALUES (998, 'of_a_later_version', 'x')")
    assert await upgrade_url(url) == []


async def test_a_table_in_use_is_waited_for(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as connection, connected(url) as busy:
        await make_foreign_schema(connection)
        transaction = busy.transaction()
        await transaction.start()
        await busy.execute("SELECT count(*) FROM noetl.event")
        upgrading = asyncio.create_task(upgrade_url(url))
        waiting = (
            "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE NOT granted AND datname = current_database())"
        )
        async with asyncio.timeout(20):
            while not await connection.fetchval(waiting):  # noqa: ASYNC110 (the lock queue sends no event)
                await asyncio.sleep(0.01)
        await transaction.rollback()
        assert await upgrading == NAMES


async def test_the_script_for_administrators_is_the_same_schema(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with connected(url) as connection:
        await connection.execute(upgrade_script("noetl"))
        assert await connection.fetchval("SELECT count(*) FROM noetl.execution") == 0
    assert await upgrade_url(url) == NAMES
