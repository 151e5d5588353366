"""Looking for commands that need help: never heard of, or held by a worker that went silent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from noetl.store.database import Database

_LIFE: Final = ("heartbeat", "registered_at")
"""Columns of ``runtime`` that tell whether the owner of a command is alive."""
_LIVE_EXECUTION: Final = """NOT EXISTS (SELECT FROM {schema}.event AS ended
        WHERE ended.execution_id = command.execution_id AND ended.event_type IN ('playbook.completed',
            'playbook_completed', 'playbook.failed', 'playbook_failed', 'playbook.cancelled', 'playbook_cancelled',
            'execution.cancelled'))"""


class WaitingCommand(msgspec.Struct, gc=False):
    """A command that nobody has claimed."""

    execution_id: int
    event_id: int
    catalog_id: int
    step: str
    command_id: str
    attempt: int
    waiting_since: datetime


class HeldCommand(msgspec.Struct, gc=False):
    """A command whose worker shows no sign of life."""

    execution_id: int
    event_id: int
    worker_id: str | None
    attempt: int


class CommandStore:
    """Statements on ``command`` for one database. Workers are known to the cluster database, which may be another."""

    def __init__(self, database: Database, cluster: Database | None = None) -> None:
        self._database = database
        self._cluster = cluster or database
        schema = database.quoted_schema
        self._workers_are_here = self._cluster is database
        workers = f"{schema}.runtime" if self._workers_are_here else _given_workers()
        live = _LIVE_EXECUTION.replace("{schema}", schema)
        self._waiting = f"""
            SELECT execution_id, event_id, catalog_id, step_name AS step,
                coalesce(meta ->> 'command_id', execution_id || ':' || step_name || ':' || event_id) AS command_id,
                attempt, updated_at AS waiting_since
            FROM {schema}.command
            WHERE status = 'PENDING' AND updated_at < now() - $1::interval AND {live}
                AND (updated_at, event_id) > (coalesce($3::timestamptz, '-infinity'), coalesce($4::bigint, 0))
            ORDER BY updated_at, event_id LIMIT $2"""
        # An owner is alive while its runtime row beats or the command itself does, however long it works (spec 70, I3).
        # One without a runtime row cannot be judged; it keeps the command for the hard limit. One that registered after
        # its claim is another process under the name of the owner, as a pod has after its container was killed (I2).
        self._held = f"""
            SELECT command.execution_id, command.event_id, command.worker_id, command.attempt
            FROM {schema}.command
            LEFT JOIN {workers} ON runtime.kind = 'worker_pool' AND runtime.name = command.worker_id
            WHERE command.status IN ('CLAIMED', 'RUNNING')
                AND command.claimed_at < now() - $1::interval
                AND CASE WHEN runtime.name IS NULL THEN command.claimed_at < now() - $2::interval
                    ELSE runtime.heartbeat < now() - $1::interval OR runtime.registered_at > command.claimed_at END
                AND NOT EXISTS (SELECT FROM {schema}.event AS beat
                    WHERE beat.execution_id = command.execution_id AND beat.event_type = 'command.heartbeat'
                        AND beat.node_name = command.step_name AND beat.ingest_time > now() - $1::interval
                        AND coalesce(beat.result -> 'context' ->> 'command_id', beat.meta ->> 'command_id')
                            = command.meta ->> 'command_id')
                AND {live}
            ORDER BY command.claimed_at LIMIT $3"""
        self._owners = f"""
            SELECT DISTINCT worker_id FROM {schema}.command
            WHERE status IN ('CLAIMED', 'RUNNING') AND claimed_at < now() - $1::interval AND worker_id IS NOT NULL"""
        ages = ", ".join(f"extract(epoch FROM now() - {column})::float8 AS {column}" for column in _LIFE)
        self._life = f"""
            SELECT name, {ages} FROM {schema}.runtime WHERE kind = 'worker_pool' AND name = ANY($1::text[])"""
        self._not_begun = f"""
            SELECT execution_id, event_id, worker_id, attempt FROM {schema}.command
            WHERE status = 'CLAIMED' AND claimed_at < now() - $1::interval AND {live}
            ORDER BY claimed_at LIMIT $2"""
        self._silent = f"""
            SELECT bool_and(status = 'offline' OR heartbeat < now() - $2::interval)
            FROM {schema}.runtime WHERE kind = 'worker_pool' AND name = $1"""

    async def waiting(
        self, older_than_seconds: float, limit: int, after: tuple[datetime, int] | None = None
    ) -> list[WaitingCommand]:
        """Unclaimed commands of running executions, oldest first, behind a ``waiting_since`` and ``event_id``."""
        records = await self._database.fetch(
            self._waiting, timedelta(seconds=older_than_seconds), limit, *(after or (None, None))
        )
        return [WaitingCommand(**record) for record in records]

    async def held_by_silent_workers(
        self, silent_seconds: float, unknown_worker_seconds: float, limit: int
    ) -> list[HeldCommand]:
        """Claimed or running commands without a sign of life from their worker for so long, oldest claim first."""
        silent = timedelta(seconds=silent_seconds)
        life = [] if self._workers_are_here else await self._life_of_owners(silent)
        records = await self._database.fetch(
            self._held, silent, timedelta(seconds=unknown_worker_seconds), limit, *life
        )
        return [HeldCommand(**record) for record in records]

    async def claimed_but_not_begun(self, seconds: float, limit: int) -> list[HeldCommand]:
        """Commands that were claimed so long ago without a word since: their worker never got the answer."""
        records = await self._database.fetch(self._not_begun, timedelta(seconds=seconds), limit)
        return [HeldCommand(**record) for record in records]

    async def is_silent(self, worker_id: str, silent_seconds: float) -> bool | None:
        """Whether a registered worker is offline or has not beaten for so long; None for an unknown one."""
        return await self._cluster.fetchval(self._silent, worker_id, timedelta(seconds=silent_seconds))

    async def _life_of_owners(self, silent: timedelta) -> list[list[Any]]:
        """Columns of the workers that hold commands here, as the cluster database knows them: names, then ages."""
        owners = [record["worker_id"] for record in await self._database.fetch(self._owners, silent)]
        workers = await self._cluster.fetch(self._life, owners) if owners else []
        return [[worker[column] for worker in workers] for column in ("name", *_LIFE)]


def _given_workers() -> str:
    """SQL of the rows of `CommandStore._life_of_owners` under the name of their table; ages, as clocks may differ."""
    moments = ", ".join(f"now() - make_interval(secs => {column}) AS {column}" for column in _LIFE)
    arrays = ", ".join(f"${number}::float8[]" for number, _ in enumerate(_LIFE, 5))
    return f"""(
                SELECT 'worker_pool' AS kind, name, {moments}
                FROM unnest($4::text[], {arrays}) AS given (name, {", ".join(_LIFE)})
            ) AS runtime"""
