"""Rights of roles on the schema: what this role lacks, and rights for others on what a migration adds."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from noetl.store.connection import Connection

_MISSING_GRANTS: Final = """
WITH needed (name, kind, rights) AS (
    SELECT name, 'TABLE', 'SELECT, INSERT, UPDATE, DELETE'
    FROM unnest(ARRAY[
        'resource', 'catalog', 'event', 'command', 'execution', 'credential', 'keychain', 'runtime', 'transient',
        'outbox', 'result_store', 'result_part', 'secret_audit', 'projection', 'execute_idempotency', 'server_lease',
        'execution_tally'
    ]) AS name
    UNION ALL SELECT 'schema_migration', 'TABLE', 'SELECT'
    UNION ALL SELECT unnest(ARRAY['snowflake_seq', 'event_log_position_seq']), 'SEQUENCE', 'USAGE'
)
SELECT format('GRANT %s ON %s %s TO %I;', rights, kind, object, current_user)
FROM needed
CROSS JOIN LATERAL to_regclass(format('{schema}.%I', name)) AS object
WHERE CASE kind
    WHEN 'SEQUENCE' THEN NOT has_sequence_privilege(object, rights)
    ELSE EXISTS (
        SELECT FROM unnest(string_to_array(rights, ', ')) AS one WHERE NOT has_table_privilege(object, one)
    )
END
ORDER BY object::text"""
"""Rights that the running server uses (spec 50, section 14)."""

_RELATIONS: Final = """
SELECT oid FROM pg_class
WHERE relnamespace = to_regnamespace('{schema}') AND relkind IN ('r', 'p', 'v', 'S') AND NOT relispartition"""

_SHARED_GRANTS: Final = (
    """
SELECT format('GRANT %s ON %s TO %s',
    CASE added.relkind
        WHEN 'S' THEN 'USAGE, SELECT' WHEN 'v' THEN 'SELECT' ELSE 'SELECT, INSERT, UPDATE, DELETE'
    END,
    CASE added.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || added.oid::regclass,
    CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(granted.grantee)) END)
FROM pg_class AS event
CROSS JOIN LATERAL aclexplode(event.relacl) AS granted
CROSS JOIN pg_class AS added
WHERE event.oid = to_regclass('{schema}.event') AND granted.privilege_type = 'INSERT'
    AND granted.grantee <> event.relowner
    AND added.oid IN ("""
    + _RELATIONS
    + """) AND added.oid <> ALL ($1::oid[])
ORDER BY 1"""
)


async def missing_grants(connection: Connection, quoted_schema: str) -> list[str]:
    """The GRANT statements that this role needs before it can serve; objects that do not exist are not looked at."""
    return [record["format"] for record in await connection.fetch(_MISSING_GRANTS.replace("{schema}", quoted_schema))]


@asynccontextmanager
async def share_privileges(connection: Connection, quoted_schema: str) -> AsyncGenerator[None]:
    """Give every role that may insert events rights on the tables and sequences that the block creates.

    Those are servers and tools beside this one, possibly under other roles: a default that draws from a new sequence
    must not stop their inserts.
    """
    known = [record["oid"] for record in await connection.fetch(_RELATIONS.replace("{schema}", quoted_schema))]
    yield
    for record in await connection.fetch(_SHARED_GRANTS.replace("{schema}", quoted_schema), known):
        await connection.execute(record["format"])
