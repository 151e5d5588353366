-- What keeps reading fast on a database of many million rows, and large results out of memory.
--
-- The indexes hold some events only (those that enter, run or leave a step; that tell of a failure; that begin or end an
-- execution), but on a log of many million rows building them takes a minute, and writers wait for it: run
-- `noetl-server db upgrade` when a pause does no harm. Nothing else here waits for, or holds up, anybody.

-- An execution may be long. By itself the planner thinks of the average one, a handful of rows, and sorts or filters the
-- whole of it where an index has the order. This is a number in the catalogue: nothing is rewritten.

-- It counts from the next ANALYZE on, which must not see an empty table: plans for that would be made, and kept.

DO $$
DECLARE
    part regclass;
    has_rows boolean;
BEGIN
    EXECUTE 'ALTER TABLE {schema}.event ALTER COLUMN execution_id SET (n_distinct_inherited = -0.0001)';
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = '{schema}.event'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN execution_id SET (n_distinct = -0.0001)', part);
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO has_rows;
        IF has_rows THEN
            EXECUTE format('ANALYZE %s (execution_id)', part);
        END IF;
    END LOOP;
END
$$;

-- The progress of an execution: which steps were entered, ran, ended. Steps are few, however many events they have.

CREATE INDEX IF NOT EXISTS idx_event_execution_steps
    ON {schema}.event (execution_id, event_type, coalesce(status, ''), node_name, event_id)
    WHERE event_type IN ('step.enter', 'step.exit', 'command.claimed', 'command.started', 'command.completed');
CREATE INDEX IF NOT EXISTS idx_event_execution_failures
    ON {schema}.event (execution_id, event_id)
    INCLUDE (node_name, status)
    WHERE error IS NOT NULL OR status IN ('FAILED', 'failed', 'ERROR', 'error');
CREATE INDEX IF NOT EXISTS idx_event_execution_life
    ON {schema}.event (execution_id, event_type, created_at, event_id)
    WHERE event_type IN (
        'playbook_started', 'playbook.initialized', 'playbook.started',
        'playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',
        'playbook.cancelled', 'playbook_cancelled', 'execution.cancelled'
    );

-- How many executions began when, by status: for the dashboard, and to find the place of a deep page of the list without
-- counting rows. One row for each hour and status (catalog_id NULL), and one for each day, status and catalog entry.
-- Every change appends rows, so that writers never wait for each other; a sweep adds them up, and counts anew from time
-- to time, which repairs what a program that does not know this table has changed.

CREATE TABLE IF NOT EXISTS {schema}.execution_tally (
    catalog_id bigint,
    since timestamptz NOT NULL,
    status varchar NOT NULL,
    executions bigint NOT NULL,
    is_sum boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS idx_execution_tally
    ON {schema}.execution_tally (catalog_id, since DESC, status)
    INCLUDE (executions);
CREATE INDEX IF NOT EXISTS idx_execution_tally_change
    ON {schema}.execution_tally (catalog_id, since, status)
    WHERE NOT is_sum;

INSERT INTO {schema}.execution_tally (catalog_id, since, status, executions, is_sum)
SELECT NULL, date_trunc('hour', coalesce(start_time, created_at), 'UTC') AS since, status, count(*), true
FROM {schema}.execution GROUP BY since, status
UNION ALL
SELECT catalog_id, date_trunc('day', coalesce(start_time, created_at), 'UTC') AS since, status, count(*), true
FROM {schema}.execution GROUP BY catalog_id, since, status;

-- Large results arrive here in parts and are put together by the database; nothing stays. Not compressed: it is read once.

CREATE UNLOGGED TABLE IF NOT EXISTS {schema}.result_part (
    result_id bigint NOT NULL,
    part integer NOT NULL,
    data bytea NOT NULL,
    CONSTRAINT result_part_pkey PRIMARY KEY (result_id, part)
);
ALTER TABLE {schema}.result_part ALTER COLUMN data SET STORAGE EXTERNAL;

-- As ledger_append_2, and tells execution_tally of what begins and ends: for batches with such events.

CREATE OR REPLACE FUNCTION {schema}.ledger_append_3(
    held_execution bigint[], held_position bigint[],
    event_execution bigint[], event_ids bigint[], event_catalog bigint[], event_parent bigint[],
    event_parent_execution bigint[], event_created timestamp[], event_types text[], event_node_id text[],
    event_node_name text[], event_node_type text[], event_status text[], event_context text[], event_result text[],
    event_meta text[], event_error text[], event_worker text[], event_command bigint[], event_iteration integer[],
    update_execution bigint[], update_issued bigint[], update_status text[], update_worker text[],
    update_at timestamptz[], update_error text[], update_latest bigint[], update_attempt integer[],
    idempotency_keys text[], idempotency_execution bigint[], idempotency_commands integer[]
) RETURNS TABLE (execution_id bigint, log_position bigint, is_stale boolean)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
-- Plans are made once, also when the tables are still small.
SET enable_seqscan = off
SET lock_timeout = '5s'
AS $function$
#variable_conflict use_column
DECLARE
    known_execution bigint[];
    known_status text[];
BEGIN
    -- Locks as the function below takes them, and before the rows: in one order everywhere.
    PERFORM pg_advisory_xact_lock(held.id) FROM unnest(held_execution) AS held(id);
    SELECT array_agg(head.execution_id), array_agg(head.status)
    INTO known_execution, known_status
    FROM (
        SELECT head.execution_id, head.status FROM {schema}.execution AS head
        WHERE head.execution_id = ANY (held_execution) ORDER BY head.execution_id FOR UPDATE
    ) AS head;

    RETURN QUERY SELECT * FROM {schema}.ledger_append_2(
        held_execution, held_position, event_execution, event_ids, event_catalog, event_parent,
        event_parent_execution, event_created, event_types, event_node_id, event_node_name, event_node_type,
        event_status, event_context, event_result, event_meta, event_error, event_worker, event_command,
        event_iteration, update_execution, update_issued, update_status, update_worker, update_at, update_error,
        update_latest, update_attempt, idempotency_keys, idempotency_execution, idempotency_commands);

    INSERT INTO {schema}.execution_tally (catalog_id, since, status, executions)
    SELECT grain.catalog_id, grain.since, grain.status, sum(grain.change)
    FROM unnest(held_execution) AS held(id)
    JOIN {schema}.execution AS head ON head.execution_id = held.id
    LEFT JOIN unnest(known_execution, known_status) AS known(id, status) ON known.id = held.id
    CROSS JOIN LATERAL (VALUES (head.status, 1), (known.status, -1)) AS changed(status, change)
    CROSS JOIN LATERAL (VALUES
        (NULL::bigint, date_trunc('hour', coalesce(head.start_time, head.created_at), 'UTC'), changed.status, change),
        (head.catalog_id, date_trunc('day', coalesce(head.start_time, head.created_at), 'UTC'), changed.status, change)
    ) AS grain(catalog_id, since, status, change)
    WHERE head.status IS DISTINCT FROM known.status AND changed.status IS NOT NULL
    GROUP BY grain.catalog_id, grain.since, grain.status
    HAVING sum(grain.change) <> 0;
END
$function$;
