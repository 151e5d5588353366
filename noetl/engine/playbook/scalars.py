"""Plain YAML scalars: YAML 1.2 core types, and how values print in error texts (spec 10, section 4.4)."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final, TypeAlias

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"([-+]?)(?:(0|[1-9][0-9]*)|0x([0-9a-fA-F]+)|0o([0-7]+)|0b([01]+))", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]+", re.ASCII)
_SPECIAL_FLOATS: Final = {
    sign + word: math.copysign(math.inf, -1.0 if sign == "-" else 1.0)
    for sign in ("", "+", "-")
    for word in (".inf", ".Inf", ".INF")
} | dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan)

Plain: TypeAlias = str | int | float | bool | None
"""A resolved scalar."""


def resolve(text: str) -> Plain:
    """The value of a plain scalar without tag (tables of spec 10 section 4.4); integers of any size."""
    if text in NULLS:
        return None
    if (boolean := BOOLEANS.get(text)) is not None:
        return boolean
    if (number := integer(text)) is not None:
        return number
    if _LEADING_ZERO.fullmatch(text) is None and (fraction := floating(text)) is not None:
        return fraction
    return text


def describe(value: Plain) -> str:
    """A scalar as error texts name it."""
    match value:
        case None:
            return "unit value"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{_positional(value)}`"
        case str():
            return f"string {quote(value)}"


def quote(text: str) -> str:
    """``text`` in double quotes with the escapes of error texts."""
    named = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    escaped = (named.get(c) or (c if c.isprintable() else f"\\u{{{ord(c):x}}}") for c in text)
    return f'"{"".join(escaped)}"'


def float_text(value: float) -> str:
    """Shortest decimal form with a point or exponent: ``1.5``, ``1000.0``, ``1e16``, ``0.00001``, ``.inf``."""
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits
    if exponent == "-05":
        sign = "-" if value < 0 else ""
        return f"{sign}0.0000{digits.lstrip('-').replace('.', '')}"
    return f"{digits}e{int(exponent)}"


def integer(text: str) -> int | None:
    """A decimal, ``0x``, ``0o`` or ``0b`` integer of at most 128 bits; None for any other text."""
    if (match := _INTEGER.fullmatch(text)) is None:
        return None
    sign, decimal, hexadecimal, octal, binary = match.groups()
    if len(decimal or "") > 40:
        return None
    digits, base = next((d, b) for d, b in ((decimal, 10), (hexadecimal, 16), (octal, 8), (binary, 2)) if d is not None)
    value = int(sign + digits, base)
    return value if -(2**127) <= value < 2**128 else None


def floating(text: str) -> float | None:
    """A decimal number, ``.inf`` or ``.nan``; None for any other text and for what overflows."""
    if (special := _SPECIAL_FLOATS.get(text)) is not None:
        return special
    if _FLOAT.fullmatch(text) is None:
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def _positional(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
    digits = format(Decimal(repr(value)), "f")
    return digits if "." in digits else f"{digits}.0"
