-- One append function for batches of every kind and size, in place of three. Servers that call the others can write to
-- the same database.
--
-- Appends the rows of one batch, all or none, in one round trip.
--
-- held_* are the executions of the batch in ascending order with the highest log position that the caller has folded.
-- When another process has appended since, nothing is written and the rows returned have is_stale = true; otherwise
-- they give the new position of each execution. The advisory locks (one per execution, transaction scoped) make
-- "check the position, then append" one step for every process on this database, so log positions ascend in commit
-- order within an execution. Event rows and updates apply in array order. Updates are made one by one: a statement for
-- all of them pays off only from six on. execution_tally is told of executions that begin and end.
CREATE OR REPLACE FUNCTION {schema}.ledger_append_4(
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
-- A plan for the arrays at hand is never better, and planning over all partitions and indexes takes a millisecond.
SET plan_cache_mode = force_generic_plan
-- Every row is looked up by its key; a plan that was made while the tables were small is kept when they are large.
SET enable_seqscan = off
-- A process that holds an execution and is stopped must not stop the others: they refuse, and are asked again.
SET lock_timeout = '5s'
AS $function$
#variable_conflict use_column
DECLARE
    stale boolean;
    ends constant text[] := ARRAY['playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',
        'playbook.cancelled', 'playbook_cancelled', 'execution.cancelled'];
    has_life constant boolean := event_types && ends
        OR event_types && ARRAY['playbook_started', 'playbook.initialized', 'playbook.started'];
    known_execution bigint[];
    known_status text[];
    positions bigint[];
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

    IF cardinality(idempotency_keys) > 0 THEN
        INSERT INTO {schema}.execute_idempotency (idempotency_key, execution_id, commands_generated)
        SELECT * FROM unnest(idempotency_keys, idempotency_execution, idempotency_commands);
    END IF;

    IF has_life THEN
        SELECT array_agg(head.execution_id), array_agg(head.status)
        INTO known_execution, known_status
        FROM (
            SELECT head.execution_id, head.status FROM {schema}.execution AS head
            WHERE head.execution_id = ANY (held_execution) ORDER BY head.execution_id FOR UPDATE
        ) AS head;
    END IF;

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
        RETURNING written.log_position
    )
    -- Positions come from a sequence, row by row: in order of size they are those of the arrays.
    SELECT array_agg(appended.log_position ORDER BY appended.log_position) INTO positions FROM appended;
    IF coalesce(cardinality(positions), 0) <> cardinality(event_ids) THEN
        RAISE 'a trigger has left out rows of the log';
    END IF;

    IF array_length(array_remove(event_command, NULL), 1) > 0 THEN
        -- Taken from the rows just written: a context may be large, and theirs is parsed and compressed already. The
        -- order makes the planner take the index of positions for certain: without statistics any index that begins
        -- with the execution is as good to it, and would read the whole execution for each row.
        INSERT INTO {schema}.command (
            command_id, event_id, execution_id, catalog_id, step_name, tool_kind, status, attempt, context, meta,
            iter_index, latest_event_id, created_at, updated_at)
        SELECT row.command_id, issued.event_id, row.execution_id, issued.catalog_id, issued.node_name,
            issued.node_type, issued.status, 1, issued.context, issued.meta, row.iteration, issued.parent_event_id,
            issued.created_at AT TIME ZONE 'UTC', issued.created_at AT TIME ZONE 'UTC'
        FROM unnest(event_command, event_execution, positions, event_iteration)
            AS row(command_id, execution_id, log_position, iteration)
        CROSS JOIN LATERAL (
            SELECT e.event_id, e.catalog_id, e.node_name, e.node_type, e.status, e.context, e.meta, e.parent_event_id,
                e.created_at
            FROM {schema}.event AS e
            WHERE e.execution_id = row.execution_id AND e.log_position >= row.log_position
            ORDER BY e.log_position LIMIT 1
        ) AS issued
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
            latest_event_id = coalesce(update_latest[position], target.latest_event_id),
            updated_at = update_at[position]
        WHERE target.execution_id = update_execution[position] AND target.event_id = update_issued[position]
            AND target.status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED');
    END LOOP;

    IF has_life THEN
        IF 'playbook_started' = ANY (event_types) THEN
            INSERT INTO {schema}.execution AS head (
                execution_id, catalog_id, status, start_time, parent_execution_id, last_event_type, last_node_name,
                last_event_id)
            SELECT row.execution_id, row.catalog_id, 'RUNNING', row.created_at AT TIME ZONE 'UTC',
                row.parent_execution_id, row.event_type, row.node_name, row.event_id
            FROM unnest(event_execution, event_catalog, event_created, event_parent_execution, event_types,
                event_node_name, event_ids)
                AS row(execution_id, catalog_id, created_at, parent_execution_id, event_type, node_name, event_id)
            WHERE row.event_type = 'playbook_started'
            ON CONFLICT ON CONSTRAINT execution_pkey DO NOTHING;
        END IF;

        IF event_types && ends THEN
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
                WHERE row.event_type = ANY (ends)
                ORDER BY row.execution_id, row.place
            ) AS ended
            WHERE head.execution_id = ended.execution_id AND head.end_time IS NULL;
        END IF;

        INSERT INTO {schema}.execution_tally (catalog_id, since, status, executions)
        SELECT grain.catalog_id, grain.since, grain.status, sum(grain.change)
        FROM unnest(held_execution) AS held(id)
        JOIN {schema}.execution AS head ON head.execution_id = held.id
        LEFT JOIN unnest(known_execution, known_status) AS known(id, status) ON known.id = held.id
        CROSS JOIN LATERAL (VALUES (head.status, 1), (known.status, -1)) AS changed(status, change)
        CROSS JOIN LATERAL (VALUES
            (NULL::bigint, date_trunc('hour', coalesce(head.start_time, head.created_at), 'UTC'), changed.status,
                change),
            (head.catalog_id, date_trunc('day', coalesce(head.start_time, head.created_at), 'UTC'), changed.status,
                change)
        ) AS grain(catalog_id, since, status, change)
        WHERE head.status IS DISTINCT FROM known.status AND changed.status IS NOT NULL
        GROUP BY grain.catalog_id, grain.since, grain.status
        HAVING sum(grain.change) <> 0;
    END IF;

    RETURN QUERY
    SELECT row.execution_id, max(row.log_position), false
    FROM unnest(event_execution, positions) AS row(execution_id, log_position) GROUP BY row.execution_id;
END
$function$;
