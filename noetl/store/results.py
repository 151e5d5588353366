"""Rows of ``noetl.result_store``: results too large for an event, written once (spec 50, section 4.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from noetl.errors import UnprocessableError
from noetl.store.database import RefusedStatementError

if TYPE_CHECKING:
    from noetl.store.database import Database

PROGRAM_LIMIT_EXCEEDED: Final = "54000"
PART_BYTES: Final = 1 << 20
"""Larger texts travel in parts of this size: the driver holds what it sends or receives several times."""


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
        table, parts = f"{database.quoted_schema}.result_store", f"{database.quoted_schema}.result_part"
        put = f"""
            INSERT INTO {table} (result_id, execution_id, name, scope, source_step, bytes, sha256, data)
            VALUES ($1, $2, $3, $4, $5, $6, $7, convert_from(%s, 'UTF8')::jsonb)
            ON CONFLICT (result_id) DO NOTHING"""
        self._put = put % "$8::bytea"
        self._put_parts = put % f"(SELECT string_agg(data, ''::bytea ORDER BY part) FROM {parts} WHERE result_id = $1)"
        self._add_part = f"INSERT INTO {parts} (result_id, part, data) VALUES ($1, $2, $3)"
        self._drop_parts = f"DELETE FROM {parts} WHERE result_id = $1"
        stored = f"""
            WITH stored AS MATERIALIZED (
                SELECT convert_to(data::text, 'UTF8') AS text FROM {table}
                WHERE result_id = $1 AND execution_id = $2 AND name = $3
            )"""
        self._get = f"""{stored}
            SELECT octet_length(text) AS size, CASE WHEN octet_length(text) <= $4 THEN text END AS text FROM stored"""
        self._get_parts = f"""{stored}
            SELECT substring(text FROM start FOR {PART_BYTES}) AS part
            FROM stored, generate_series(1, octet_length(text), {PART_BYTES}) AS start"""

    async def put(self, result: NewResult) -> None:
        """Store a result.

        Raises:
            UnprocessableError: PostgreSQL cannot hold a value of this size or shape.
        """
        row = (
            result.result_id, result.execution_id, result.name, result.scope, result.source_step, len(result.data),
            result.sha256,
        )  # fmt: skip
        try:
            if len(result.data) <= PART_BYTES:
                await self._database.execute(self._put, *row, result.data, retry=True)
                return
            async with self._database.transaction() as connection:
                with memoryview(result.data) as text:
                    for part, start in enumerate(range(0, len(text), PART_BYTES)):
                        await connection.execute(
                            self._add_part, result.result_id, part, text[start : start + PART_BYTES]
                        )
                await connection.execute(self._put_parts, *row)
                await connection.execute(self._drop_parts, result.result_id)
        except RefusedStatementError as error:
            if error.sqlstate != PROGRAM_LIMIT_EXCEEDED:
                raise
            raise UnprocessableError("data is too large for a jsonb value", detail=error.detail) from error

    async def get(self, execution_id: int, name: str, result_id: int, largest: int) -> StoredText | None:
        """The stored value that all three name, without its text if that has more than ``largest`` bytes."""
        record = await self._database.fetchrow(self._get, result_id, execution_id, name, largest)
        return None if record is None else StoredText(**record)

    async def read(self, execution_id: int, name: str, result_id: int, size: int) -> bytearray:
        """The text of a stored value that has ``size`` bytes; empty when it is gone."""
        text = bytearray(size)
        end = 0
        async with self._database.transaction(readonly=True) as connection:
            async for record in connection.cursor(self._get_parts, result_id, execution_id, name, prefetch=2):
                part: bytes = record["part"]
                text[end : end + len(part)] = part
                end += len(part)
        return text if end else bytearray()
