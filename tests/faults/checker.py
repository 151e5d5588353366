"""What must hold after any fault (design.md, promises P1-P3), asked only of the database and of what clients were told.

Rules are queries for what breaks them, over the tables ``event``, ``command`` and ``execution``; a check looks at some
executions or at all.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping

    from tests.faults.history import History
    from tests.faults.workflows import Workflow

TERMINAL = (
    "('playbook.completed', 'playbook_completed', 'playbook.failed', 'playbook_failed',"
    " 'playbook.cancelled', 'playbook_cancelled')"
)
RECOVERY_SECONDS = 30
LEASE_SECONDS = 5
"""Shortest time that a worker keeps a command which it was given (`tests.faults.site.QUICK`)."""
REAL_WORKER = "real-worker"
"""Names of the unmodified worker begin so. It may run a command twice at a time: a claim that it repeats, because it
heard of the command twice, is answered as before and is no event (spec 20, section 5.2)."""

RULES: dict[str, str] = {
    "an execution without exactly one terminal event": f"""
        SELECT execution_id, count(*) FILTER (WHERE event_type IN {TERMINAL}) FROM event
        GROUP BY execution_id HAVING count(*) FILTER (WHERE event_type IN {TERMINAL}) <> 1""",
    "a decision after the terminal event": f"""
        SELECT later.execution_id, later.event_type FROM event AS later
        JOIN event AS ended ON ended.execution_id = later.execution_id AND ended.event_type IN {TERMINAL}
        WHERE later.log_position > ended.log_position
            AND later.event_type IN ('command.issued', 'step.enter', 'step.skipped', 'playbook_started')""",
    "a step or iteration that was issued twice": """
        SELECT execution_id, node_name, meta ->> 'iteration_index' FROM event
        WHERE event_type = 'command.issued'
        GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "a step that was entered twice": """
        SELECT execution_id, node_name FROM event WHERE event_type = 'step.enter'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "a command that a worker completed more often than it was given it": f"""
        SELECT execution_id, command_id, worker_id FROM (
            SELECT execution_id, event_type, coalesce(worker_id, meta ->> 'worker_id') AS worker_id,
                coalesce(result -> 'context' ->> 'command_id', meta ->> 'command_id') AS command_id
            FROM event WHERE event_type IN ('command.claimed', 'command.completed')) AS told
        WHERE worker_id NOT LIKE '{REAL_WORKER}%'
        GROUP BY 1, 2, 3
        HAVING count(*) FILTER (WHERE event_type = 'command.completed')
            > greatest(1, count(*) FILTER (WHERE event_type = 'command.claimed'))""",
    "a command that was given away while its owner had it": f"""
        SELECT execution_id, command_id, worker_id FROM (
            SELECT execution_id, event_type, ingest_time, worker_id, meta ->> 'command_id' AS command_id,
                lag(event_type) OVER owners AS event_before, lag(ingest_time) OVER owners AS time_before,
                lag(worker_id) OVER owners AS worker_before
            FROM event WHERE event_type IN ('command.claimed', 'command.requeued')
            WINDOW owners AS (PARTITION BY execution_id, meta ->> 'command_id' ORDER BY log_position)) AS owner
        WHERE event_type = 'command.claimed' AND event_before = 'command.claimed' AND worker_before <> worker_id
            AND ingest_time < time_before + interval '{LEASE_SECONDS} seconds'""",
    "a command that is still open": """
        SELECT execution_id, step_name, status FROM command
        WHERE status NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')""",
    "a command without its event, or an event without its command": """
        SELECT coalesce(event.execution_id, command.execution_id) FROM
            (SELECT execution_id, event_id FROM event WHERE event_type = 'command.issued') AS event
            FULL JOIN command USING (execution_id, event_id)
        WHERE event.event_id IS NULL OR command.command_id IS NULL""",
    "an execution whose row disagrees with its log": f"""
        SELECT execution.execution_id, execution.status, ended.status FROM execution
        JOIN event AS ended ON ended.execution_id = execution.execution_id AND ended.event_type IN {TERMINAL}
        WHERE execution.status <> ended.status""",
    "a parent that went on before its child had ended": f"""
        SELECT child.execution_id, child.parent_execution_id FROM execution AS child
        JOIN event AS ended ON ended.execution_id = child.execution_id AND ended.event_type IN {TERMINAL}
        JOIN event AS entered ON entered.execution_id = child.parent_execution_id
            AND entered.event_type = 'step.enter' AND entered.node_name = 'end'
        WHERE entered.log_position < ended.log_position""",
    "two executions under one idempotency key": """
        SELECT idempotency_key FROM noetl.execute_idempotency GROUP BY 1 HAVING count(DISTINCT execution_id) > 1""",
    "two events at one place of a log": """
        SELECT execution_id, log_position FROM event WHERE log_position IS NOT NULL
        GROUP BY 1, 2 HAVING count(*) > 1""",
}

PUNCTUAL_RULES: dict[str, str] = {
    "a command that was completed twice by its own events": """
        SELECT execution_id, result -> 'context' ->> 'command_id' FROM event
        WHERE event_type = 'command.completed'
        GROUP BY 1, 2 HAVING count(*) > 1""",
    "an execution whose last event is not its end": f"""
        SELECT event.execution_id, event.event_type FROM event
        JOIN (SELECT execution_id, max(log_position) AS place FROM event GROUP BY 1) AS newest
            ON newest.execution_id = event.execution_id AND newest.place = event.log_position
        WHERE event.event_type NOT IN {TERMINAL}""",
}
"""Only where no worker comes late: one that was replaced still reports, and so does its successor."""

HISTORY_RULES: dict[str, str] = {
    "an acknowledged event that is not stored exactly once": """
        SELECT told.execution_id, told.event_id FROM told_event AS told
        LEFT JOIN event USING (execution_id, event_id) GROUP BY 1, 2 HAVING count(event_type) <> 1""",
    "an acknowledged claim that is not in the log": """
        SELECT told.execution_id, told.event_id, told.worker_id FROM told_claim AS told
        JOIN event AS issued USING (execution_id, event_id)
        WHERE NOT EXISTS (SELECT FROM event AS claimed
            WHERE claimed.execution_id = told.execution_id AND claimed.event_type = 'command.claimed'
                AND claimed.worker_id = told.worker_id
                AND claimed.meta ->> 'command_id' = issued.meta ->> 'command_id')""",
    "an acknowledged start that began no execution, or not only one": """
        SELECT told.key FROM told_start AS told LEFT JOIN execution USING (execution_id)
        GROUP BY 1 HAVING count(DISTINCT told.execution_id) <> 1 OR bool_or(execution.execution_id IS NULL)""",
    "an acknowledged cancel of an execution that did not end by it": """
        SELECT told.execution_id, status FROM told_cancel AS told LEFT JOIN execution USING (execution_id)
        WHERE status IS DISTINCT FROM 'CANCELLED'""",
}

MODEL_RULES: dict[str, str] = {
    "a step that was not given the commands of its workflow": """
        SELECT plan.execution_id, plan.step, plan.commands, count(issued.event_id) FROM plan
        LEFT JOIN event AS issued ON issued.execution_id = plan.execution_id
            AND issued.event_type = 'command.issued' AND issued.node_name = plan.step
        GROUP BY 1, 2, 3 HAVING count(issued.event_id) <> plan.commands""",
    "a step that is not of its workflow": """
        SELECT execution_id, node_name FROM event
        WHERE event_type = 'command.issued' AND execution_id IN (SELECT execution_id FROM plan)
            AND (execution_id, node_name) NOT IN (SELECT execution_id, step FROM plan)""",
    "a step that was given other values": """
        SELECT plan.execution_id, step, command.context -> 'tool_config' -> 'args', plan.arguments FROM plan
        JOIN command ON command.execution_id = plan.execution_id AND command.step_name = plan.step
        WHERE plan.arguments IS NOT NULL
            AND command.context -> 'tool_config' -> 'args' IS DISTINCT FROM plan.arguments""",
    "an execution that ended otherwise": """
        SELECT DISTINCT execution_id, execution.status, plan.outcome FROM plan JOIN execution USING (execution_id)
        WHERE execution.status <> plan.outcome""",
    "a parent that did not start exactly one child": """
        SELECT plan.execution_id, count(DISTINCT child.execution_id) FROM plan
        LEFT JOIN execution AS child ON child.parent_execution_id = plan.execution_id
        GROUP BY 1 HAVING count(DISTINCT child.execution_id) <> bool_or(plan.has_child)::int""",
}


async def connect(database_url: str) -> Any:
    """A connection past every server; a database that recovers is waited for."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            try:
                return await asyncpg.connect(database_url)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)


async def query(database_url: str, text: str, *arguments: Any) -> list[Any]:
    """Look at the database past every server."""
    connection = await connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(text, *arguments)]
    finally:
        await connection.close()


class Check:
    """Rules over the executions of one check; ``broken`` are those that do not hold, with up to ten rows each."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.broken: dict[str, list[Any]] = {}

    async def hold(self, rules: Mapping[str, str]) -> None:
        """Look for what breaks these rules."""
        for rule, text in rules.items():
            rows = [tuple(row) for row in await self._connection.fetch(f"SELECT * FROM ({text}) AS broken LIMIT 10")]
            if rows:
                self.broken[rule] = rows

    async def log(self, *, nobody_is_late: bool = True) -> None:
        """What the log must be in itself."""
        await self.hold({**RULES, **(PUNCTUAL_RULES if nobody_is_late else {})})

    async def history(self, history: History) -> None:
        """What clients were told must be true (promise P1), and nobody who is in the right was refused."""
        tables: dict[str, tuple[str, Collection[tuple[Any, ...]]]] = {
            "told_event": ("execution_id bigint, event_id bigint", history.events),
            "told_claim": ("execution_id bigint, event_id bigint, worker_id text", history.claims),
            "told_start": ("key text, execution_id bigint", history.starts),
            "told_cancel": ("execution_id bigint", [(execution_id,) for execution_id in history.cancels]),
        }
        for name, (columns, rows) in tables.items():
            await self._fill(name, columns, rows)
        await self.hold(HISTORY_RULES)
        if history.refusals:
            self.broken["a client that was refused"] = history.refusals[:10]

    async def models(self, workflows: Mapping[int, Workflow], cancelled: Collection[int] = ()) -> None:
        """Executions must have done what their workflows say; of cancelled ones this cannot be told."""
        await self._fill(
            "plan",
            "execution_id bigint, step text, commands bigint, arguments jsonb, outcome text, has_child boolean",
            [
                (
                    execution_id,
                    step,
                    commands,
                    orjson.dumps(workflow.arguments[step]).decode() if step in workflow.arguments else None,
                    workflow.outcome,
                    workflow.child is not None,
                )
                for execution_id, workflow in workflows.items()
                if execution_id not in cancelled
                for step, commands in workflow.expected.items()
            ],
        )
        await self.hold(MODEL_RULES)

    async def _fill(self, table: str, columns: str, rows: Collection[tuple[Any, ...]]) -> None:
        await self._connection.execute(f"CREATE TEMP TABLE {table} ({columns})")
        await self._connection.copy_records_to_table(table, records=rows)


async def check_on(connection: Any, executions: Collection[int] | None = None) -> Check:
    """A check of some executions, or of all, as this connection sees them."""
    condition = ""
    if executions is not None:
        await connection.execute("CREATE TEMP TABLE checked (execution_id bigint PRIMARY KEY)")
        await connection.copy_records_to_table("checked", records=[(execution_id,) for execution_id in executions])
        await connection.execute("ANALYZE checked")
        condition = "WHERE execution_id IN (SELECT execution_id FROM checked)"
    for table in ("event", "command", "execution"):
        # a table, not a view: the rules look at it from many sides, and at the same moment
        await connection.execute(f"CREATE TEMP TABLE {table} AS SELECT * FROM noetl.{table} {condition}")
        await connection.execute(f"CREATE INDEX ON {table} (execution_id); ANALYZE {table}")
    return Check(connection)


@asynccontextmanager
async def open_check(database_url: str, executions: Collection[int] | None = None) -> AsyncGenerator[Check]:
    """A check of some executions, or of all, past every server."""
    connection = await connect(database_url)
    try:
        yield await check_on(connection, executions)
    finally:
        await connection.close()


async def violations(database_url: str, *, nobody_is_late: bool = True) -> dict[str, list[Any]]:
    """The rules of the log that do not hold for all executions, with up to ten rows that show it."""
    async with open_check(database_url) as check:
        await check.log(nobody_is_late=nobody_is_late)
        return check.broken


async def unfinished(database_url: str) -> int:
    """Executions that have not ended."""
    return (await query(database_url, "SELECT count(*) FROM noetl.execution WHERE end_time IS NULL"))[0][0]
