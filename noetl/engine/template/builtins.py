"""The names that every template knows: filters, tests, functions (spec 30, section 5.6: the list is complete)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from noetl.engine.template import collection_filters as collections
from noetl.engine.template import number_filters as numbers
from noetl.engine.template import text_filters as texts
from noetl.engine.template.arguments import anything, signed, takes
from noetl.engine.template.errors import invalid
from noetl.engine.template.format_filter import format_text
from noetl.engine.template.predicates import PREDICATES
from noetl.engine.template.printing import debug_text
from noetl.engine.template.runtime import Function, Runtime
from noetl.engine.template.values import Namespace, Sequence, kind_of

MAX_RANGE = 100_000


@takes(signed, signed, signed, optional=2)
def make_range(runtime: Runtime, start: int, stop: int | None, step: int | None) -> Sequence:
    """``range(stop)`` or ``range(start, stop, step=1)``, at most 100,000 numbers."""
    if stop is None:
        start, stop = 0, start
    if step == 0:
        raise invalid("cannot create range with step of 0")
    numbers_in_range = range(start, stop, step or 1)
    if len(numbers_in_range) > MAX_RANGE:
        raise invalid("range has too many elements")
    runtime.items(len(numbers_in_range) * 5)
    return Sequence(numbers_in_range)


def make_dict(runtime: Runtime, arguments: list[Any]) -> dict[Any, Any]:
    """``dict(map, name=value, ...)``."""
    result: dict[Any, Any] = {}
    for value in arguments:
        if value is None:
            continue
        if not isinstance(value, dict):
            raise invalid()
        runtime.items(8 * len(value))
        result.update(value)
    return result


@takes(anything, optional=1)
def make_namespace(runtime: Runtime, value: Any) -> Namespace:
    """``namespace(name=value, ...)``: an object with attributes that can be set."""
    if value is None:
        return Namespace({})
    if not isinstance(value, dict):
        raise invalid(f"expected object or keyword arguments, got {kind_of(value)}")
    runtime.items(8 * len(value))
    return Namespace(dict(value))


def debug(runtime: Runtime, arguments: list[Any]) -> str:
    """Debug form of the arguments; without arguments of the whole context."""
    value: Any = dict(runtime.context)
    if arguments:
        value = arguments[0] if len(arguments) == 1 else arguments
    return runtime.text(debug_text(value, runtime, indent=True))


FILTERS = MappingProxyType(
    {
        "abs": numbers.absolute,
        "attr": collections.attr,
        "b64decode": texts.b64decode,
        "b64encode": texts.b64encode,
        "batch": collections.batch,
        "bool": numbers.to_bool,
        "capitalize": texts.capitalize,
        "chain": collections.chain,
        "count": texts.character_count,
        "d": collections.jinja_default,
        "default": collections.default,
        "dictsort": collections.dictsort,
        "e": texts.escape,
        "escape": texts.escape,
        "first": collections.first,
        "float": numbers.to_float,
        "format": format_text,
        "fromjson": texts.fromjson,
        "get": collections.get,
        "groupby": collections.groupby,
        "indent": texts.indent,
        "int": numbers.to_int,
        "items": collections.items,
        "join": texts.join,
        "keys": collections.keys,
        "last": collections.last,
        "length": texts.length,
        "lines": texts.lines,
        "list": collections.to_list,
        "lower": texts.lower,
        "map": collections.map_filter,
        "max": collections.maximum,
        "min": collections.minimum,
        "pprint": texts.pprint,
        "reject": collections.reject,
        "rejectattr": collections.rejectattr,
        "replace": texts.replace,
        "reverse": collections.reverse,
        "round": numbers.round_number,
        "safe": collections.identity,
        "select": collections.select,
        "selectattr": collections.selectattr,
        "slice": collections.slice_into,
        "sort": collections.sort,
        "split": texts.split,
        "string": texts.to_string,
        "sum": numbers.total,
        "title": texts.title,
        "tojson": texts.tojson,
        "trim": texts.trim,
        "unique": collections.unique,
        "upper": texts.upper,
        "values": collections.values,
        "zip": collections.zip_filter,
    }
)
TESTS = MappingProxyType(PREDICATES)
FUNCTIONS = MappingProxyType(
    {
        "debug": Function("debug", debug),
        "dict": Function("dict", make_dict),
        "namespace": Function("namespace", make_namespace),
        "range": Function("range", make_range),
    }
)
