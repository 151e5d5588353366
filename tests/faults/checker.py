"""What must hold after any fault, asked of the database alone (design.md, promises P1-P3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

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
    "a step that was entered twice": """
        SELECT execution_id, node_name FROM noetl.event WHERE event_type = 'step.enter'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "a command that was completed twice by one worker": """
        SELECT execution_id, result -> 'context' ->> 'command_id', worker_id FROM (
            SELECT execution_id, result, meta ->> 'worker_id' AS worker_id FROM noetl.event
            WHERE event_type = 'command.completed') AS completion
        GROUP BY 1, 2, 3 HAVING count(*) > 1""",
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
    "two executions under one idempotency key": """
        SELECT idempotency_key FROM noetl.execute_idempotency GROUP BY 1 HAVING count(DISTINCT execution_id) > 1""",
    "two events at one place of a log": """
        SELECT execution_id, log_position FROM noetl.event WHERE log_position IS NOT NULL
        GROUP BY 1, 2 HAVING count(*) > 1""",
}

_COMPLETED_TWICE = """
    SELECT execution_id, result -> 'context' ->> 'command_id' FROM noetl.event
    WHERE event_type = 'command.completed'
    GROUP BY 1, 2 HAVING count(*) > 1"""
"""Only where no worker comes late: one that was replaced still reports, and so does its successor."""

_SILENT_END = f"""
    SELECT event.execution_id, event.event_type FROM noetl.event
    JOIN (SELECT execution_id, max(log_position) AS place FROM noetl.event GROUP BY 1) AS newest
        ON newest.execution_id = event.execution_id AND newest.place = event.log_position
    WHERE event.event_type NOT IN {TERMINAL}"""
"""Only where no worker comes late: what it says is still written down after the end."""


async def query(database_url: str, text: str, *arguments: Any) -> list[Any]:
    """Look at the database past every server."""
    connection: Any = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(text, *arguments)]
    finally:
        await connection.close()


async def violations(database_url: str, *, nobody_is_late: bool = True) -> dict[str, list[Any]]:
    """The rules that do not hold, with up to ten rows that show it."""
    rules = dict(RULES)
    if nobody_is_late:
        rules["a command that was completed twice by its own events"] = _COMPLETED_TWICE
        rules["an execution whose last event is not its end"] = _SILENT_END
    found: dict[str, list[Any]] = {}
    for rule, text in rules.items():
        rows = await query(database_url, f"SELECT * FROM ({text}) AS broken LIMIT 10")
        if rows:
            found[rule] = rows
    return found


async def not_stored_once(database_url: str, acknowledged: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """The acknowledged events (execution id, event id) that are not in the log, or more than once (promise P1)."""
    pairs = sorted(acknowledged)
    return await query(
        database_url,
        "SELECT told.execution_id, told.event_id"
        " FROM unnest($1::bigint[], $2::bigint[]) AS told(execution_id, event_id)"
        " LEFT JOIN noetl.event USING (execution_id, event_id) GROUP BY 1, 2 HAVING count(event_type) <> 1",
        [execution_id for execution_id, _ in pairs],
        [event_id for _, event_id in pairs],
    )


async def differing_plans(
    database_url: str, expected: Mapping[int, Mapping[str, int]]
) -> dict[int, tuple[Mapping[str, int], Mapping[str, int]]]:
    """Executions whose steps were not given the commands of the model: expected and issued ones, per step."""
    issued: dict[int, dict[str, int]] = {execution_id: {} for execution_id in expected}
    for execution_id, step, count in await query(
        database_url,
        "SELECT execution_id, node_name, count(*) FROM noetl.event"
        " WHERE event_type = 'command.issued' AND execution_id = ANY ($1::bigint[]) GROUP BY 1, 2",
        list(expected),
    ):
        issued[execution_id][step] = count
    return {
        execution_id: (plan, issued[execution_id])
        for execution_id, plan in expected.items()
        if issued[execution_id] != dict(plan)
    }


async def unfinished(database_url: str) -> int:
    """Executions that have not ended."""
    return (await query(database_url, "SELECT count(*) FROM noetl.execution WHERE end_time IS NULL"))[0][0]
