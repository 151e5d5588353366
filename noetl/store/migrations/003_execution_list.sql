-- Lists of executions are answered from `execution`, one row per execution.
--
-- This server's ledger writes the row with the start event and completes it with the terminal event, in the same
-- transaction. Executions that exist only as events are of two kinds: those of before (inserted here, once) and those
-- that another server starts or ends later on the same database. The latter are found through an index that holds
-- nothing but start and terminal events in order of arrival: a list request looks at its newest entries, and a sweep
-- walks all of them once, remembering how far it came in `projection`. A trigger would be simpler, but the canonical
-- schema has none, and drops them.

CREATE INDEX IF NOT EXISTS idx_event_lifecycle_log_position
    ON {schema}.event (log_position)
    INCLUDE (execution_id, event_id, event_type, ingest_time)
    WHERE event_type IN (
        'playbook_started', 'playbook.initialized', 'playbook.started',
        'playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',
        'playbook.cancelled', 'playbook_cancelled', 'execution.cancelled'
    );

-- Pages of the list, newest first; without a filter `idx_execution_list_page` serves.

CREATE INDEX IF NOT EXISTS idx_execution_status_page
    ON {schema}.execution (status, coalesce(start_time, created_at) DESC NULLS LAST, execution_id DESC);
CREATE INDEX IF NOT EXISTS idx_execution_catalog_page
    ON {schema}.execution (catalog_id, coalesce(start_time, created_at) DESC NULLS LAST, execution_id DESC);
CREATE INDEX IF NOT EXISTS idx_execution_catalog_status_page
    ON {schema}.execution (catalog_id, status, coalesce(start_time, created_at) DESC NULLS LAST, execution_id DESC);
CREATE INDEX IF NOT EXISTS idx_execution_parent
    ON {schema}.execution (parent_execution_id)
    WHERE parent_execution_id IS NOT NULL;

-- The newest completion or failure decides, else a cancellation; the same rule as in noetl/store/outcome.py.

INSERT INTO {schema}.execution AS head (
    execution_id, catalog_id, parent_execution_id, status, start_time, end_time, error,
    last_event_type, last_node_name, last_event_id
)
SELECT
    started.execution_id, started.catalog_id, started.parent_execution_id,
    coalesce(ended.status, 'RUNNING'), started.created_at AT TIME ZONE 'UTC', ended.created_at AT TIME ZONE 'UTC',
    ended.error, coalesce(ended.event_type, started.event_type), coalesce(ended.node_name, started.node_name),
    coalesce(ended.event_id, started.event_id)
FROM (
    SELECT DISTINCT ON (execution_id)
        execution_id, event_id, event_type, catalog_id, parent_execution_id, created_at, node_name
    FROM {schema}.event
    WHERE event_type IN ('playbook_started', 'playbook.initialized', 'playbook.started')
    ORDER BY execution_id, event_id
) AS started
LEFT JOIN (
    SELECT DISTINCT ON (execution_id)
        execution_id, event_id, event_type, created_at, node_name,
        coalesce(error, meta ->> 'error', result -> 'context' ->> 'error', result ->> 'error') AS error,
        CASE
            WHEN event_type LIKE '%completed' THEN 'COMPLETED'
            WHEN event_type LIKE '%failed' THEN 'FAILED'
            ELSE 'CANCELLED'
        END AS status
    FROM {schema}.event
    WHERE event_type IN (
        'playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',
        'playbook.cancelled', 'playbook_cancelled', 'execution.cancelled'
    )
    ORDER BY execution_id, event_type LIKE '%cancelled', created_at DESC, event_id DESC
) AS ended USING (execution_id)
ON CONFLICT (execution_id) DO UPDATE SET
    status = excluded.status, start_time = excluded.start_time, end_time = excluded.end_time,
    error = excluded.error, updated_at = now(), last_event_type = excluded.last_event_type,
    last_node_name = excluded.last_node_name, last_event_id = excluded.last_event_id;
