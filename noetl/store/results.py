"""Rows of ``noetl.result_store``: results too large for an event, written once (spec 50, section 4.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from noetl.errors import UnprocessableError
from noetl.store.database import RefusedStatementError

if TYPE_CHECKING:
    from noetl.store.database import Database

PROGRAM_LIMIT_EXCEEDED: Final = "54000"


class NewResult(msgspec.Struct):
    """A result to keep; ``data`` is its canonical JSON text in UTF-8, ``sha256`` the digest of that text in hex."""

    result_id: int
    execution_id: int
    name: str
    scope: str
    source_step: str | None
    data: bytes | bytearray
    sha256: str


class StoredText(msgspec.Struct):
    """A stored value: the ``size`` of its JSON text in bytes, and the text if it was not too large to be read."""

    size: int
    text: bytes | None


class ResultStore:
    """All statements on ``result_store``; every method raises DatabaseUnavailableError or DatabaseError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        table = f"{database.quoted_schema}.result_store"
        # The text goes as bytes: as a string the driver would hold it twice more.
        self._put = f"""
            INSERT INTO {table} (result_id, execution_id, name, scope, source_step, data, bytes, sha256)
            VALUES ($1, $2, $3, $4, $5, convert_from($6::bytea, 'UTF8')::jsonb, $7, $8)
            ON CONFLICT (result_id) DO NOTHING"""
        self._get = f"""
            WITH stored AS MATERIALIZED (
                SELECT convert_to(data::text, 'UTF8') AS text FROM {table}
                WHERE result_id = $1 AND execution_id = $2 AND name = $3
            )
            SELECT octet_length(text) AS size, CASE WHEN octet_length(text) <= $4 THEN text END AS text FROM stored"""

    async def put(self, result: NewResult) -> None:
        """Store a result.

        Raises:
            UnprocessableError: PostgreSQL cannot hold a value of this size or shape.
        """
        try:
            await self._database.execute(
                self._put, result.result_id, result.execution_id, result.name, result.scope, result.source_step,
                result.data, len(result.data), result.sha256, retry=True,
            )  # fmt: skip
        except RefusedStatementError as error:
            if error.sqlstate != PROGRAM_LIMIT_EXCEEDED:
                raise
            raise UnprocessableError("data is too large for a jsonb value", detail=error.detail) from error

    async def get(self, execution_id: int, name: str, result_id: int, largest: int) -> StoredText | None:
        """The stored value that all three name, without its text if that has more than ``largest`` bytes."""
        record = await self._database.fetchrow(self._get, result_id, execution_id, name, largest)
        return None if record is None else StoredText(**record)
