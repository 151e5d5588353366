"""Rows of ``noetl.outbox``: messages that publishers outside the server fetch and acknowledge (spec 20, 10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.store.database import Database

_DUE = "status IN ('PENDING', 'FAILED') AND available_at <= now()"
_STUCK = "status = 'IN_FLIGHT' AND $1::float8 > 0 AND locked_at < now() - make_interval(secs => $1)"


class OutboxRow(msgspec.Struct, gc=False):
    """One claimed message; ``payload`` is a JSON text, ``attempts`` counts this claim."""

    outbox_id: int
    execution_id: int | None
    event_id: int
    subject: str | None
    payload: str
    payload_codec: str
    attempts: int


class OutboxStore:
    """All statements on ``noetl.outbox``.

    A row can be claimed when it is new, when its pause after a failure is over, or when whoever claimed it has not
    reported for ``lock_timeout_seconds`` (0: never again). Every method raises DatabaseUnavailableError or
    DatabaseError.
    """

    def __init__(self, database: Database, lock_timeout_seconds: float) -> None:
        self._database = database
        self._lock_timeout = float(lock_timeout_seconds)
        outbox = f"{database.quoted_schema}.outbox"
        # Rows that are left over come first: they are the older ones, and a stream of new ones must not starve them.
        self._claim = f"""
            WITH stuck AS MATERIALIZED (
                SELECT outbox_id FROM {outbox} WHERE {_STUCK}
                ORDER BY outbox_id LIMIT $2 FOR UPDATE SKIP LOCKED
            ), due AS MATERIALIZED (
                SELECT outbox_id FROM {outbox} WHERE {_DUE}
                ORDER BY outbox_id LIMIT $2 - (SELECT count(*) FROM stuck) FOR UPDATE SKIP LOCKED
            ), claimed AS (
                UPDATE {outbox} AS target
                SET status = 'IN_FLIGHT', attempts = target.attempts + 1, locked_at = now(), updated_at = now()
                FROM (SELECT outbox_id FROM stuck UNION ALL SELECT outbox_id FROM due) AS chosen
                WHERE target.outbox_id = chosen.outbox_id
                RETURNING target.outbox_id, target.execution_id, target.event_id, target.subject,
                    target.payload::text, target.payload_codec, target.attempts
            )
            SELECT * FROM claimed ORDER BY outbox_id"""
        self._mark_published = f"""
            UPDATE {outbox} SET status = 'PUBLISHED', published_at = now(), updated_at = now(), last_error = NULL
            WHERE outbox_id = ANY($1::bigint[])"""
        self._mark_failed = f"""
            UPDATE {outbox} SET status = 'FAILED', available_at = now() + make_interval(secs => $2), last_error = $3,
                updated_at = now()
            WHERE outbox_id = $1 AND status <> 'PUBLISHED'
            RETURNING true"""
        self._pending = f"""
            SELECT (SELECT count(*) FROM {outbox} WHERE {_DUE}) + (SELECT count(*) FROM {outbox} WHERE {_STUCK})"""

    async def claim(self, limit: int) -> list[OutboxRow]:
        """Take up to ``limit`` claimable rows, by id; two claims at once never get the same row.

        When the connection breaks, the rows may be claimed although nobody got them; the lock timeout frees them.
        """
        records = await self._database.fetch(self._claim, self._lock_timeout, limit, retry=False)
        return [OutboxRow(**record) for record in records]

    async def mark_published(self, outbox_ids: Sequence[int]) -> int:
        """Close rows, whatever their state; the number of different rows that exist."""
        tag = await self._database.execute(self._mark_published, outbox_ids, retry=True)
        return int(tag.rpartition(" ")[2])

    async def mark_failed(self, outbox_id: int, error: str, delay_seconds: int) -> bool:
        """Let a row be claimed again after the delay; False when it is published already or does not exist."""
        return bool(await self._database.fetchval(self._mark_failed, outbox_id, float(delay_seconds), error))

    async def pending_count(self) -> int:
        """Number of rows that a claim could get now."""
        return await self._database.fetchval(self._pending, self._lock_timeout)
