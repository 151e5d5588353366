"""What must hold after any fault, asked of the database alone (design.md, promises P1-P3)."""

from __future__ import annotations

from typing import Any

import asyncpg

TERMINAL = (
    "('playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',"
    " 'playbook.cancelled', 'playbook_cancelled')"
)

RULES: dict[str, str] = {
    "an execution without exactly one terminal event": f"""
        SELECT execution_id, count(*) FILTER (WHERE event_type IN {TERMINAL}) FROM noetl.event
        GROUP BY execution_id HAVING count(*) FILTER (WHERE event_type IN {TERMINAL}) <> 1""",
    "a decision after the terminal event": f"""
        SELECT later.execution_id, later.event_type FROM noetl.event AS later
        JOIN noetl.event AS ended ON ended.execution_id = later.execution_id AND ended.event_type IN {TERMINAL}
        WHERE later.log_position > ended.log_position
            AND later.event_type IN ('command.issued', 'step.enter', 'step.skipped', 'playbook_started')""",
    "a step or iteration that was issued twice": """
        SELECT execution_id, node_name, meta ->> 'iteration_index' FROM noetl.event
        WHERE event_type = 'command.issued'
        GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "a command that was completed twice by its own events": """
        SELECT execution_id, result -> 'context' ->> 'command_id' FROM noetl.event
        WHERE event_type = 'command.completed'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "a command that is still open": """
        SELECT execution_id, step_name, status FROM noetl.command
        WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')""",
    "a command without its event, or an event without its command": """
        SELECT coalesce(event.execution_id, command.execution_id) FROM
            (SELECT execution_id, event_id FROM noetl.event WHERE event_type = 'command.issued') AS event
            FULL JOIN noetl.command USING (execution_id, event_id)
        WHERE event.event_id IS NULL OR command.command_id IS NULL""",
    "an execution whose row disagrees with its log": f"""
        SELECT execution.execution_id, execution.status, ended.status FROM noetl.execution
        JOIN noetl.event AS ended ON ended.execution_id = execution.execution_id AND ended.event_type IN {TERMINAL}
        WHERE execution.status <> ended.status""",
}


async def violations(database_url: str) -> dict[str, list[Any]]:
    """The rules that do not hold, with up to ten rows that show it."""
    connection: Any = await asyncpg.connect(database_url)
    try:
        found: dict[str, list[Any]] = {}
        for rule, query in RULES.items():
            rows = await connection.fetch(f"SELECT * FROM ({query}) AS broken LIMIT 10")
            if rows:
                found[rule] = [tuple(row) for row in rows]
        return found
    finally:
        await connection.close()


async def unfinished(database_url: str) -> int:
    """Executions that have not ended."""
    connection: Any = await asyncpg.connect(database_url)
    try:
        return await connection.fetchval("SELECT count(*) FROM noetl.execution WHERE end_time IS NULL")
    finally:
        await connection.close()
