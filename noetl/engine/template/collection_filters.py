"""Filters over sequences and maps (spec 30, section 5.6)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.template.arguments import anything, count, split_keywords, string, takes, text
from noetl.engine.template.errors import TemplateError, invalid, missing_argument, too_many_arguments
from noetl.engine.template.operators import get_item, get_path, pairs_of
from noetl.engine.template.values import (
    NONE,
    Group,
    Keywords,
    Namespace,
    Sequence,
    TemplateObject,
    compare,
    elements,
    equal,
    kind_of,
    sort_key,
    truth,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.engine.template.runtime import Runtime


def collect(value: Any, runtime: Runtime) -> list[Any]:
    """The elements of a value as a new list."""
    items = list(elements(value))
    runtime.items(len(items))
    runtime.charge(len(items))
    return items


@takes(anything, anything, optional=1)
def default(runtime: Runtime, value: Any, other: Any) -> Any:
    """``other`` (else an empty text) in place of undefined and none."""
    if value is None or value is NONE:
        return "" if other is None else other
    return value


def jinja_default(runtime: Runtime, arguments: list[Any]) -> Any:
    """``d(other="", falsy=false)``: ``other`` in place of undefined, with ``true`` also of everything false."""
    if len(arguments) > 3:
        raise too_many_arguments()
    value, other, falsy = [*arguments, None, None][:3]
    if value is None or (truth(falsy) and not truth(value)):
        return "" if other is None else other
    return value


def _first_of(name: str, value: Any, last: bool, runtime: Runtime) -> Any:
    if isinstance(value, (list, str)):
        if value:
            return get_item(value, -1 if last else 0)
        raise invalid("sequence is empty")
    try:
        items = list(elements(value))
    except TemplateError:
        raise invalid(f"{name} requires a sequence") from None
    if not items:
        raise invalid("sequence is empty")
    runtime.charge(len(items) >> 3)
    return items[-1 if last else 0]


@takes(anything)
def first(runtime: Runtime, value: Any) -> Any:
    """First element or character."""
    return _first_of("first", value, False, runtime)


@takes(anything)
def last(runtime: Runtime, value: Any) -> Any:
    """Last element or character."""
    return _first_of("last", value, True, runtime)


def _pairs(name: str, value: Any, runtime: Runtime) -> list[tuple[Any, Any]]:
    if isinstance(value, Namespace):
        value = value.attributes
    if isinstance(value, dict):
        runtime.charge(len(value))
        runtime.items(8 * len(value))
        return pairs_of(value)
    if isinstance(value, TemplateObject) and value.kind == "map":
        return [(key, value.attribute(key)) for key in elements(value)]
    raise invalid(f"{name} requires a mapping")


@takes(anything)
def keys(runtime: Runtime, value: Any) -> list[Any]:
    """Keys of a map, ascending."""
    return [key for key, _ in _pairs("keys", value, runtime)]


@takes(anything)
def values(runtime: Runtime, value: Any) -> list[Any]:
    """Values of a map, by ascending key."""
    return [item for _, item in _pairs("values", value, runtime)]


@takes(anything)
def items(runtime: Runtime, value: Any) -> list[Any]:
    """Pairs ``[key, value]`` of a map, by ascending key."""
    return [[key, item] for key, item in _pairs("items", value, runtime)]


@takes(anything, anything)
def get(runtime: Runtime, value: Any, key: Any) -> Any:
    """Item of a map or sequence, or undefined."""
    return get_item(value, key)


@takes(anything)
def identity(runtime: Runtime, value: Any) -> Any:
    """The value itself (``safe``)."""
    return value


@takes(anything)
def to_list(runtime: Runtime, value: Any) -> list[Any]:
    """The elements as a sequence."""
    try:
        return collect(value, runtime)
    except TemplateError as error:
        if error.kind != "invalid operation" or "not iterable" not in (error.detail or ""):
            raise
        raise invalid("cannot convert value to list") from None


def _extreme(value: Any, sign: int, runtime: Runtime) -> Any:
    best: Any = None
    for index, item in enumerate(to_list(runtime, [value])):
        runtime.charge(1)
        order = compare(item, best, runtime) * sign
        if index == 0 or order > 0 or (sign > 0 and order == 0):
            best = item
    return best


@takes(anything)
def maximum(runtime: Runtime, value: Any) -> Any:
    """Greatest element, undefined of none."""
    return _extreme(value, 1, runtime)


@takes(anything)
def minimum(runtime: Runtime, value: Any) -> Any:
    """Least element, undefined of none."""
    return _extreme(value, -1, runtime)


@takes(anything)
def reverse(runtime: Runtime, value: Any) -> Any:
    """A string, sequence or the keys of a map, backwards."""
    if isinstance(value, str):
        return runtime.text(value[::-1])
    if value is None or value is NONE:
        return value
    try:
        return Sequence(collect(value, runtime)[::-1])
    except TemplateError as error:
        if "not iterable" not in (error.detail or ""):
            raise
        raise invalid(f"cannot reverse values of type {kind_of(value)}") from None


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _same(value: Any) -> Any:
    return value


def _folding(keywords: dict[str, Any]) -> Callable[[Any], Any]:
    """Key function for text: as it is with ``case_sensitive``, else in lower case."""
    return _same if keywords.get("case_sensitive") else _folded


def sort(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """``sort(reverse=false, case_sensitive=false, attribute=none)``; several attributes with commas."""
    found = to_list(runtime, arguments[:1])
    positional, keywords = split_keywords(arguments, ("reverse", "case_sensitive", "attribute"))
    if len(positional) > 1:
        raise too_many_arguments()
    fold = _folding(keywords)
    attribute = keywords.get("attribute")
    if isinstance(attribute, str) and "," in attribute:
        paths = attribute.split(",")
        key = sort_key(runtime, lambda item: [fold(get_path(item, path, runtime)) for path in paths])
    elif attribute is not None:
        key = sort_key(runtime, lambda item: fold(get_path(item, attribute, runtime)))
    else:
        key = sort_key(runtime, fold)
    return sorted(found, key=key, reverse=bool(keywords.get("reverse")))


def dictsort(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """``dictsort(by="key", reverse=false, case_sensitive=false)``: pairs of a map, sorted."""
    if kind_of(arguments[0]) != "map":
        raise invalid("cannot convert value into pair list")
    positional, keywords = split_keywords(arguments, ("by", "reverse", "case_sensitive"))
    if len(positional) > 1:
        raise too_many_arguments()
    place = 1 if keywords.get("by") == "value" else 0
    fold = _folding(keywords)
    pairs = [[key, item] for key, item in _pairs("dictsort", positional[0], runtime)]
    ordered = sorted(
        pairs, key=sort_key(runtime, lambda pair: fold(pair[place])), reverse=bool(keywords.get("reverse"))
    )
    return list(ordered)


def unique(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """``unique(attribute=none, case_sensitive=false)``: the first of equal elements."""
    positional, keywords = split_keywords(arguments, ("attribute", "case_sensitive"))
    if len(positional) > 1:
        raise too_many_arguments()
    fold = _folding(keywords)
    attribute = keywords.get("attribute")
    kept: list[Any] = []
    hashed: set[Any] = set()
    others: list[Any] = []
    for item in collect(positional[0], runtime):
        key = fold(item if attribute is None else get_path(item, attribute, runtime))
        if isinstance(key, (list, dict)):
            if any(equal(key, other, runtime) for other in others):
                continue
            others.append(key)
        elif (isinstance(key, bool), key) in hashed:
            continue
        else:
            hashed.add((isinstance(key, bool), key))
        kept.append(item)
    return kept


def groupby(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """``groupby(attribute, default=none, case_sensitive=false)``: pairs of value and elements, by ascending value."""
    positional, keywords = split_keywords(arguments, ("attribute", "default", "case_sensitive"))
    attribute = positional[1] if len(positional) > 1 else keywords.get("attribute")
    if attribute is not None and attribute is not NONE:
        attribute = string(attribute, runtime)
    if len(positional) > 2:
        raise too_many_arguments()
    if attribute is None or attribute is NONE:
        raise TemplateError("missing argument", "missing keyword argument 'attribute'")
    fold = _folding(keywords)

    def key_of(item: Any) -> Any:
        value = get_path(item, attribute, runtime)
        return keywords.get("default") if value is None else value

    ordered = sorted(collect(positional[0], runtime), key=sort_key(runtime, lambda item: fold(key_of(item))))
    groups: list[Any] = []
    for item in ordered:
        key = key_of(item)
        if groups and equal(fold(groups[-1][0]), fold(key), runtime):
            groups[-1][0] = key
            groups[-1][1].append(item)
        else:
            groups.append(Group([key, Sequence([item])]))
    return groups


@takes(anything, count, anything, optional=1)
def batch(runtime: Runtime, value: Any, size: int, fill: Any) -> list[Any]:
    """Lists of ``size`` elements; the last one is filled up with ``fill``."""
    if size == 0:
        raise invalid("count cannot be 0")
    found = collect(value, runtime)
    groups = [found[start : start + size] for start in range(0, len(found), size)]
    runtime.items(8 * len(groups))
    if groups and fill is not None:
        runtime.items(size)
        groups[-1].extend([fill] * (size - len(groups[-1])))
    return list(groups)


@takes(anything, count, anything, optional=1)
def slice_into(runtime: Runtime, value: Any, number: int, fill: Any) -> list[Any]:
    """``number`` lists of nearly the same length; the shorter ones get ``fill``."""
    if number == 0:
        raise invalid("count cannot be 0")
    found = collect(value, runtime)
    runtime.items(8 * number)
    size, longer = divmod(len(found), number)
    result: list[Any] = []
    start = 0
    for index in range(number):
        end = start + size + (1 if index < longer else 0)
        part = found[start:end]
        if fill is not None and index >= longer:
            part.append(fill)
        result.append(part)
        start = end
    return result


def zip_filter(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """Lists of the elements at the same place, as many as the shortest argument has."""
    columns: list[list[Any]] = []
    for value in arguments:
        try:
            columns.append(collect(value, runtime))
        except TemplateError as error:
            if "not iterable" not in (error.detail or ""):
                raise
            raise invalid(f"zip filter argument must be iterable, got {kind_of(value)}") from None
    rows = min(len(column) for column in columns)
    runtime.items(rows * (len(columns) + 8))
    return Sequence([list(row) for row in zip(*columns, strict=False)])


def chain(runtime: Runtime, arguments: list[Any]) -> Any:
    """The arguments joined: maps to a map (later keys win), sequences to a sequence, others to an iterable."""
    if all(isinstance(value, dict) for value in arguments):
        merged: dict[Any, Any] = {}
        for value in arguments:
            runtime.items(8 * len(value))
            merged.update(value)
        return merged
    joined: list[Any] = []
    for value in arguments:
        joined.extend(collect(value, runtime) if isinstance(value, (list, dict, str, TemplateObject)) else [])
    if all(isinstance(value, list) for value in arguments):
        return joined
    return Sequence(joined, opaque=True)


@takes(anything, anything)
def attr(runtime: Runtime, value: Any, name: Any) -> Any:
    """Item of a value; unlike ``value[name]`` an error for undefined."""
    if value is None:
        raise TemplateError("undefined value")
    return get_item(value, name)


def map_filter(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """``map(filter, ...)`` or ``map(attribute=path, default=...)``."""
    rest = arguments[1:]
    keywords = rest[-1] if rest and isinstance(rest[-1], Keywords) else None
    if keywords is not None and "attribute" in keywords:
        if len(rest) > 1:
            raise too_many_arguments()
        split_keywords(rest, ("attribute", "default"))
        path, other = keywords["attribute"], keywords.get("default")
        strict = "default" not in keywords
        mapped = [get_path(item, path, runtime, strict=strict) for item in collect(arguments[0], runtime)]
        return [other if item is None else item for item in mapped]
    if not rest or keywords is rest[0]:
        raise invalid("filter name is required")
    if not isinstance(rest[0], str):
        raise invalid("filter name must be a string")
    apply = runtime.filters.get(rest[0])
    if apply is None:
        raise TemplateError("unknown filter")
    parameters = rest[1:]
    result: list[Any] = []
    for item in collect(arguments[0], runtime):
        runtime.charge(1)
        result.append(apply(runtime, [item, *parameters]))
    return result


def _select(runtime: Runtime, arguments: list[Any], wanted: bool, by_attribute: bool) -> list[Any]:
    if by_attribute:
        if len(arguments) < 2:
            raise missing_argument()
        path = text(arguments[1], runtime)
        rest = arguments[2:]
    else:
        path = ""
        rest = arguments[1:]
    holds = None
    if rest and rest[0] is not None and rest[0] is not NONE:
        holds = runtime.tests.get(text(rest[0], runtime))
        if holds is None:
            raise TemplateError("unknown test")
    kept: list[Any] = []
    for item in collect(arguments[0], runtime):
        runtime.charge(1)
        value = get_path(item, path, runtime, strict=True) if by_attribute else item
        result = truth(value) if holds is None else holds(runtime, [value, *rest[1:]])
        if result is wanted:
            kept.append(item)
    return kept


def select(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """Elements for which a test (default: truth) holds."""
    return _select(runtime, arguments, True, False)


def reject(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """Elements for which a test does not hold."""
    return _select(runtime, arguments, False, False)


def selectattr(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """Elements with an attribute for which a test holds."""
    return _select(runtime, arguments, True, True)


def rejectattr(runtime: Runtime, arguments: list[Any]) -> list[Any]:
    """Elements with an attribute for which a test does not hold."""
    return _select(runtime, arguments, False, True)
