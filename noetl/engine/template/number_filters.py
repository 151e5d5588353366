"""Filters that make numbers and booleans (spec 30, section 5.6)."""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from noetl.engine.template.arguments import anything, precision, takes
from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.operators import add
from noetl.engine.template.printing import text_of
from noetl.engine.template.values import INT64_MAX, INT64_MIN, elements, integer, kind_of, truth

if TYPE_CHECKING:
    from noetl.engine.template.runtime import Runtime

_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)


def _literal(value: str) -> float | None:
    return float(value) if _FLOAT.fullmatch(value) else None


@takes(anything)
def to_int(runtime: Runtime, value: Any) -> int:
    """Integer part of a number or of a text that is a number, kept within 64 bit."""
    if isinstance(value, int):
        return max(INT64_MIN, min(INT64_MAX, int(value)))
    number: float | None
    if isinstance(value, float):
        number = value
    else:
        text = text_of(value, runtime)
        if not text:
            raise invalid("int error: cannot parse integer from empty string")
        number = _literal(text)
    if number is None:
        raise invalid("int error: invalid digit found in string")
    if math.isnan(number):
        return 0
    return INT64_MAX if number >= 2**63 else INT64_MIN if number <= -(2**63) else int(number)


@takes(anything)
def to_float(runtime: Runtime, value: Any) -> float:
    """A number, or a text that is one, as a float."""
    if isinstance(value, (int, float)):
        return float(value)
    text = text_of(value, runtime)
    if not text:
        raise invalid("float error: cannot parse float from empty string")
    number = _literal(text)
    if number is None:
        raise invalid("float error: invalid float literal")
    return number


@takes(anything)
def to_bool(runtime: Runtime, value: Any) -> bool:
    """Truth of the value."""
    return truth(value)


@takes(anything)
def absolute(runtime: Runtime, value: Any) -> Any:
    """Absolute value of a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid("cannot get absolute value")
    return abs(value) if isinstance(value, float) else integer(abs(int(value)))


@takes(anything, precision, optional=1)
def round_number(runtime: Runtime, value: Any, digits: int | None) -> Any:
    """A float rounded half away from zero to ``digits`` places; integers stay."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid(f"cannot round value ({kind_of(value)})")
    if isinstance(value, int) or not math.isfinite(value):
        return value
    places = digits or 0
    try:
        scale = 10.0**places
    except OverflowError:
        scale = math.inf
    scaled = value * scale
    if not math.isfinite(scaled) or scale == 0.0:
        return scaled / scale if scale else math.nan
    whole = float(Decimal(scaled).quantize(Decimal(1), ROUND_HALF_UP)) if abs(scaled) < 2**52 else scaled
    return math.copysign(whole, value) / scale


@takes(anything)
def total(runtime: Runtime, value: Any) -> Any:
    """Sum of numbers, 0 for none."""
    result: Any = 0
    for item in elements(value):
        runtime.charge(1)
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            if item is None:
                continue
            raise invalid(f"can only sum numbers, got {kind_of(item)}")
        try:
            result = add(result, item, runtime)
        except TemplateError:
            raise invalid("integer overflow") from None
    return result
