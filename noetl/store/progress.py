"""The progress of one execution from its log, at a cost that grows with its steps and not with its events."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from noetl.store.outcome import (
    CANCELLED_TYPES,
    DECIDING_END_FIRST,
    LIFECYCLE_TYPES,
    START_TYPES,
    STATUS_OF_END,
    TERMINAL_TYPES,
    error_text,
)

NEWEST_EVENTS: Final = 50
"""Among so many events of the highest ids the newest one by time is looked for: clocks differ, but not that much."""
STEP_TYPES: Final = "'step.enter', 'step.exit', 'command.claimed', 'command.started', 'command.completed'"
FAILURE: Final = "(error IS NOT NULL OR status IN ('FAILED', 'failed', 'ERROR', 'error'))"
"""The condition of ``idx_event_execution_failures``."""


class ExecutionProgress(msgspec.Struct, gc=False):
    """Counters over the log (spec 10, section 6.3); ``started_at`` is None for a log without start event."""

    execution_id: int
    status: str
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    is_cancelled: bool
    current_step: str | None
    completed_steps: list[str]
    total_steps: int
    running_steps: int
    failed_steps: int


def progress_sql(event: str) -> str:
    """SQL of the progress of execution ``$1``: one row, none when it has no event.

    ``ran`` walks the index of step events from one status and step to the next, whatever lies between.
    """

    def first_of(condition: str) -> str:
        return f"""
            SELECT coalesce(status, '') AS status, node_name, event_id, created_at FROM {event}
            WHERE execution_id = $1 AND event_type = kind.event_type AND event_type IN ({STEP_TYPES}) AND {condition}
            ORDER BY coalesce(status, ''), node_name, event_id LIMIT 1"""

    def newest(event_type: str) -> str:
        return f"""(
            SELECT node_name, created_at, event_id FROM {event}
            WHERE execution_id = $1 AND event_type = '{event_type}' AND node_name IS NOT NULL
            ORDER BY event_id DESC LIMIT {NEWEST_EVENTS})"""

    return f"""
        WITH RECURSIVE ran (event_type, status, node_name, event_id, created_at) AS (
            SELECT kind.event_type, step.*
            FROM (VALUES ('step.enter'), ('step.exit'), ('command.claimed'), ('command.started'),
                ('command.completed')) AS kind (event_type)
            CROSS JOIN LATERAL ({first_of("node_name IS NOT NULL")}) AS step
            UNION ALL
            SELECT kind.event_type, step.*
            FROM ran AS kind
            CROSS JOIN LATERAL ({first_of("(coalesce(status, ''), node_name) > (kind.status, kind.node_name)")}) AS step
        ),
        life AS MATERIALIZED (
            SELECT event_id, event_type, created_at FROM {event}
            WHERE execution_id = $1 AND event_type IN ({LIFECYCLE_TYPES})
        ),
        ended AS (
            SELECT event_id, created_at, {STATUS_OF_END} AS status
            FROM life WHERE event_type IN ({TERMINAL_TYPES}) ORDER BY {DECIDING_END_FIRST} LIMIT 1
        )
        SELECT $1::bigint AS execution_id, coalesce((SELECT status FROM ended), 'RUNNING') AS status,
            (SELECT created_at FROM life WHERE event_type IN ({START_TYPES}) ORDER BY event_id LIMIT 1) AS started_at,
            (SELECT created_at FROM ended) AS ended_at,
            coalesce(
                (SELECT {error_text("")} FROM {event}
                    WHERE execution_id = $1 AND event_id = (SELECT event_id FROM ended)),
                (SELECT {error_text("")} FROM {event}
                    WHERE execution_id = $1 AND {FAILURE} AND {error_text("")} IS NOT NULL
                    ORDER BY event_id DESC LIMIT 1)) AS error,
            EXISTS (SELECT FROM life WHERE event_type IN ({CANCELLED_TYPES})) AS is_cancelled,
            (SELECT node_name FROM ({newest("step.enter")} UNION ALL {newest("command.started")}) AS entered
                ORDER BY created_at DESC, event_id DESC LIMIT 1) AS current_step,
            ARRAY(
                SELECT node_name FROM ran
                WHERE event_type IN ('step.exit', 'command.completed')
                    AND status IN ('COMPLETED', 'completed', 'success')
                GROUP BY node_name ORDER BY min(created_at), min(event_id)
            ) AS completed_steps,
            (SELECT count(DISTINCT node_name) FROM ran WHERE event_type = 'step.enter') AS total_steps,
            (SELECT count(DISTINCT node_name) FROM ran
                WHERE event_type IN ('command.claimed', 'command.started') AND status IN ('RUNNING', 'STARTED')
            ) AS running_steps,
            (SELECT count(DISTINCT node_name) FROM {event}
                WHERE execution_id = $1 AND {FAILURE} AND status = 'FAILED') AS failed_steps
        WHERE EXISTS (SELECT FROM {event} WHERE execution_id = $1)"""
