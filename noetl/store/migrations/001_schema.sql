-- The canonical schema: what every NoETL server and tool expects to find on this database.
--
-- Written so that it can run on a database that another server has created, of this or of an older revision: what is
-- there stays as it is, what is missing is added. Names, types and bounds are the contract with those programs.

DO $$
BEGIN
    IF to_regnamespace('{schema}') IS NULL THEN
        CREATE SCHEMA {schema};
    END IF;
END
$$;

-- Ids made by the database: 41 bits of milliseconds since 2024-01-01, 5 bits of shard (1), 18 bits of sequence.

CREATE SEQUENCE IF NOT EXISTS {schema}.snowflake_seq;

DO $$
BEGIN
    IF to_regprocedure('{schema}.snowflake_id()') IS NULL THEN
        CREATE FUNCTION {schema}.snowflake_id() RETURNS bigint LANGUAGE sql VOLATILE AS $function$
            SELECT ((round(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 1704067200000) << 23)
                | (1::bigint << 18)
                | (nextval('{schema}.snowflake_seq') % 1024)
        $function$;
    END IF;
END
$$;

-- Kinds of catalog entries.

CREATE TABLE IF NOT EXISTS {schema}.resource (
    name varchar NOT NULL,
    meta jsonb,
    CONSTRAINT resource_pkey PRIMARY KEY (name)
);

INSERT INTO {schema}.resource (name, meta) VALUES
    ('playbook', '{"description": "Executable NoETL workflow definition", "executable": true, "catalog": true}'),
    ('credential', '{"description": "Credential or secret reference metadata", "executable": false, "catalog": true}'),
    ('mcp', '{"description": "Model Context Protocol server/tool provider", "executable": false, "catalog": true}'),
    ('agent', '{"description": "Agent-as-playbook or agent capability resource", "executable": true, "catalog": true}'),
    ('memory',
     '{"description": "AI memory, knowledge, or coordination artifact", "executable": false, "catalog": true}')
ON CONFLICT (name) DO NOTHING;

-- Registered playbooks and other resources, one row per version.

CREATE TABLE IF NOT EXISTS {schema}.catalog (
    catalog_id    bigint NOT NULL DEFAULT {schema}.snowflake_id(),
    path          text NOT NULL,
    version       smallserial NOT NULL,
    kind          varchar NOT NULL,
    content       text,
    layout        jsonb,
    payload       jsonb,
    meta          jsonb,
    created_at    timestamp NOT NULL DEFAULT current_timestamp,
    credential_id integer,
    CONSTRAINT catalog_pkey PRIMARY KEY (catalog_id),
    CONSTRAINT catalog_path_version_key UNIQUE (path, version),
    CONSTRAINT catalog_kind_fkey FOREIGN KEY (kind) REFERENCES {schema}.resource (name)
);

ALTER TABLE {schema}.catalog
    ADD COLUMN IF NOT EXISTS credential_id integer;

-- The append-only log of all executions; the source of truth.

CREATE TABLE IF NOT EXISTS {schema}.event (
    execution_id        bigint NOT NULL,
    catalog_id          bigint NOT NULL,
    event_id            bigint NOT NULL,
    parent_event_id     bigint,
    parent_execution_id bigint,
    created_at          timestamp NOT NULL DEFAULT current_timestamp,
    event_type          varchar,
    node_id             varchar,
    node_name           varchar,
    node_type           varchar,
    status              varchar,
    duration            double precision,
    context             jsonb,
    result              jsonb,
    meta                jsonb,
    error               text,
    current_index       integer,
    current_item        text,
    worker_id           varchar,
    distributed_state   varchar,
    context_key         varchar,
    context_value       text,
    trace_component     jsonb,
    stack_trace         text,
    tenant_id           text NOT NULL DEFAULT 'default',
    organization_id     text NOT NULL DEFAULT 'default',
    stream_id           text,
    stream_version      bigint,
    aggregate_id        text,
    aggregate_type      text,
    schema_name         text,
    schema_version      integer NOT NULL DEFAULT 1,
    event_time          timestamptz NOT NULL DEFAULT now(),
    ingest_time         timestamptz NOT NULL DEFAULT now(),
    producer            text,
    causation_id        text,
    correlation_id      text,
    idempotency_key     text,
    payload_ref         jsonb,
    envelope_checksum   text,
    prev_event_id       bigint,
    command_id          bigint,
    stage_id            bigint,
    frame_id            bigint,
    CONSTRAINT event_pkey PRIMARY KEY (execution_id, event_id),
    CONSTRAINT event_catalog_id_fkey FOREIGN KEY (catalog_id) REFERENCES {schema}.catalog (catalog_id)
) PARTITION BY RANGE (execution_id);

ALTER TABLE {schema}.event
    ADD COLUMN IF NOT EXISTS tenant_id text NOT NULL DEFAULT 'default',
    ADD COLUMN IF NOT EXISTS organization_id text NOT NULL DEFAULT 'default',
    ADD COLUMN IF NOT EXISTS stream_id text,
    ADD COLUMN IF NOT EXISTS stream_version bigint,
    ADD COLUMN IF NOT EXISTS aggregate_id text,
    ADD COLUMN IF NOT EXISTS aggregate_type text,
    ADD COLUMN IF NOT EXISTS schema_name text,
    ADD COLUMN IF NOT EXISTS schema_version integer NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS event_time timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS ingest_time timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN IF NOT EXISTS producer text,
    ADD COLUMN IF NOT EXISTS causation_id text,
    ADD COLUMN IF NOT EXISTS correlation_id text,
    ADD COLUMN IF NOT EXISTS idempotency_key text,
    ADD COLUMN IF NOT EXISTS payload_ref jsonb,
    ADD COLUMN IF NOT EXISTS envelope_checksum text,
    ADD COLUMN IF NOT EXISTS prev_event_id bigint,
    ADD COLUMN IF NOT EXISTS command_id bigint,
    ADD COLUMN IF NOT EXISTS stage_id bigint,
    ADD COLUMN IF NOT EXISTS frame_id bigint;

DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conname = 'chk_event_result_shape' AND conrelid = '{schema}.event'::regclass
    ) THEN
        -- NOT VALID: rows of an older revision may break the rule, and must not keep the server from starting.
        ALTER TABLE {schema}.event ADD CONSTRAINT chk_event_result_shape CHECK (
            result IS NULL OR (
                jsonb_typeof(result) = 'object'
                AND result ? 'status' AND jsonb_typeof(result -> 'status') = 'string'
                AND result - 'status' - 'reference' - 'context' = '{}'::jsonb
                AND (NOT result ? 'reference' OR jsonb_typeof(result -> 'reference') = 'object')
                AND (NOT result ? 'context' OR jsonb_typeof(result -> 'context') = 'object')
            )
        ) NOT VALID;
        IF NOT EXISTS (SELECT FROM {schema}.event) THEN
            ALTER TABLE {schema}.event VALIDATE CONSTRAINT chk_event_result_shape;
        END IF;
    END IF;
END
$$;

-- Partitions by ranges of execution ids, so that old executions can be dropped whole. Ids of servers count
-- milliseconds << 22, ids of snowflake_id() << 23: the later ranges hold quarters of the latter. A range of which
-- event_default has rows already cannot be attached, and is left to it.

CREATE TABLE IF NOT EXISTS {schema}.event_default PARTITION OF {schema}.event DEFAULT;

DO $$
DECLARE
    part record;
    is_taken boolean;
BEGIN
    FOR part IN
        SELECT * FROM (VALUES
            ('event_pre_2026', NULL::bigint, 264905529753600000),
            ('event_2026_q1', 264905529753600000, 297520437657600000),
            ('event_2026_q2', 297520437657600000, 330497733427200000),
            ('event_2026_q3', 330497733427200000, 363837417062400000),
            ('event_2026_q4', 363837417062400000, 397177100697600000),
            ('event_2027_h1', 397177100697600000, 462769304371200000),
            ('event_2027_h2', 462769304371200000, 529448671641600000),
            ('event_2026_q1_standard', 529811059507200000, 569000000000000000),
            ('event_2026_gke', 569000000000000000, 600000000000000000),
            ('event_2026_q2_standard', 600000000000000000, 660995466854400000),
            ('event_2026_q3_standard', 660995466854400000, 727674834124800000),
            ('event_2026_q4_standard', 727674834124800000, 794354201395200000),
            ('event_2027_h1_standard', 794354201395200000, 925538608742400000),
            ('event_2027_h2_standard', 925538608742400000, 1058897343283200000),
            ('event_2028_q1_standard', 1058897343283200000, 1124137159091200000)
        ) AS ranges (name, low, high)
    LOOP
        CONTINUE WHEN to_regclass(format('{schema}.%I', part.name)) IS NOT NULL;
        SELECT EXISTS (
            SELECT FROM {schema}.event_default AS kept
            WHERE (part.low IS NULL OR kept.execution_id >= part.low) AND kept.execution_id < part.high
        ) INTO is_taken;
        CONTINUE WHEN is_taken;
        EXECUTE format(
            'CREATE TABLE {schema}.%I PARTITION OF {schema}.event FOR VALUES FROM (%s) TO (%s)',
            part.name, coalesce(part.low::text, 'MINVALUE'), part.high
        );
    END LOOP;
END
$$;

CREATE INDEX IF NOT EXISTS idx_event_aggregate_event_id
    ON {schema}.event (tenant_id, organization_id, aggregate_type, aggregate_id, event_id DESC)
    WHERE aggregate_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_batch_request_event_id_desc
    ON {schema}.event ((meta ->> 'batch_request_id'), event_id DESC)
    WHERE meta ? 'batch_request_id';
CREATE INDEX IF NOT EXISTS idx_event_catalog_id ON {schema}.event (catalog_id);
CREATE INDEX IF NOT EXISTS idx_event_command_id ON {schema}.event (command_id) WHERE command_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_command_issued_created_event_id_desc
    ON {schema}.event (created_at DESC, event_id DESC, execution_id, (meta ->> 'command_id'))
    WHERE event_type = 'command.issued' AND meta ? 'command_id';
CREATE INDEX IF NOT EXISTS idx_event_created_at ON {schema}.event (created_at);
CREATE INDEX IF NOT EXISTS idx_event_exec_frame_event_id_desc
    ON {schema}.event (execution_id, frame_id, event_id DESC)
    WHERE frame_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_exec_id_event_id_desc ON {schema}.event (execution_id, event_id DESC);
CREATE INDEX IF NOT EXISTS idx_event_exec_stage_event_id_desc
    ON {schema}.event (execution_id, stage_id, event_id DESC)
    WHERE stage_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_exec_type ON {schema}.event (execution_id, event_type, event_id DESC);
CREATE INDEX IF NOT EXISTS idx_event_exec_type_command_id_event_id_desc
    ON {schema}.event (execution_id, event_type, command_id, event_id DESC)
    WHERE command_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_exec_type_meta_command_id_event_id_desc
    ON {schema}.event (execution_id, event_type, (meta ->> 'command_id'), event_id DESC)
    WHERE meta ? 'command_id';
CREATE INDEX IF NOT EXISTS idx_event_execution_id ON {schema}.event (execution_id);
CREATE INDEX IF NOT EXISTS idx_event_frame_id ON {schema}.event (frame_id, event_id DESC) WHERE frame_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_idempotency_key
    ON {schema}.event (execution_id, (meta ->> 'idempotency_key'))
    WHERE meta ? 'idempotency_key';
CREATE INDEX IF NOT EXISTS idx_event_idempotency_key_column
    ON {schema}.event (tenant_id, organization_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_loop_epoch_coalesce
    ON {schema}.event (execution_id, node_name, coalesce(meta ->> 'loop_event_id', meta ->> '__loop_epoch_id'))
    WHERE coalesce(meta ->> 'loop_event_id', meta ->> '__loop_epoch_id') IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_loop_epoch_id
    ON {schema}.event (execution_id, node_name, (meta ->> '__loop_epoch_id'))
    WHERE meta ? '__loop_epoch_id';
CREATE INDEX IF NOT EXISTS idx_event_loop_event_id
    ON {schema}.event (execution_id, node_name, (meta ->> 'loop_event_id'))
    WHERE meta ? 'loop_event_id';
CREATE INDEX IF NOT EXISTS idx_event_node_name ON {schema}.event (node_name);
CREATE INDEX IF NOT EXISTS idx_event_parent_event_id ON {schema}.event (parent_event_id);
CREATE INDEX IF NOT EXISTS idx_event_parent_execution_id ON {schema}.event (parent_execution_id);
CREATE INDEX IF NOT EXISTS idx_event_playbook_init_event_id_desc
    ON {schema}.event (event_id DESC)
    INCLUDE (execution_id, catalog_id, parent_execution_id, created_at)
    WHERE event_type = 'playbook.initialized';
CREATE INDEX IF NOT EXISTS idx_event_prev_event_id
    ON {schema}.event (execution_id, prev_event_id)
    WHERE prev_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_result_reference_record_id
    ON {schema}.event ((result -> 'reference' ->> 'record_id'))
    WHERE (result -> 'reference') ? 'record_id';
CREATE INDEX IF NOT EXISTS idx_event_result_reference_type
    ON {schema}.event ((result -> 'reference' ->> 'type'))
    WHERE result ? 'reference';
CREATE INDEX IF NOT EXISTS idx_event_stage_id ON {schema}.event (stage_id, event_id DESC) WHERE stage_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_status ON {schema}.event (status);
CREATE INDEX IF NOT EXISTS idx_event_stream_version
    ON {schema}.event (tenant_id, organization_id, stream_id, stream_version)
    WHERE stream_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_event_tenant_org_execution_event_id
    ON {schema}.event (tenant_id, organization_id, execution_id, event_id DESC);
CREATE INDEX IF NOT EXISTS idx_event_type ON {schema}.event (event_type);

-- Units of work for workers; rows follow their events.

CREATE TABLE IF NOT EXISTS {schema}.command (
    command_id          bigint NOT NULL,
    event_id            bigint NOT NULL,
    execution_id        bigint NOT NULL,
    catalog_id          bigint NOT NULL,
    parent_execution_id bigint,
    parent_command_id   bigint,
    step_name           text NOT NULL,
    tool_kind           text,
    status              text NOT NULL DEFAULT 'PENDING',
    worker_id           text,
    claimed_at          timestamptz,
    started_at          timestamptz,
    completed_at        timestamptz,
    attempt             integer NOT NULL DEFAULT 1,
    context             jsonb,
    context_key         text,
    loop_event_id       text,
    iter_index          integer,
    meta                jsonb,
    result              jsonb,
    error               text,
    latest_event_id     bigint,
    prev_event_id       bigint,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    stage_id            bigint,
    frame_id            bigint,
    CONSTRAINT command_pkey PRIMARY KEY (execution_id, command_id)
) PARTITION BY HASH (execution_id);

ALTER TABLE {schema}.command
    ADD COLUMN IF NOT EXISTS prev_event_id bigint,
    ADD COLUMN IF NOT EXISTS stage_id bigint,
    ADD COLUMN IF NOT EXISTS frame_id bigint;

DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE IF NOT EXISTS {schema}.%I PARTITION OF {schema}.command'
            ' FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            'command_p' || to_char(remainder, 'FM00'), remainder
        );
    END LOOP;
END
$$;

CREATE INDEX IF NOT EXISTS idx_command_command_id ON {schema}.command (command_id);
CREATE INDEX IF NOT EXISTS idx_command_execution_id ON {schema}.command (execution_id);
CREATE INDEX IF NOT EXISTS idx_command_execution_status
    ON {schema}.command (execution_id, status)
    WHERE status IN ('PENDING', 'CLAIMED', 'RUNNING');
CREATE INDEX IF NOT EXISTS idx_command_execution_step ON {schema}.command (execution_id, step_name);
CREATE INDEX IF NOT EXISTS idx_command_frame ON {schema}.command (execution_id, frame_id) WHERE frame_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_command_loop
    ON {schema}.command (execution_id, loop_event_id, status)
    WHERE loop_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_command_loop_step_status
    ON {schema}.command (execution_id, step_name, loop_event_id, status, iter_index)
    WHERE loop_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_command_pending_loop_step_created
    ON {schema}.command (execution_id, step_name, loop_event_id, created_at, iter_index)
    WHERE status = 'PENDING' AND iter_index IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_command_stage
    ON {schema}.command (execution_id, stage_id, status)
    WHERE stage_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_command_stage_worker_slot
    ON {schema}.command (execution_id, stage_id, (meta ->> 'worker_slot_id'))
    WHERE stage_id IS NOT NULL AND meta ? 'worker_slot_id';
CREATE INDEX IF NOT EXISTS idx_command_status ON {schema}.command (status) WHERE status IN ('PENDING', 'CLAIMED');
CREATE INDEX IF NOT EXISTS idx_command_worker ON {schema}.command (worker_id, updated_at) WHERE status = 'CLAIMED';

-- One row per execution: a projection of the log, for lists.

CREATE TABLE IF NOT EXISTS {schema}.execution (
    execution_id        bigint NOT NULL,
    catalog_id          bigint NOT NULL,
    status              varchar NOT NULL,
    start_time          timestamptz,
    end_time            timestamptz,
    error               text,
    created_at          timestamptz NOT NULL DEFAULT current_timestamp,
    updated_at          timestamptz NOT NULL DEFAULT current_timestamp,
    parent_execution_id bigint,
    last_event_type     varchar,
    last_node_name      varchar,
    last_event_id       bigint,
    state               jsonb,
    CONSTRAINT execution_pkey PRIMARY KEY (execution_id),
    CONSTRAINT execution_catalog_id_fkey FOREIGN KEY (catalog_id) REFERENCES {schema}.catalog (catalog_id)
);

ALTER TABLE {schema}.execution
    ADD COLUMN IF NOT EXISTS parent_execution_id bigint,
    ADD COLUMN IF NOT EXISTS last_event_type varchar,
    ADD COLUMN IF NOT EXISTS last_node_name varchar,
    ADD COLUMN IF NOT EXISTS last_event_id bigint,
    ADD COLUMN IF NOT EXISTS state jsonb;

CREATE INDEX IF NOT EXISTS idx_execution_catalog_id ON {schema}.execution (catalog_id);
CREATE INDEX IF NOT EXISTS idx_execution_created_at ON {schema}.execution (created_at DESC);
CREATE INDEX IF NOT EXISTS idx_execution_list_page
    ON {schema}.execution (COALESCE(start_time, created_at) DESC NULLS LAST, execution_id DESC)
    INCLUDE (catalog_id, parent_execution_id, status, last_event_type, last_node_name, last_event_id, end_time, error);
CREATE INDEX IF NOT EXISTS idx_execution_start_time ON {schema}.execution (start_time DESC);
CREATE INDEX IF NOT EXISTS idx_execution_status ON {schema}.execution (status);

-- Distributed loops of other servers on the same database.

CREATE TABLE IF NOT EXISTS {schema}.stage (
    stage_id        bigint NOT NULL,
    execution_id    bigint NOT NULL,
    parent_event_id bigint,
    parent_stage_id bigint,
    loop_event_id   text,
    opened_event_id bigint,
    closed_event_id bigint,
    kind            text NOT NULL,
    step_name       text NOT NULL,
    dsl_ref         text NOT NULL,
    status          text NOT NULL DEFAULT 'OPEN',
    frame_policy    jsonb NOT NULL DEFAULT '{}'::jsonb,
    tenant_id       text NOT NULL DEFAULT 'default',
    organization_id text NOT NULL DEFAULT 'default',
    started_at      timestamptz NOT NULL DEFAULT now(),
    ended_at        timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stage_pkey PRIMARY KEY (stage_id),
    CONSTRAINT stage_execution_id_fkey FOREIGN KEY (execution_id) REFERENCES {schema}.execution (execution_id),
    CONSTRAINT stage_parent_stage_id_fkey FOREIGN KEY (parent_stage_id) REFERENCES {schema}.stage (stage_id),
    CONSTRAINT stage_kind_check CHECK (kind IN ('loop', 'fanout', 'reduce'))
);

ALTER TABLE {schema}.stage
    ADD COLUMN IF NOT EXISTS parent_stage_id bigint,
    ADD COLUMN IF NOT EXISTS loop_event_id text,
    ADD COLUMN IF NOT EXISTS opened_event_id bigint,
    ADD COLUMN IF NOT EXISTS closed_event_id bigint;

CREATE INDEX IF NOT EXISTS idx_stage_closed_event ON {schema}.stage (closed_event_id) WHERE closed_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_stage_execution_status ON {schema}.stage (execution_id, status, stage_id);
CREATE INDEX IF NOT EXISTS idx_stage_execution_step_loop
    ON {schema}.stage (execution_id, step_name, loop_event_id)
    WHERE loop_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_stage_opened_event ON {schema}.stage (opened_event_id) WHERE opened_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_stage_parent_stage ON {schema}.stage (parent_stage_id) WHERE parent_stage_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_stage_tenant_org_execution
    ON {schema}.stage (tenant_id, organization_id, execution_id, stage_id);

-- Slices of stages.

CREATE TABLE IF NOT EXISTS {schema}.frame (
    frame_id          bigint NOT NULL,
    stage_id          bigint NOT NULL,
    execution_id      bigint NOT NULL,
    parent_frame_id   bigint,
    command_id        bigint,
    claimed_event_id  bigint,
    terminal_event_id bigint,
    cursor            jsonb NOT NULL DEFAULT '{}'::jsonb,
    row_count         integer NOT NULL DEFAULT 0,
    status            text NOT NULL DEFAULT 'PENDING',
    owner_worker      text,
    lease_until       timestamptz,
    output_ref        jsonb,
    events_emitted    integer NOT NULL DEFAULT 0,
    attempts          integer NOT NULL DEFAULT 0,
    tenant_id         text NOT NULL DEFAULT 'default',
    organization_id   text NOT NULL DEFAULT 'default',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    completed_at      timestamptz,
    CONSTRAINT frame_pkey PRIMARY KEY (frame_id),
    CONSTRAINT frame_execution_id_fkey FOREIGN KEY (execution_id) REFERENCES {schema}.execution (execution_id),
    CONSTRAINT frame_parent_frame_id_fkey FOREIGN KEY (parent_frame_id) REFERENCES {schema}.frame (frame_id),
    CONSTRAINT frame_stage_id_fkey FOREIGN KEY (stage_id) REFERENCES {schema}.stage (stage_id)
);

ALTER TABLE {schema}.frame
    ADD COLUMN IF NOT EXISTS parent_frame_id bigint,
    ADD COLUMN IF NOT EXISTS command_id bigint,
    ADD COLUMN IF NOT EXISTS claimed_event_id bigint,
    ADD COLUMN IF NOT EXISTS terminal_event_id bigint;

CREATE INDEX IF NOT EXISTS frame_open_idx
    ON {schema}.frame (stage_id, status, lease_until)
    WHERE status IN ('PENDING', 'CLAIMED', 'RUNNING');
CREATE UNIQUE INDEX IF NOT EXISTS idx_frame_claim_key_unique
    ON {schema}.frame (stage_id, (cursor ->> 'worker_slot_id'), (cursor ->> 'frame_index'))
    WHERE cursor ? 'worker_slot_id' AND cursor ? 'frame_index';
CREATE INDEX IF NOT EXISTS idx_frame_claimed_event
    ON {schema}.frame (claimed_event_id)
    WHERE claimed_event_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_frame_command ON {schema}.frame (command_id) WHERE command_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_frame_execution_status ON {schema}.frame (execution_id, status, frame_id);
CREATE INDEX IF NOT EXISTS idx_frame_idempotent_claim
    ON {schema}.frame (
        stage_id, command_id, owner_worker, (cursor ->> 'worker_slot_id'), (cursor ->> 'frame_index'), frame_id
    )
    WHERE status IN ('CLAIMED', 'RUNNING');
CREATE INDEX IF NOT EXISTS idx_frame_parent_frame ON {schema}.frame (parent_frame_id) WHERE parent_frame_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_frame_stage_cursor_slot_index
    ON {schema}.frame (stage_id, (cursor ->> 'worker_slot_id'), (cursor ->> 'frame_index'), frame_id);
CREATE INDEX IF NOT EXISTS idx_frame_stage_frame ON {schema}.frame (stage_id, frame_id);
CREATE INDEX IF NOT EXISTS idx_frame_tenant_org_execution
    ON {schema}.frame (tenant_id, organization_id, execution_id, frame_id);
CREATE INDEX IF NOT EXISTS idx_frame_terminal_event
    ON {schema}.frame (terminal_event_id)
    WHERE terminal_event_id IS NOT NULL;

-- Sealed credentials.

CREATE TABLE IF NOT EXISTS {schema}.credential (
    id             bigint NOT NULL DEFAULT {schema}.snowflake_id(),
    name           text NOT NULL,
    type           text NOT NULL,
    data_encrypted text NOT NULL,
    schema         jsonb,
    meta           jsonb,
    tags           text[],
    description    text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT credential_pkey PRIMARY KEY (id),
    CONSTRAINT credential_name_key UNIQUE (name)
);

CREATE INDEX IF NOT EXISTS idx_credential_type ON {schema}.credential (type);

-- Sealed values resolved for executions, with expiry.

CREATE TABLE IF NOT EXISTS {schema}.keychain (
    cache_key           text NOT NULL,
    keychain_name       text NOT NULL,
    catalog_id          bigint NOT NULL,
    credential_type     text NOT NULL,
    cache_type          text NOT NULL,
    scope_type          text NOT NULL,
    execution_id        bigint,
    parent_execution_id bigint,
    data_encrypted      text NOT NULL,
    schema              jsonb,
    expires_at          timestamptz NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    accessed_at         timestamptz NOT NULL DEFAULT now(),
    access_count        integer DEFAULT 0,
    auto_renew          boolean DEFAULT false,
    renew_config        jsonb,
    CONSTRAINT keychain_pkey PRIMARY KEY (cache_key),
    CONSTRAINT keychain_catalog_id_fkey FOREIGN KEY (catalog_id) REFERENCES {schema}.catalog (catalog_id),
    CONSTRAINT keychain_cache_type_check CHECK (cache_type IN ('secret', 'token')),
    CONSTRAINT keychain_scope_type_check CHECK (scope_type IN ('local', 'global', 'shared'))
);

CREATE INDEX IF NOT EXISTS idx_keychain_catalog ON {schema}.keychain (catalog_id);
CREATE INDEX IF NOT EXISTS idx_keychain_execution ON {schema}.keychain (execution_id) WHERE execution_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_keychain_expires ON {schema}.keychain (expires_at);
CREATE INDEX IF NOT EXISTS idx_keychain_name ON {schema}.keychain (keychain_name);
CREATE INDEX IF NOT EXISTS idx_keychain_name_catalog ON {schema}.keychain (keychain_name, catalog_id);
CREATE INDEX IF NOT EXISTS idx_keychain_parent_execution
    ON {schema}.keychain (parent_execution_id)
    WHERE parent_execution_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_keychain_type ON {schema}.keychain (cache_type, scope_type);

-- Worker pools and servers that report themselves.

CREATE TABLE IF NOT EXISTS {schema}.runtime (
    runtime_id   bigint NOT NULL,
    name         text NOT NULL,
    kind         text NOT NULL,
    uri          text,
    status       text NOT NULL,
    labels       jsonb,
    capabilities jsonb,
    capacity     integer,
    runtime      jsonb,
    heartbeat    timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT runtime_pkey PRIMARY KEY (runtime_id),
    CONSTRAINT runtime_kind_check CHECK (kind IN ('worker_pool', 'server_api', 'broker'))
);

CREATE INDEX IF NOT EXISTS idx_runtime_kind ON {schema}.runtime (kind);
CREATE UNIQUE INDEX IF NOT EXISTS idx_runtime_kind_name ON {schema}.runtime (kind, name);
CREATE INDEX IF NOT EXISTS idx_runtime_status ON {schema}.runtime (status);

-- Variables of executions.

CREATE TABLE IF NOT EXISTS {schema}.transient (
    execution_id bigint NOT NULL,
    var_name     text NOT NULL,
    var_type     text NOT NULL,
    var_value    jsonb NOT NULL,
    source_step  text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    accessed_at  timestamptz NOT NULL DEFAULT now(),
    access_count integer NOT NULL DEFAULT 0,
    expires_at   timestamptz,
    scope        text DEFAULT 'execution',
    CONSTRAINT transient_pkey PRIMARY KEY (execution_id, var_name),
    CONSTRAINT transient_scope_check CHECK (scope IN ('step', 'execution', 'workflow', 'permanent')),
    CONSTRAINT transient_var_type_check
        CHECK (var_type IN ('user_defined', 'step_result', 'computed', 'iterator_state'))
);

ALTER TABLE {schema}.transient
    ADD COLUMN IF NOT EXISTS expires_at timestamptz,
    ADD COLUMN IF NOT EXISTS scope text DEFAULT 'execution';

CREATE INDEX IF NOT EXISTS idx_transient_execution ON {schema}.transient (execution_id);
CREATE INDEX IF NOT EXISTS idx_transient_expires ON {schema}.transient (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_transient_source ON {schema}.transient (source_step);
CREATE INDEX IF NOT EXISTS idx_transient_type ON {schema}.transient (var_type);

-- Events that a worker pool publishes by itself; this server does not write it.

CREATE TABLE IF NOT EXISTS {schema}.outbox (
    outbox_id     bigserial NOT NULL,
    execution_id  bigint,
    event_id      bigint NOT NULL,
    subject       text,
    payload       jsonb NOT NULL,
    payload_bytes bytea,
    payload_codec text NOT NULL DEFAULT 'arrow-feather',
    status        text NOT NULL DEFAULT 'PENDING',
    attempts      integer NOT NULL DEFAULT 0,
    available_at  timestamptz NOT NULL DEFAULT now(),
    locked_at     timestamptz,
    published_at  timestamptz,
    last_error    text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT outbox_pkey PRIMARY KEY (outbox_id),
    CONSTRAINT outbox_execution_id_event_id_key UNIQUE (execution_id, event_id),
    CONSTRAINT outbox_status_check CHECK (status IN ('PENDING', 'IN_FLIGHT', 'PUBLISHED', 'FAILED'))
);

CREATE INDEX IF NOT EXISTS idx_outbox_execution_event ON {schema}.outbox (execution_id, event_id);
CREATE INDEX IF NOT EXISTS idx_outbox_ready
    ON {schema}.outbox (status, available_at, outbox_id)
    WHERE status IN ('PENDING', 'FAILED');

-- Results too large for an event.

CREATE TABLE IF NOT EXISTS {schema}.result_store (
    result_id    bigint NOT NULL,
    execution_id bigint NOT NULL,
    name         text NOT NULL,
    scope        text NOT NULL,
    source_step  text,
    data         jsonb NOT NULL,
    bytes        bigint NOT NULL,
    sha256       text NOT NULL,
    media_type   text NOT NULL DEFAULT 'application/json',
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    CONSTRAINT result_store_pkey PRIMARY KEY (result_id)
);

CREATE INDEX IF NOT EXISTS result_store_created_at ON {schema}.result_store (created_at);
CREATE INDEX IF NOT EXISTS result_store_eid_name ON {schema}.result_store (execution_id, name);

-- Who read which secret.

CREATE TABLE IF NOT EXISTS {schema}.secret_audit (
    audit_id            bigint NOT NULL,
    occurred_at         timestamptz NOT NULL DEFAULT now(),
    credential          text NOT NULL,
    operation           text NOT NULL,
    outcome             text NOT NULL,
    worker_id           text,
    execution_id        bigint,
    parent_execution_id bigint,
    server_region       text,
    broker_region       text,
    kek_version         text,
    notes               text,
    CONSTRAINT secret_audit_pkey PRIMARY KEY (audit_id)
);

CREATE INDEX IF NOT EXISTS secret_audit_credential_time ON {schema}.secret_audit (credential, occurred_at DESC);
CREATE INDEX IF NOT EXISTS secret_audit_execution
    ON {schema}.secret_audit (execution_id)
    WHERE execution_id IS NOT NULL;

-- Named projections of the log and how far they have read.

CREATE TABLE IF NOT EXISTS {schema}.projection (
    projection_id   text NOT NULL,
    projection_type text NOT NULL,
    tenant_id       text NOT NULL DEFAULT 'default',
    organization_id text NOT NULL DEFAULT 'default',
    execution_id    bigint,
    version         bigint NOT NULL,
    source_event_id bigint,
    state           jsonb NOT NULL,
    checksum        text NOT NULL,
    meta            jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT projection_pkey PRIMARY KEY (projection_id)
);

CREATE INDEX IF NOT EXISTS idx_projection_execution
    ON {schema}.projection (execution_id, projection_type)
    WHERE execution_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_projection_tenant_type
    ON {schema}.projection (tenant_id, organization_id, projection_type);

-- Snapshots of aggregates.

CREATE TABLE IF NOT EXISTS {schema}.projection_snapshot (
    aggregate_id    text NOT NULL,
    aggregate_type  text NOT NULL,
    tenant_id       text NOT NULL DEFAULT 'default',
    organization_id text NOT NULL DEFAULT 'default',
    version         bigint NOT NULL,
    snapshot        jsonb NOT NULL,
    checksum        text NOT NULL,
    meta            jsonb NOT NULL DEFAULT '{}'::jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT projection_snapshot_pkey PRIMARY KEY (tenant_id, organization_id, aggregate_type, aggregate_id)
);

CREATE INDEX IF NOT EXISTS idx_projection_snapshot_type
    ON {schema}.projection_snapshot (tenant_id, organization_id, aggregate_type, version DESC);

-- Index of results in other stores.

CREATE TABLE IF NOT EXISTS {schema}.result_ref (
    ref_id                    bigint NOT NULL DEFAULT {schema}.snowflake_id(),
    ref                       text NOT NULL,
    execution_id              bigint NOT NULL,
    parent_execution_id       bigint,
    name                      text NOT NULL,
    scope                     text NOT NULL,
    source_step               text,
    store_tier                text NOT NULL,
    physical_uri              text,
    content_type              text DEFAULT 'application/json',
    bytes_size                bigint DEFAULT 0,
    sha256                    text,
    compression               text DEFAULT 'none',
    created_at                timestamptz NOT NULL DEFAULT now(),
    expires_at                timestamptz,
    accessed_at               timestamptz DEFAULT now(),
    access_count              integer DEFAULT 0,
    preview                   jsonb,
    extracted                 jsonb,
    correlation               jsonb,
    meta                      jsonb,
    is_accumulated            boolean DEFAULT false,
    accumulation_index        integer,
    accumulation_manifest_ref text,
    CONSTRAINT result_ref_pkey PRIMARY KEY (ref_id),
    CONSTRAINT result_ref_ref_key UNIQUE (ref),
    CONSTRAINT result_ref_compression_check CHECK (compression IN ('none', 'gzip', 'lz4')),
    CONSTRAINT result_ref_scope_check CHECK (scope IN ('step', 'execution', 'workflow', 'permanent')),
    CONSTRAINT result_ref_store_tier_check
        CHECK (store_tier IN ('memory', 'kv', 'disk', 'object', 's3', 'gcs', 'db', 'duckdb', 'eventlog'))
);

CREATE INDEX IF NOT EXISTS idx_result_ref_execution ON {schema}.result_ref (execution_id);
CREATE INDEX IF NOT EXISTS idx_result_ref_expires ON {schema}.result_ref (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_result_ref_name_exec ON {schema}.result_ref (execution_id, name);
CREATE INDEX IF NOT EXISTS idx_result_ref_parent
    ON {schema}.result_ref (parent_execution_id)
    WHERE parent_execution_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_result_ref_scope ON {schema}.result_ref (scope);
CREATE INDEX IF NOT EXISTS idx_result_ref_step
    ON {schema}.result_ref (execution_id, source_step)
    WHERE source_step IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_result_ref_store_tier ON {schema}.result_ref (store_tier);

-- Results in parts.

CREATE TABLE IF NOT EXISTS {schema}.manifest (
    manifest_id  bigint NOT NULL DEFAULT {schema}.snowflake_id(),
    ref          text NOT NULL,
    execution_id bigint NOT NULL,
    strategy     text NOT NULL,
    merge_path   text,
    total_parts  integer DEFAULT 0,
    total_bytes  bigint DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    source_step  text,
    correlation  jsonb,
    meta         jsonb,
    CONSTRAINT manifest_pkey PRIMARY KEY (manifest_id),
    CONSTRAINT manifest_ref_key UNIQUE (ref),
    CONSTRAINT manifest_strategy_check CHECK (strategy IN ('append', 'replace', 'merge', 'concat'))
);

CREATE INDEX IF NOT EXISTS idx_manifest_completed ON {schema}.manifest (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_manifest_execution ON {schema}.manifest (execution_id);
CREATE INDEX IF NOT EXISTS idx_manifest_step ON {schema}.manifest (source_step) WHERE source_step IS NOT NULL;

-- Parts of manifests.

CREATE TABLE IF NOT EXISTS {schema}.manifest_part (
    manifest_id bigint NOT NULL,
    part_index  integer NOT NULL,
    part_ref    text NOT NULL,
    bytes_size  bigint DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    meta        jsonb,
    CONSTRAINT manifest_part_pkey PRIMARY KEY (manifest_id, part_index),
    CONSTRAINT manifest_part_manifest_id_fkey FOREIGN KEY (manifest_id)
        REFERENCES {schema}.manifest (manifest_id) ON DELETE CASCADE
);

CREATE INDEX IF NOT EXISTS idx_manifest_part_ref ON {schema}.manifest_part (part_ref);

-- Planned starts of playbooks.

CREATE TABLE IF NOT EXISTS {schema}.schedule (
    schedule_id      bigserial NOT NULL,
    playbook_path    text NOT NULL,
    playbook_version text,
    cron             text,
    interval_seconds integer,
    enabled          boolean NOT NULL DEFAULT true,
    timezone         text DEFAULT 'UTC',
    next_run_at      timestamptz,
    last_run_at      timestamptz,
    last_status      text,
    input_payload    jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    meta             jsonb,
    CONSTRAINT schedule_pkey PRIMARY KEY (schedule_id)
);

ALTER TABLE {schema}.schedule ALTER COLUMN schedule_id SET DEFAULT {schema}.snowflake_id();

CREATE INDEX IF NOT EXISTS idx_schedule_next_run ON {schema}.schedule (next_run_at) WHERE enabled = true;
CREATE INDEX IF NOT EXISTS idx_schedule_playbook ON {schema}.schedule (playbook_path);

-- Aliases of older names. An existing view stays: other revisions have other columns in it.

DO $$
BEGIN
    IF to_regclass('{schema}.event_log') IS NULL THEN
        CREATE VIEW {schema}.event_log AS SELECT * FROM {schema}.event;
    END IF;
    IF to_regclass('{schema}.temp_ref') IS NULL THEN
        CREATE VIEW {schema}.temp_ref AS SELECT * FROM {schema}.result_ref;
    END IF;
END
$$;

-- Housekeeping of result_ref, for operators.

DO $$
BEGIN
    IF to_regprocedure('{schema}.cleanup_expired_result_refs()') IS NULL THEN
        CREATE FUNCTION {schema}.cleanup_expired_result_refs() RETURNS integer LANGUAGE sql AS $function$
            WITH gone AS (
                DELETE FROM {schema}.result_ref WHERE expires_at < now() AND scope <> 'permanent' RETURNING ref_id
            )
            SELECT count(*)::integer FROM gone
        $function$;
    END IF;
    IF to_regprocedure('{schema}.cleanup_execution_result_refs(bigint)') IS NULL THEN
        CREATE FUNCTION {schema}.cleanup_execution_result_refs(p_execution_id bigint) RETURNS integer
        LANGUAGE sql AS $function$
            WITH manifests AS (
                DELETE FROM {schema}.manifest WHERE execution_id = p_execution_id
            ), gone AS (
                DELETE FROM {schema}.result_ref
                WHERE execution_id = p_execution_id AND scope IN ('step', 'execution')
                RETURNING ref_id
            )
            SELECT count(*)::integer FROM gone
        $function$;
    END IF;
END
$$;
