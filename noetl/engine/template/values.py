"""The values of a template: their kinds, truth, equality and order (spec 30, sections 5.2 and 5.5).

A value is one of: Python ``None`` (the dialect's *undefined*, which is also what JSON null becomes), ``NONE`` (the
literal ``none``), ``bool``, ``int``, ``float``, ``str``, ``list``, ``dict``, or a ``TemplateObject``. Context values
are used as they are, never copied; only an integer beyond 64 bit is read as a float (``admit``).
"""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import math
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any

from noetl.engine.template.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from noetl.engine.template.limits import Budget

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1


class NoneLiteral:
    """Type of ``NONE``, the value of the literals ``none`` and ``None``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "none"

    def __bool__(self) -> bool:
        return False


NONE = NoneLiteral()


class WideInteger(int):
    """An integer beyond 64 bit that the template computed; a plain one is context data and reads as a float."""

    __slots__ = ()


class SafeString(str):
    """Text that automatic escaping leaves alone."""

    __slots__ = ()


class Sequence(list[Any]):
    """An iterable that is no sequence: a range, a slice, sum, multiple or reversal of sequences, rows of ``zip``."""

    __slots__ = ("opaque",)

    def __init__(self, items: list[Any] | range, opaque: bool = False) -> None:
        super().__init__(items)
        self.opaque = opaque


class Group(list[Any]):
    """A pair ``[value, elements]`` of ``groupby`` that also answers to ``grouper`` and ``list``."""

    __slots__ = ()


class Keywords(dict[str, Any]):
    """Keyword arguments of a call, passed as its last positional argument."""

    __slots__ = ()


class TemplateObject:
    """Base of values that exist only inside a template (macros, namespaces, ``loop``, functions)."""

    __slots__ = ()
    kind = "map"

    def attribute(self, name: Any) -> Any:
        """Value of ``object.name``; None when there is none."""
        return None

    def has(self, name: Any) -> bool:
        """Whether ``name in object``."""
        return self.attribute(name) is not None

    def keys(self) -> list[Any]:
        """What iterating the object yields."""
        return []

    def text(self) -> str:
        """Printed form."""
        return ""


class Namespace(TemplateObject):
    """Object whose attributes ``{% set ns.x = ... %}`` changes."""

    __slots__ = ("attributes",)

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes

    def attribute(self, name: Any) -> Any:
        return admit(self.attributes.get(name)) if isinstance(name, str) else None

    def has(self, name: Any) -> bool:
        return isinstance(name, str) and name in self.attributes

    def keys(self) -> list[Any]:
        return sorted(self.attributes)


_KINDS: dict[type, str] = {
    type(None): "undefined",
    NoneLiteral: "none",
    bool: "bool",
    int: "number",
    WideInteger: "number",
    float: "number",
    str: "string",
    SafeString: "string",
    list: "sequence",
    Group: "sequence",
    Sequence: "iterator",
    dict: "map",
    Keywords: "map",
}
_RANKS: dict[str, float] = {
    "undefined": 0,
    "none": 1,
    "bool": 2,
    "number": 3,
    "string": 4,
    "sequence": 6,
    "map": 7,
    "iterator": 7.5,
    "plain object": 8,
}


def kind_of(value: Any) -> str:
    """Name of the value's kind as error texts print it."""
    kind = _KINDS.get(type(value))
    return kind if kind is not None else value.kind


def admit(value: Any) -> Any:
    """A value as it enters a template: an integer beyond 64 bit becomes a float, everything else stays what it is."""
    if type(value) is int and not INT64_MIN <= value <= INT64_MAX:
        return float(value)
    return value


def integer(value: int) -> int:
    """Result of integer arithmetic."""
    return value if INT64_MIN <= value <= INT64_MAX else WideInteger(value)


def truth(value: Any) -> bool:
    """Truth as ``if`` and ``and`` see it: empty, zero, undefined and none are false, NaN and objects true."""
    if isinstance(value, TemplateObject):
        return True
    return bool(value)


def elements(value: Any) -> Iterator[Any]:
    """Iterate a value: a map yields its keys in ascending order, a string its characters, undefined and none nothing.

    Raises TemplateError for numbers and booleans.
    """
    if isinstance(value, list):
        return map(admit, value)
    if value is None or value is NONE:
        return iter(())
    if isinstance(value, str):
        return iter(value)
    if isinstance(value, dict):
        return iter(sorted_keys(value))
    if isinstance(value, TemplateObject) and value.kind == "map":
        return iter(value.keys())
    raise invalid(f"{kind_of(value)} is not iterable")


def item_count(value: Any) -> int | None:
    """Number of elements or characters; None for values that have no length."""
    if isinstance(value, (str, list, dict)):
        return len(value)
    return len(value.keys()) if isinstance(value, TemplateObject) and value.kind == "map" else None


def sorted_keys(mapping: dict[Any, Any]) -> list[Any]:
    """The keys of a map in ascending order (the order of every iteration, spec 30 section 1.4)."""
    try:
        return sorted(mapping)
    except TypeError:
        return sorted(mapping, key=cmp_to_key(_compare_scalars))


def identical(left: Any, right: Any) -> bool:
    """The test ``sameas``: same kind of number and same value; containers only when they are one object."""
    if isinstance(left, (list, dict, TemplateObject)):
        return left is right
    if isinstance(left, float) is not isinstance(right, float):
        return False
    return kind_of(left) == kind_of(right) and bool(left == right)


def equal(left: Any, right: Any, budget: Budget) -> bool:
    """Equality: numbers and booleans by value, undefined and none only with themselves, containers deeply."""
    if isinstance(left, Namespace):
        left = left.attributes
    if isinstance(right, Namespace):
        right = right.attributes
    if isinstance(left, list):
        if not isinstance(right, list) or len(left) != len(right):
            return False
        budget.charge(len(left))
        return all(equal(admit(a), admit(b), budget) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        if not isinstance(right, dict) or len(left) != len(right):
            return False
        budget.charge(len(left))
        return all(key in right and equal(admit(item), admit(right[key]), budget) for key, item in left.items())
    if isinstance(left, str) and isinstance(right, str):
        budget.charge(min(len(left), len(right)) >> 8)
    return bool(left == right)


def compare(left: Any, right: Any, budget: Budget) -> int:
    """Order of two values (negative, zero, positive): by kind as in ``_RANKS``, then by value."""
    if isinstance(left, Namespace):
        left = left.attributes
    if isinstance(right, Namespace):
        right = right.attributes
    if isinstance(left, list) and isinstance(right, list) and isinstance(left, Sequence) is isinstance(right, Sequence):
        for a, b in zip(left, right, strict=False):
            budget.charge(1)
            if order := compare(admit(a), admit(b), budget):
                return order
        return _sign(len(left), len(right))
    if isinstance(left, dict) and isinstance(right, dict):
        keys, others = sorted_keys(left), sorted_keys(right)
        for key, other in zip(keys, others, strict=False):
            budget.charge(1)
            if order := compare(key, other, budget) or compare(admit(left[key]), admit(right[other]), budget):
                return order
        return _sign(len(keys), len(others))
    if isinstance(left, str) and isinstance(right, str):
        budget.charge(min(len(left), len(right)) >> 8)
    return _compare_scalars(left, right)


def _sign(left: Any, right: Any) -> int:
    return (left > right) - (left < right)


def _compare_scalars(left: Any, right: Any) -> int:
    rank, other = _RANKS[kind_of(left)], _RANKS[kind_of(right)]
    if rank != other:
        return _sign(rank, other)
    if isinstance(left, (int, float)):
        # A NaN from 0/0 sorts below everything, as a quiet NaN with its sign bit set does in a total order.
        return _sign((not math.isnan(left), left), (not math.isnan(right), right)) if left != right else 0
    return _sign(left, right) if isinstance(left, str) else 0


def sort_key(budget: Budget, convert: Callable[[Any], Any] = lambda value: value) -> Callable[[Any], Any]:
    """Key function for ``sorted`` that orders values by ``compare`` after ``convert``."""

    def order(left: Any, right: Any) -> int:
        budget.charge(1)
        return compare(left, right, budget)

    key = cmp_to_key(order)
    return lambda value: key(convert(value))
