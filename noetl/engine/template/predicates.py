"""The tests of ``is`` (spec 30, section 5.6)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from noetl.engine.template.arguments import Callee, anything, string, takes, text
from noetl.engine.template.errors import TemplateError
from noetl.engine.template.operators import contains
from noetl.engine.template.values import (
    NONE,
    NoneLiteral,
    SafeString,
    TemplateObject,
    compare,
    equal,
    identical,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.engine.template.runtime import Runtime


def _kind_is(name: str) -> Callee:
    @takes(anything)
    def holds(runtime: Runtime, value: Any) -> bool:
        return kind_of(value) == name

    return holds


def _order(holds: Callable[[int], bool]) -> Callee:
    @takes(anything, anything)
    def test(runtime: Runtime, value: Any, other: Any) -> bool:
        return holds(compare(value, other, runtime))

    return test


def _integral(value: Any) -> int | None:
    """The value as an integer if it is one (booleans and integral floats are)."""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return None


@takes(anything)
def is_defined(runtime: Runtime, value: Any) -> bool:
    """Not undefined (and not JSON null)."""
    return value is not None


@takes(anything)
def is_undefined(runtime: Runtime, value: Any) -> bool:
    """Undefined."""
    return value is None


@takes(anything)
def is_none(runtime: Runtime, value: Any) -> bool:
    """The literal none."""
    return value is NONE


@takes(anything)
def is_integer(runtime: Runtime, value: Any) -> bool:
    """An integer."""
    return isinstance(value, int) and not isinstance(value, bool)


@takes(anything)
def is_float(runtime: Runtime, value: Any) -> bool:
    """A float."""
    return isinstance(value, float)


@takes(anything)
def is_iterable(runtime: Runtime, value: Any) -> bool:
    """A string, sequence or map, and what iterates as an empty one: undefined and none."""
    return (
        value is None
        or isinstance(value, (str, list, dict, NoneLiteral))
        or (isinstance(value, TemplateObject) and value.kind == "map")
    )


@takes(anything)
def is_safe(runtime: Runtime, value: Any) -> bool:
    """Escaped text."""
    return isinstance(value, SafeString)


@takes(anything)
def is_odd(runtime: Runtime, value: Any) -> bool:
    """An odd integer."""
    number = _integral(value)
    return number is not None and number % 2 == 1


@takes(anything)
def is_even(runtime: Runtime, value: Any) -> bool:
    """An even integer."""
    number = _integral(value)
    return number is not None and number % 2 == 0


@takes(anything, anything)
def is_divisible(runtime: Runtime, value: Any, divisor: Any) -> bool:
    """A multiple of ``divisor``; nothing is one of 0."""
    if not isinstance(value, (int, float)) or not isinstance(divisor, (int, float)) or divisor == 0:
        return False
    if isinstance(value, float) or isinstance(divisor, float):
        return math.isfinite(value) and math.fmod(value, divisor) == 0
    return value % divisor == 0


@takes(text, text)
def is_starting(runtime: Runtime, value: str, start: str) -> bool:
    """Text that begins with another."""
    return value.startswith(start)


@takes(text, text)
def is_ending(runtime: Runtime, value: str, end: str) -> bool:
    """Text that ends with another."""
    return value.endswith(end)


@takes(anything, anything)
def is_equal(runtime: Runtime, value: Any, other: Any) -> bool:
    """Equal."""
    return equal(value, other, runtime)


@takes(anything, anything)
def is_unequal(runtime: Runtime, value: Any, other: Any) -> bool:
    """Not equal."""
    return not equal(value, other, runtime)


@takes(anything, anything)
def is_in(runtime: Runtime, value: Any, container: Any) -> bool:
    """Contained in another value."""
    try:
        return contains(container, value, runtime)
    except TemplateError as error:
        if error.kind != "invalid operation":
            raise
        return False


@takes(anything, anything)
def is_same(runtime: Runtime, value: Any, other: Any) -> bool:
    """Equal and of the same kind."""
    return identical(value, other)


@takes(string)
def is_lower(runtime: Runtime, value: str) -> bool:
    """Every character is a lower-case letter."""
    runtime.charge(len(value) >> 2)
    return all(char.islower() for char in value)


@takes(string)
def is_upper(runtime: Runtime, value: str) -> bool:
    """Every character is an upper-case letter."""
    runtime.charge(len(value) >> 2)
    return all(char.isupper() for char in value)


@takes(anything)
def is_true(runtime: Runtime, value: Any) -> bool:
    """The boolean true."""
    return value is True


@takes(anything)
def is_false(runtime: Runtime, value: Any) -> bool:
    """The boolean false."""
    return value is False


@takes(string)
def is_filter(runtime: Runtime, value: str) -> bool:
    """Name of a filter."""
    return value in runtime.filters


@takes(string)
def is_test(runtime: Runtime, value: str) -> bool:
    """Name of a test."""
    return value in runtime.tests


LESS = _order(lambda order: order < 0)
LESS_OR_EQUAL = _order(lambda order: order <= 0)
GREATER = _order(lambda order: order > 0)
GREATER_OR_EQUAL = _order(lambda order: order >= 0)

PREDICATES: dict[str, Callee] = {
    "boolean": _kind_is("bool"),
    "defined": is_defined,
    "divisibleby": is_divisible,
    "endingwith": is_ending,
    "startingwith": is_starting,
    "eq": is_equal,
    "equalto": is_equal,
    "==": is_equal,
    "ne": is_unequal,
    "!=": is_unequal,
    "lt": LESS,
    "lessthan": LESS,
    "<": LESS,
    "le": LESS_OR_EQUAL,
    "<=": LESS_OR_EQUAL,
    "gt": GREATER,
    "greaterthan": GREATER,
    ">": GREATER,
    "ge": GREATER_OR_EQUAL,
    ">=": GREATER_OR_EQUAL,
    "escaped": is_safe,
    "safe": is_safe,
    "even": is_even,
    "odd": is_odd,
    "false": is_false,
    "true": is_true,
    "filter": is_filter,
    "test": is_test,
    "float": is_float,
    "in": is_in,
    "int": is_integer,
    "integer": is_integer,
    "iterable": is_iterable,
    "lower": is_lower,
    "upper": is_upper,
    "mapping": _kind_is("map"),
    "none": is_none,
    "number": _kind_is("number"),
    "sameas": is_same,
    "sequence": _kind_is("sequence"),
    "string": _kind_is("string"),
    "undefined": is_undefined,
}
