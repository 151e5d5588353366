"""Arithmetic, concatenation, containment, item access and slices (spec 30, section 5.5)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.limits import Budget, size_of
from noetl.engine.template.printing import debug_text, text_of
from noetl.engine.template.values import (
    INT64_MAX,
    INT64_MIN,
    NONE,
    Group,
    Sequence,
    TemplateObject,
    admit,
    equal,
    integer,
    kind_of,
    sorted_keys,
)

INT128_MIN = -(2**127)
INT128_MAX = 2**127 - 1

Binary = Callable[[Any, Any, Budget], Any]


def _unsupported(operator: str, left: Any, right: Any) -> Exception:
    return invalid(f"tried to use {operator} operator on unsupported types {kind_of(left)} and {kind_of(right)}")


def _failed(operator: str, left: Any, right: Any, budget: Budget) -> Exception:
    return invalid(f"unable to calculate {text_of(left, budget)} {operator} {text_of(right, budget)}")


def _numbers(operator: str, left: Any, right: Any) -> tuple[int, int] | tuple[float, float]:
    """Both operands as integers, or as floats if one is a float; booleans count as 0 and 1."""
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        raise _unsupported(operator, left, right)
    if isinstance(left, float) or isinstance(right, float):
        return float(left), float(right)
    if left > INT128_MAX or right > INT128_MAX:
        raise _unsupported(operator, left, right)
    return int(left), int(right)


def _checked(operator: str, left: Any, right: Any, result: int, budget: Budget) -> int:
    if INT64_MIN <= result <= INT64_MAX:
        return result
    if INT128_MIN <= result <= INT128_MAX:
        return integer(result)
    raise _failed(operator, left, right, budget)


def add(left: Any, right: Any, budget: Budget) -> Any:
    """``left + right`` of numbers, strings or sequences."""
    if isinstance(left, str) and isinstance(right, str):
        return concatenate(left, right, budget)
    if isinstance(left, list) and isinstance(right, list):
        budget.items(len(left) + len(right))
        return Sequence([*left, *right])
    a, b = _numbers("+", left, right)
    total = a + b
    return total if isinstance(total, float) else _checked("+", left, right, total, budget)


def subtract(left: Any, right: Any, budget: Budget) -> Any:
    """``left - right`` of numbers."""
    a, b = _numbers("-", left, right)
    difference = a - b
    return difference if isinstance(difference, float) else _checked("-", left, right, difference, budget)


def multiply(left: Any, right: Any, budget: Budget) -> Any:
    """``left * right`` of numbers, or a string or sequence repeated."""
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str):
            return _repeat(value, times, budget)
    for value, times in ((left, right), (right, left)):
        if isinstance(value, list):
            return _repeat(value, times, budget)
    a, b = _numbers("*", left, right)
    product = a * b
    return product if isinstance(product, float) else _checked("*", left, right, product, budget)


def _repeat(value: str | list[Any], times: Any, budget: Budget) -> Any:
    noun = "strings" if isinstance(value, str) else "sequences and iterables"
    valid = isinstance(times, int) or (isinstance(times, float) and times.is_integer())
    if not valid or not 0 <= times <= sys.maxsize:
        raise invalid(f"{noun} can only be multiplied with integers")
    count = int(times)
    if isinstance(value, str):
        budget.allocate(size_of(value) * count)
    else:
        budget.items(len(value) * count)
        return Sequence(list(value) * count)
    return value * count


def divide(left: Any, right: Any, budget: Budget) -> Any:
    """``left / right``, always a float; by zero it is infinite or NaN."""
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        raise _unsupported("/", left, right)
    a, b = float(left), float(right)
    if b == 0.0:
        return math.nan if a == 0.0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def floor_divide(left: Any, right: Any, budget: Budget) -> Any:
    """``left // right``, Euclidean: the remainder is never negative."""
    a, b = _numbers("//", left, right)
    if isinstance(a, float) or isinstance(b, float):
        if b == 0.0 or math.isinf(a) or math.isnan(a) or math.isnan(b):
            return divide(a, b, budget)
        quotient = float(math.trunc(a / b)) if math.isfinite(a / b) else a / b
        if math.fmod(a, b) < 0.0:
            return quotient - 1.0 if b > 0.0 else quotient + 1.0
        return quotient
    if b == 0:
        raise _failed("//", left, right, budget)
    quotient, remainder = divmod(a, b)
    return _checked("//", left, right, quotient + 1 if remainder < 0 else quotient, budget)


def remainder(left: Any, right: Any, budget: Budget) -> Any:
    """``left % right``: Euclidean for integers, with the sign of the dividend for floats."""
    a, b = _numbers("%", left, right)
    if isinstance(a, float) or isinstance(b, float):
        return math.nan if b == 0.0 or math.isinf(a) else math.fmod(a, b)
    if b == 0:
        raise _failed("%", left, right, budget)
    return _checked("%", left, right, a % abs(b), budget)


def power(left: Any, right: Any, budget: Budget) -> Any:
    """``left ** right``; integers within 128 bit and with a non-negative exponent."""
    base, exponent = _numbers("**", left, right)
    if isinstance(base, float) or isinstance(exponent, float):
        return _float_power(float(base), float(exponent))
    if exponent < 0 or exponent >= 2**32 or (abs(base) > 1 and exponent > 127):
        raise _failed("**", left, right, budget)
    if abs(base) <= 1 and exponent > 1:
        exponent = 2 - exponent % 2
    return _checked("**", left, right, base**exponent, budget)


def _float_power(base: float, exponent: float) -> float:
    odd = exponent.is_integer() and exponent % 2 == 1
    try:
        result: Any = base**exponent
    except ZeroDivisionError:
        return math.copysign(math.inf, base) if odd else math.inf
    except OverflowError:
        return -math.inf if base < 0 and odd else math.inf
    return math.nan if isinstance(result, complex) else result


def negate(value: Any) -> Any:
    """``-value`` of a number (a boolean is none)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise invalid()
    if isinstance(value, float):
        return -value
    if value > -INT128_MIN or value == INT128_MIN:
        raise invalid("overflow") if value == INT128_MIN else invalid()
    return integer(-value)


def concatenate(left: Any, right: Any, budget: Budget) -> str:
    """``left ~ right``: the printed forms joined."""
    first, second = text_of(left, budget), text_of(right, budget)
    budget.allocate(size_of(first) + size_of(second))
    return str(first) + str(second)


def contains(container: Any, value: Any, budget: Budget) -> bool:
    """``value in container``: part of a text, element of a sequence, key of a map."""
    if container is None:
        return False
    if isinstance(container, str):
        budget.charge(len(container) >> 6)
        return text_of(value, budget) in container
    if isinstance(container, list):
        return any(_element_equals(value, item, budget) for item in container)
    if isinstance(container, dict):
        return is_key(value) and value in container
    if isinstance(container, TemplateObject) and container.kind == "map":
        return container.has(value)
    raise invalid("cannot perform a containment check on this value")


def _element_equals(value: Any, item: Any, budget: Budget) -> bool:
    budget.charge(1)
    return equal(value, admit(item), budget)


def is_key(value: Any) -> bool:
    """Whether a value can be a key of a map."""
    return not isinstance(value, (list, dict, TemplateObject))


def get_item(value: Any, key: Any) -> Any:
    """``value[key]`` (and ``value.key``): None, the undefined value, for everything that is not there."""
    if isinstance(value, dict):
        if not is_key(key):
            return None
        return admit(value.get(key))
    if isinstance(value, (list, str)):
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if not isinstance(key, int):
            if isinstance(value, Group) and key in ("grouper", "list"):
                return value[0 if key == "grouper" else 1]
            return None
        try:
            return admit(value[key])
        except IndexError:
            return None
    return value.attribute(key) if isinstance(value, TemplateObject) else None


def get_path(value: Any, path: Any, budget: Budget, *, strict: bool = False) -> Any:
    """Item addressed by ``a.b.0`` (arguments named ``attribute``); ``strict``: an item of undefined is an error."""
    parts = path.split(".") if isinstance(path, str) else [path]
    for part in parts:
        budget.charge(1)
        if strict and value is None:
            raise TemplateError("undefined value")
        is_index = isinstance(part, str) and part.isascii() and part.isdigit() and len(part) < 20
        value = get_item(value, int(part) if is_index else part)
    return value


def _bound(value: Any, type_name: str) -> int | None:
    if value is None or value is NONE:
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        number = int(value)
        if INT64_MIN <= number <= INT64_MAX:
            return number
    raise invalid(f"cannot convert {kind_of(value)} to {type_name}")


def slice_of(value: Any, start: Any, stop: Any, step: Any, budget: Budget) -> Any:
    """``value[start:stop:step]`` of a string or sequence; undefined and none give an empty sequence."""
    first, last, stride = _bound(start, "i64"), _bound(stop, "i64"), _bound(step, "i64")
    if stride == 0:
        raise invalid("cannot slice by step size of 0")
    if value is None or value is NONE:
        return []
    if isinstance(value, (str, list)):
        budget.charge(1)
        part: Any = value[first:last:stride]
        budget.allocate(size_of(part) if isinstance(part, str) else len(part) << 3)
        return part if isinstance(part, str) else Sequence(part)
    raise invalid(f"value of type {kind_of(value)} cannot be sliced")


def make_map(pairs: list[tuple[Any, Any]], budget: Budget) -> dict[Any, Any]:
    """A map literal; a sequence or map cannot be a key."""
    budget.items(4 * len(pairs))
    for key, _ in pairs:
        if not is_key(key):
            raise invalid(f"a {kind_of(key)} cannot be the key of a map: {debug_text(key, budget)}")
    return dict(pairs)


def pairs_of(mapping: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Items of a map, keys ascending."""
    return [(key, admit(mapping[key])) for key in sorted_keys(mapping)]
