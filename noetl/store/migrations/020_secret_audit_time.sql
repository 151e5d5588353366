-- Reading the audit by time, and deleting what is older than its retention.

CREATE INDEX IF NOT EXISTS secret_audit_time ON {schema}.secret_audit (occurred_at DESC);
