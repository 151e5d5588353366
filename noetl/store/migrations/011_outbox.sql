-- Rows of a publisher that died are found without reading those that were published.

CREATE INDEX IF NOT EXISTS idx_outbox_in_flight ON {schema}.outbox (locked_at) WHERE status = 'IN_FLIGHT';
