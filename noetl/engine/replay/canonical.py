"""Canonical JSON: one text per value, for checksums and for ids made of JSON values (spec 15, section 6.2).

Members sorted by the UTF-8 bytes of their names, no blanks, only the escapes that JSON demands, floats with the
shortest digits that read back equal and a signed exponent. orjson writes just this.
"""

from __future__ import annotations

from typing import Any

import orjson

from noetl.errors import InternalError


class UnreadableJsonError(InternalError):
    """A stored JSON value has no equal in 64-bit integers, doubles and bounded nesting (500, as the reference)."""


def parse(text: str | bytes) -> Any:
    """The value of a JSON text; integers outside -2^63..2^64-1 become floats (spec 15, section 2).

    Raises:
        UnreadableJsonError: a number is larger than any double, or the nesting is beyond a thousand levels.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableJsonError("A stored JSON value cannot be read", detail=str(error)) from error


def canonical(value: Any) -> bytes:
    """The canonical text of a decoded JSON value.

    Raises:
        UnreadableJsonError: the nesting is beyond 250 levels.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise UnreadableJsonError("A stored JSON value cannot be read", detail=str(error)) from error


def text_of(value: Any) -> str:
    """A JSON value as text: a string as it is, all others in canonical form, so ``null`` and ``true`` too."""
    return value if isinstance(value, str) else canonical(value).decode()


def integer_of(value: Any) -> int | None:
    """The value if it is a JSON integer of 64 bits with sign; floats, booleans and digits in strings are none."""
    if type(value) is int and -0x8000_0000_0000_0000 <= value <= 0x7FFF_FFFF_FFFF_FFFF:
        return value
    return None
