"""The JSON form of 64-bit ids: numbers as the reference writes them, or strings for clients that round numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noetl.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request

    WriteId = Callable[[int | None], int | str | None]

HEADER = b"x-noetl-ids"


class JsonIds:
    """Chooses the form for a request: header ``X-Noetl-Ids``, else NOETL_JSON_IDS (spec 10, fix 17)."""

    def __init__(self, default: str = "number") -> None:
        self._as_strings = default == "string"

    def of(self, request: Request) -> WriteId:
        """The function that writes ids in the answer to ``request``; raises BadRequestError for another header."""
        header = request.get_first_header(HEADER)
        if header not in (None, b"number", b"string"):
            raise BadRequestError("X-Noetl-Ids must be 'number' or 'string'")
        as_strings = self._as_strings if header is None else header == b"string"
        return _as_string if as_strings else _as_number


def _as_string(value: int | None) -> str | None:
    return None if value is None else str(value)


def _as_number(value: int | None) -> int | None:
    return value
