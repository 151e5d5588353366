"""A value that must not appear in any text made by accident."""

from __future__ import annotations

import hmac
from typing import Any, Generic, TypeVar, cast

Value = TypeVar("Value", str, bytes)

MASK = "***"


class Secret(Generic[Value]):
    """Holds a password, token or key; `repr`, `str` and formatting show ``***`` (promise P7).

    `reveal` is the only way to the value, so that every use can be found by searching for it. Comparison takes the
    same time wherever the values differ.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def reveal(self) -> Value:
        """The value itself; hand it on, never keep it in a text."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        theirs = cast("Secret[Any]", other).reveal()
        return type(theirs) is type(self._value) and hmac.compare_digest(_octets(self._value), _octets(theirs))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> tuple[type[Secret[Value]], tuple[Value]]:
        return type(self), (self._value,)


def _octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
