-- What this server adds to the canonical schema. Other servers and tools on the same database do not see it: columns
-- have defaults, indexes only help.
--
-- On a log of many million rows the indexes take minutes, and writers wait for them: run `noetl-server db upgrade`
-- when a pause does no harm, before the first start.

-- Order of commit within an execution. Event ids cannot give it: clients and several machines make them. The column is
-- added without a default and gets one afterwards, so no row is rewritten; rows from before keep NULL and come first.

CREATE SEQUENCE IF NOT EXISTS {schema}.event_log_position_seq;
ALTER TABLE {schema}.event ADD COLUMN IF NOT EXISTS log_position bigint;
ALTER TABLE {schema}.event ALTER COLUMN log_position SET DEFAULT nextval('{schema}.event_log_position_seq');
ALTER SEQUENCE {schema}.event_log_position_seq OWNED BY {schema}.event.log_position;

CREATE INDEX IF NOT EXISTS idx_event_execution_log_position ON {schema}.event (execution_id, log_position);

-- A command is addressed by the id of its event alone; without this every lookup walks all partitions.

CREATE INDEX IF NOT EXISTS idx_event_command_issued_event_id
    ON {schema}.event (event_id)
    WHERE event_type = 'command.issued';

-- A command's row follows its events and is found by the event that issued it.

CREATE INDEX IF NOT EXISTS idx_command_execution_event ON {schema}.command (execution_id, event_id);

-- The sweeps look for commands that wait, or are held, for too long.

CREATE INDEX IF NOT EXISTS idx_command_waiting ON {schema}.command (updated_at) WHERE status = 'PENDING';
CREATE INDEX IF NOT EXISTS idx_command_held
    ON {schema}.command (claimed_at)
    WHERE status IN ('CLAIMED', 'RUNNING');

-- The catalog is listed newest first.

CREATE INDEX IF NOT EXISTS idx_catalog_created_at ON {schema}.catalog (created_at DESC, catalog_id DESC);
