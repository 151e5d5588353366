"""Fills a database with many executions, and one long one, for the benchmarks of reading.

    python -m benchmarks.large_database --database postgresql://... [--executions 1000000] [--events 100000]

The database gets the newest schema first. Executions are of the last ninety days, of 200 catalog entries (a few of
which have most of them); one in ten has a parent; nine in a hundred failed or were cancelled; a few run. The last one
is the long one. Secondary indexes of the log are dropped and built again, which is many times faster than filling them.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any, Final

import asyncpg

from noetl._fast.snowflake import EPOCH_MS
from noetl.store.migrations import upgrade_url

CATALOG_ENTRIES: Final = 200
POOLS: Final = 50
VARIABLES: Final = 200
FIRST_CATALOG_ID: Final = 1_000
DAYS: Final = 90
CHUNK: Final = 100_000

_PREPARE: Final = f"""
    INSERT INTO noetl.catalog (catalog_id, path, version, kind, content, layout, payload, created_at)
    SELECT {FIRST_CATALOG_ID} + n, 'team' || n % 7 || '/flows/flow' || n % 50, 1 + n / 50, 'playbook',
        repeat('# a line of a playbook\n', 40), '[{{"step": "start"}}]', '{{"n": 1}}',
        now() - interval '{DAYS} days' + n * interval '1 minute'
    FROM generate_series(0, {CATALOG_ENTRIES - 1}) AS n;
    INSERT INTO noetl.runtime (runtime_id, name, kind, status, heartbeat, uri, capacity)
    SELECT n, 'pool-' || n, 'worker_pool', CASE WHEN n % 5 = 0 THEN 'offline' ELSE 'ready' END, now(), 'http://w', 4
    FROM generate_series(1, {POOLS}) AS n;
    CREATE TEMPORARY TABLE planned AS SELECT * FROM (
        SELECT n, (({EPOCH_MS} * -1 + at_ms)::bigint << 22) AS execution_id,
            to_timestamp(at_ms / 1000.0) AS started, (n * 7919 % 100) AS dice,
            {FIRST_CATALOG_ID} + floor({CATALOG_ENTRIES} * power((n * 104729 % 10007) / 10007.0, 3))::bigint
                AS catalog_id
        FROM (
            SELECT n, (extract(epoch FROM now() - interval '{DAYS} days') * 1000)::bigint
                + (n * ({DAYS} * 86400000.0 / $executions))::bigint AS at_ms
            FROM generate_series(1, $executions::bigint) AS n
        ) AS moments
    ) AS computed;
    CREATE INDEX ON planned (n);
    ALTER TABLE planned ADD COLUMN status text, ADD COLUMN parent bigint;
"""
"""``$executions`` is replaced before it is run."""

_PLAN: Final = """
    UPDATE planned SET status = CASE
            WHEN n > $1 - 200 OR n % 50021 = 7 THEN 'RUNNING'
            WHEN dice < 7 THEN 'FAILED' WHEN dice < 9 THEN 'CANCELLED' ELSE 'COMPLETED' END,
        parent = CASE WHEN n % 10 = 3
            THEN (SELECT before.execution_id FROM planned AS before WHERE before.n = planned.n - 2) END
    WHERE planned.n BETWEEN $2 AND $3"""

_EXECUTIONS: Final = """
    INSERT INTO noetl.execution (execution_id, catalog_id, parent_execution_id, status, start_time, end_time, error,
        created_at, last_event_type, last_node_name, last_event_id)
    SELECT execution_id, catalog_id, parent, status, started,
        CASE WHEN status <> 'RUNNING' THEN started + dice * interval '1 second' END,
        CASE WHEN status = 'FAILED' THEN 'Failed steps: load' END, started,
        CASE status WHEN 'RUNNING' THEN 'playbook_started' ELSE 'playbook.' || lower(status) END, 'playbook',
        execution_id + CASE status WHEN 'RUNNING' THEN 1 ELSE 4 END
    FROM planned WHERE n BETWEEN $1 AND $2 ORDER BY n"""

_EVENTS: Final = """
    INSERT INTO noetl.event (execution_id, event_id, catalog_id, parent_execution_id, event_type, node_id, node_name,
        status, created_at, context, result, meta, error)
    SELECT execution_id, execution_id + place, catalog_id, parent,
        (ARRAY['playbook_started', 'command.issued', 'command.completed', 'playbook.' || lower(status)])[place],
        'load', (ARRAY['playbook', 'load', 'load', 'playbook'])[place],
        (ARRAY['STARTED', 'PENDING', 'COMPLETED', status])[place],
        (started AT TIME ZONE 'UTC') + CASE place WHEN 4 THEN dice ELSE 0 END * interval '1 second',
        CASE place WHEN 1 THEN '{"workload": {"n": 1}, "path": "team/flows"}'::jsonb END,
        CASE place WHEN 3 THEN '{"status": "success", "context": {"rows": 12}}'::jsonb END,
        CASE WHEN place IN (2, 3) THEN jsonb_build_object('command_id', execution_id::text || ':load:' || n) END,
        CASE WHEN place = 4 AND status = 'FAILED' THEN 'Failed steps: load' END
    FROM planned, generate_series(1, 4) AS place
    WHERE n BETWEEN $1 AND $2 AND (place < 4 OR status <> 'RUNNING') ORDER BY n, place"""

_LONG: Final = """
    INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, node_id, node_name, status, created_at,
        context, result, meta)
    SELECT $1, $1 + place, (SELECT catalog_id FROM noetl.execution WHERE execution_id = $1), kind, 'many', 'many',
        CASE kind WHEN 'command.issued' THEN 'PENDING' WHEN 'command.completed' THEN 'COMPLETED' ELSE 'RUNNING' END,
        (now() AT TIME ZONE 'UTC') + place * interval '1 millisecond',
        CASE kind WHEN 'command.issued' THEN jsonb_build_object('item', place, 'text', repeat('x', 200)) END,
        CASE WHEN kind IN ('call.done', 'command.completed')
            THEN jsonb_build_object('status', 'success', 'context', jsonb_build_object('rows', place)) END,
        jsonb_build_object('command_id', $1::text || ':many:' || place / 5, 'iteration_index', place / 5)
    FROM generate_series($2::bigint, $3::bigint) AS place,
        LATERAL (SELECT (ARRAY['command.issued', 'command.claimed', 'command.started', 'call.done',
            'command.completed'])[1 + place % 5] AS kind) AS kinds
    ORDER BY place"""

_VARIABLES: Final = """
    INSERT INTO noetl.transient (execution_id, var_name, var_type, var_value)
    SELECT $1, 'variable_' || n, 'user_defined', jsonb_build_object('n', n, 'text', repeat('v', 100))
    FROM generate_series(1, $2::integer) AS n"""

_SECONDARY: Final = """
    SELECT indexrelid::regclass::text AS name, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') AS definition
    FROM pg_index WHERE indrelid = ANY ('{noetl.event,noetl.execution}'::regclass[]) AND NOT indisprimary"""


async def fill(url: str, executions: int, events: int) -> int:
    """Fill an empty database, and return the id of the execution that has ``events`` events."""
    await upgrade_url(url)
    connection: Any = await asyncpg.connect(url, command_timeout=None)
    try:
        # Foreign keys are not checked row by row: the rows come from one plan.
        await connection.execute("SET session_replication_role = replica; SET maintenance_work_mem = '512MB'")
        await connection.execute("SET work_mem = '256MB'; SET synchronous_commit = off")
        secondary = await connection.fetch(_SECONDARY)
        for index in secondary:
            await connection.execute(f"DROP INDEX {index['name']}")
        await connection.execute(_PREPARE.replace("$executions", str(executions)))
        for first in range(1, executions + 1, CHUNK):
            last = min(first + CHUNK - 1, executions)
            await connection.execute(_PLAN, executions, first, last)
            await connection.execute(_EXECUTIONS, first, last)
            await connection.execute(_EVENTS, first, last)
            print(f"{last} executions", flush=True)
        long_one = await connection.fetchval("SELECT execution_id FROM planned ORDER BY n DESC LIMIT 1")
        await connection.execute(_LONG, long_one, 4, events)
        await connection.execute(_VARIABLES, long_one, VARIABLES)
        for index in secondary:
            await connection.execute(index["definition"])
        print("indexes", flush=True)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    return int(long_one)


async def main() -> None:
    """Read the command line and fill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=100_000)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    long_one = await fill(arguments.database, arguments.executions, arguments.events)
    print(f"filled in {time.perf_counter() - begin:.0f} s; the long execution is {long_one}")


if __name__ == "__main__":
    asyncio.run(main())
