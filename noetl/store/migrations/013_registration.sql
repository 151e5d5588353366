-- When a worker began its present life: what it claimed in an earlier one nobody works on.

ALTER TABLE {schema}.runtime ADD COLUMN IF NOT EXISTS registered_at timestamptz;
