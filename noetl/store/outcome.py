"""How the outcome of an execution follows from its log: the one derivation behind every route (00-decisions, 4).

Only a terminal event ends an execution: the newest completion or failure decides, else a cancellation (spec 10, section
6.4, rules a and b; incident I7 of spec 70). A failed step or command alone does not: its arcs may still handle it.
"""

from __future__ import annotations

from typing import Final

from noetl.engine import events


def _list(types: frozenset[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(types))


START_TYPES: Final = _list(events.START)
TERMINAL_TYPES: Final = _list(events.TERMINAL)
CANCELLED_TYPES: Final = _list(events.PLAYBOOK_CANCELLED)
LIFECYCLE_TYPES: Final = _list(events.START | events.TERMINAL)
"""Lists of SQL literals: partial indexes are only used for constants, not for parameters."""

STATUS_OF_END: Final = f"""CASE
                WHEN event_type IN ({_list(events.PLAYBOOK_COMPLETED)}) THEN 'COMPLETED'
                WHEN event_type IN ({_list(events.PLAYBOOK_FAILED)}) THEN 'FAILED'
                ELSE 'CANCELLED'
            END"""
"""SQL of the status that a terminal event gives."""
DECIDING_END_FIRST: Final = f"event_type IN ({CANCELLED_TYPES}), created_at DESC, event_id DESC"
"""SQL of the order of terminal events in which the first one decides."""

STATUSES: Final = ("RUNNING", "COMPLETED", "FAILED", "CANCELLED")


def started_event(event_table: str, execution_id: str) -> str:
    """SQL of the event that started an execution: the lowest id (spec 10, section 6.2)."""
    return f"""
        SELECT event_id, event_type, catalog_id, parent_execution_id, created_at, node_name,
            context -> 'workload' AS workload
        FROM {event_table} WHERE execution_id = {execution_id} AND event_type IN ({START_TYPES})
        ORDER BY event_id LIMIT 1"""


def terminal_event(event_table: str, execution_id: str) -> str:
    """SQL of the event that decides how an execution ended, with ``status`` and the text of its ``error``."""
    return f"""
        SELECT event_id, event_type, created_at, node_name, {error_text("")} AS error, {STATUS_OF_END} AS status
        FROM {event_table} WHERE execution_id = {execution_id} AND event_type IN ({TERMINAL_TYPES})
        ORDER BY {DECIDING_END_FIRST} LIMIT 1"""


def error_text(alias: str) -> str:
    """SQL of the error that an event tells of, or NULL; ``alias`` is empty or ends with a dot."""
    return (
        f"coalesce({alias}error, {alias}meta ->> 'error', {alias}result -> 'context' ->> 'error',"
        f" {alias}result ->> 'error')"
    )
