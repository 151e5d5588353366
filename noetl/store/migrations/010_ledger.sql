-- The ledger's own objects: the append function, idempotent starts, leases of periodic work.

CREATE TABLE IF NOT EXISTS {schema}.execute_idempotency (
    idempotency_key text PRIMARY KEY,
    execution_id bigint NOT NULL,
    commands_generated integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS execute_idempotency_created_at ON {schema}.execute_idempotency (created_at);

CREATE TABLE IF NOT EXISTS {schema}.server_lease (
    name text PRIMARY KEY,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Appends the rows of one batch, all or none, in one round trip.
--
-- held_* are the executions of the batch in ascending order with the highest log position that the caller has folded.
-- When another process has appended since, nothing is written and the rows returned have is_stale = true; otherwise
-- they give the new position of each execution. The advisory locks (one per execution, transaction scoped) make
-- "check the position, then append" one step for every process on this database, so log positions ascend in commit
-- order within an execution. Event rows and updates apply in array order.
CREATE OR REPLACE FUNCTION {schema}.ledger_append_1(
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
-- A plan for the arrays at hand is never better, and planning over all partitions and their indexes takes a millisecond.
SET plan_cache_mode = force_generic_plan
-- A process that holds an execution and is stopped must not stop the others: they refuse, and are asked again.
SET lock_timeout = '5s'
AS $function$
#variable_conflict use_column
DECLARE
    stale boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(held.id) FROM unnest(held_execution) AS held(id);

    SELECT bool_or(held.known <> coalesce((
        SELECT written.log_position FROM {schema}.event AS written
        WHERE written.execution_id = held.id AND written.log_position IS NOT NULL
        ORDER BY written.log_position DESC LIMIT 1), 0))
    INTO stale
    FROM unnest(held_execution, held_position) AS held(id, known);
    IF stale THEN
        RETURN QUERY
        SELECT held.id, written.log_position, true
        FROM unnest(held_execution, held_position) AS held(id, known)
        CROSS JOIN LATERAL (
            SELECT coalesce(max(e.log_position), 0) AS log_position
            FROM {schema}.event AS e WHERE e.execution_id = held.id
        ) AS written
        WHERE written.log_position <> held.known;
        RETURN;
    END IF;

    INSERT INTO {schema}.execute_idempotency (idempotency_key, execution_id, commands_generated)
    SELECT * FROM unnest(idempotency_keys, idempotency_execution, idempotency_commands);

    RETURN QUERY
    WITH appended AS (
        INSERT INTO {schema}.event AS written (
            execution_id, event_id, catalog_id, parent_event_id, parent_execution_id, created_at, event_type, node_id,
            node_name, node_type, status, context, result, meta, error, worker_id)
        SELECT row.execution_id, row.event_id, row.catalog_id, row.parent_event_id, row.parent_execution_id,
            row.created_at, row.event_type, row.node_id, row.node_name, row.node_type, row.status,
            row.context::jsonb, row.result::jsonb, row.meta::jsonb, row.error, row.worker_id
        FROM unnest(event_execution, event_ids, event_catalog, event_parent, event_parent_execution, event_created,
            event_types, event_node_id, event_node_name, event_node_type, event_status, event_context, event_result,
            event_meta, event_error, event_worker)
            AS row(execution_id, event_id, catalog_id, parent_event_id, parent_execution_id, created_at, event_type,
                node_id, node_name, node_type, status, context, result, meta, error, worker_id)
        RETURNING written.execution_id, written.log_position
    )
    SELECT appended.execution_id, max(appended.log_position), false FROM appended GROUP BY appended.execution_id;

    IF array_length(array_remove(event_command, NULL), 1) > 0 THEN
        INSERT INTO {schema}.command (
            command_id, event_id, execution_id, catalog_id, step_name, tool_kind, status, attempt, context, meta,
            iter_index, latest_event_id, created_at, updated_at)
        SELECT row.command_id, row.event_id, row.execution_id, row.catalog_id, row.node_name, row.node_type, row.status,
            1, row.context::jsonb, row.meta::jsonb, row.iteration, row.parent_event_id,
            row.created_at AT TIME ZONE 'UTC', row.created_at AT TIME ZONE 'UTC'
        FROM unnest(event_command, event_ids, event_execution, event_catalog, event_node_name, event_node_type,
            event_status, event_context, event_meta, event_iteration, event_parent, event_created)
            AS row(command_id, event_id, execution_id, catalog_id, node_name, node_type, status, context, meta,
                iteration, parent_event_id, created_at)
        WHERE row.command_id IS NOT NULL;
    END IF;

    FOR position IN 1 .. coalesce(array_length(update_execution, 1), 0) LOOP
        UPDATE {schema}.command AS target SET
            status = update_status[position],
            worker_id = CASE WHEN update_status[position] = 'PENDING' THEN NULL
                ELSE coalesce(update_worker[position], target.worker_id) END,
            claimed_at = CASE WHEN update_status[position] = 'PENDING' THEN NULL
                WHEN update_status[position] = 'CLAIMED' THEN update_at[position] ELSE target.claimed_at END,
            started_at = CASE WHEN update_status[position] = 'PENDING' THEN NULL
                WHEN update_status[position] = 'RUNNING' THEN update_at[position] ELSE target.started_at END,
            completed_at = CASE WHEN update_status[position] IN ('COMPLETED', 'FAILED', 'CANCELLED')
                THEN update_at[position] ELSE target.completed_at END,
            error = coalesce(update_error[position], target.error),
            attempt = coalesce(update_attempt[position], target.attempt),
            latest_event_id = update_latest[position],
            updated_at = update_at[position]
        WHERE target.execution_id = update_execution[position] AND target.event_id = update_issued[position]
            AND target.status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED');
    END LOOP;

    IF 'playbook_started' = ANY (event_types) THEN
        INSERT INTO {schema}.execution AS head (
            execution_id, catalog_id, status, start_time, parent_execution_id, last_event_type, last_node_name,
            last_event_id)
        SELECT row.execution_id, row.catalog_id, 'RUNNING', row.created_at AT TIME ZONE 'UTC', row.parent_execution_id,
            row.event_type, row.node_name, row.event_id
        FROM unnest(event_execution, event_catalog, event_created, event_parent_execution, event_types,
            event_node_name, event_ids)
            AS row(execution_id, catalog_id, created_at, parent_execution_id, event_type, node_name, event_id)
        WHERE row.event_type = 'playbook_started'
        ON CONFLICT ON CONSTRAINT execution_pkey DO NOTHING;
    END IF;

    IF event_types && ARRAY['playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',
        'playbook.cancelled', 'playbook_cancelled', 'execution.cancelled'] THEN
        UPDATE {schema}.execution AS head SET
            status = ended.status, end_time = ended.created_at AT TIME ZONE 'UTC', error = ended.error,
            last_event_type = ended.event_type, last_node_name = ended.node_name, last_event_id = ended.event_id,
            updated_at = now()
        FROM (
            SELECT DISTINCT ON (row.execution_id) row.execution_id, row.event_id, row.created_at, row.event_type,
                row.node_name, coalesce(row.error, row.meta::jsonb ->> 'error') AS error,
                CASE WHEN row.event_type LIKE '%completed' THEN 'COMPLETED'
                    WHEN row.event_type LIKE '%failed' THEN 'FAILED' ELSE 'CANCELLED' END AS status
            FROM unnest(event_execution, event_ids, event_created, event_types, event_node_name, event_meta,
                event_error) WITH ORDINALITY
                AS row(execution_id, event_id, created_at, event_type, node_name, meta, error, place)
            WHERE row.event_type IN ('playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',
                'playbook.cancelled', 'playbook_cancelled', 'execution.cancelled')
            ORDER BY row.execution_id, row.place
        ) AS ended
        WHERE head.execution_id = ended.execution_id AND head.end_time IS NULL;
    END IF;
END
$function$;
