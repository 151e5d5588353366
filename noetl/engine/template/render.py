"""Rendering as the engine uses it: text, coercion, whole values, pipelines (spec 30, sections 5.1, 5.3, 5.4, 5.8)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import orjson

from noetl.engine.template.builtins import FILTERS, FUNCTIONS, TESTS
from noetl.engine.template.compiled import Template, TemplateCache
from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.lexer import WHITE_SPACE
from noetl.engine.template.limits import DEFAULT_LIMITS, Limits, size_of
from noetl.engine.template.operators import get_item
from noetl.engine.template.printing import text_of
from noetl.engine.template.runtime import Runtime
from noetl.engine.template.values import (
    INT64_MAX,
    INT64_MIN,
    NONE,
    Namespace,
    Sequence,
    TemplateObject,
    WideInteger,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CACHE = TemplateCache(capacity=256 * 1024)
_INTEGER = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None, "None": None}
_NUL_ESCAPE = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_MARKS = re.compile("\ue000+")
_DEFERRED = re.compile(r"(?<![A-Za-z0-9_])(?:_prev|_results)(?![A-Za-z0-9_])")


def is_template(text: str) -> bool:
    """Whether a string is rendered at all: it has ``{{`` and ``}}``, or ``{%`` and ``%}``, in any order (5.1)."""
    return ("{{" in text and "}}" in text) or ("{%" in text and "%}" in text)


def coerce(text: str) -> Any:
    """The value that a rendered text stands for: JSON list or object, boolean, number, null, else the text (5.3)."""
    stripped = text.strip(WHITE_SPACE)
    if not stripped:
        return None
    first = stripped[0]
    if first in "{[":
        if stripped[-1] == ("}" if first == "{" else "]"):
            try:
                return orjson.loads(stripped)
            except orjson.JSONDecodeError:
                return text
        return text
    if first in "0123456789+-.":
        return _coerce_number(stripped, text)
    return _WORDS.get(stripped, text)


def _coerce_number(stripped: str, text: str) -> Any:
    # The lengths keep int() and float() cheap; no number of 64 bit needs more significant digits than zeros allow.
    if _INTEGER.fullmatch(stripped):
        digits = stripped.lstrip("+-").lstrip("0")
        if len(digits) <= 19:
            number = int(digits or "0")
            number = -number if stripped[0] == "-" else number
            if INT64_MIN <= number <= INT64_MAX:
                return number
    if _FLOAT.fullmatch(stripped):
        number = float(stripped)
        if math.isfinite(number):
            return number
    return text


def _storable(text: str) -> str:
    """The text, unless it has a NUL character, which no JSON column of PostgreSQL can hold."""
    if "\0" in text:
        raise invalid("the result contains a NUL character")
    return text


def _value_of(text: str) -> Any:
    value = coerce(_storable(text))
    if isinstance(value, (list, dict)) and _NUL_ESCAPE.search(text):
        raise invalid("the result contains a NUL character")
    return value


class _Renderer:
    """Renders any number of strings against one context within one budget."""

    def __init__(self, context: Mapping[str, Any], limits: Limits) -> None:
        self._context = context
        self._limits = limits
        self._runtime: Runtime | None = None

    def _prepared(self, template: Template) -> Runtime:
        runtime = self._runtime
        if runtime is None:
            runtime = self._runtime = Runtime(self._context, self._limits, FILTERS, TESTS, FUNCTIONS)
        else:
            runtime.scopes = [{}]
            runtime.parts = []
            runtime.output_size = 0
        runtime.blocks = template.blocks
        return runtime

    def text(self, source: str) -> str:
        """Printed output of a template; a string that is none is returned unchanged."""
        if not is_template(source):
            return source
        template = _CACHE.get(source)
        runtime = self._prepared(template)
        template.run(runtime)
        return "".join(runtime.parts)

    def coerced(self, source: str) -> Any:
        """Value of a string in value position."""
        if not is_template(source):
            return _value_of(source)
        template = _CACHE.get(source)
        if template.lone is None:
            runtime = self._prepared(template)
            template.run(runtime)
            return _value_of("".join(runtime.parts))
        path = template.path
        if path is not None and path[0] in self._context:
            value = self._context[path[0]]
            for key in path[1:]:
                value = get_item(value, key)
            if type(value) in (dict, list):
                return value
        else:
            value = template.lone(self._prepared(template))
        return self._lone_value(template, value)

    def _lone_value(self, template: Template, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return _value_of(f"{template.before}{value}{template.after}")
        if type(value) is int and INT64_MIN <= value <= INT64_MAX:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, (list, dict, Namespace)):
            if template.selects and type(value) in (dict, list):
                return value
            exported = _Export(self._prepared(template)).value(value)
            if exported is not _NOT_JSON:
                return exported
        if type(value) is int:
            return float(value)
        return coerce(f"{template.before}{text_of(value, self._prepared(template))}{template.after}")

    def value(self, value: Any, *, deferring: bool = False) -> Any:
        """A JSON value with all strings rendered and coerced; ``deferring`` keeps the blocks of 5.8."""
        if isinstance(value, str):
            return self.deferred(value) if deferring else self.coerced(value)
        if isinstance(value, dict):
            return self._mapping(value, deferring)
        if isinstance(value, list):
            return [self.value(item, deferring=deferring) for item in value]
        return value

    def _mapping(self, mapping: dict[str, Any], deferring: bool) -> dict[str, Any]:
        if not any(map(is_template, mapping)):
            return {key: self.value(item, deferring=deferring) for key, item in mapping.items()}
        # Of two keys that render alike the one whose source sorts last wins; nothing in a key is deferred.
        return {_storable(self.text(key)): self.value(mapping[key], deferring=deferring) for key in sorted(mapping)}

    def deferred(self, source: str) -> Any:
        """A string of a pipeline: with a deferred block it stays a string, else it is coerced."""
        blocks = list(_deferred_blocks(source))
        if not blocks:
            return self.coerced(source)
        # A mark of private-use characters that the source does not have; filters that change letters leave it alone.
        mark = "\ue000" * (1 + max(map(len, _MARKS.findall(source)), default=0))
        parts: list[str] = []
        position = 0
        for index, (start, end) in enumerate(blocks):
            parts.append(f"{source[position:start]}{mark}{index}\ue001")
            position = end
        rendered = self.text("".join(parts) + source[position:])

        def restore(match: re.Match[str]) -> str:
            start, end = blocks[int(match.group(1))]
            return source[start:end]

        return _storable(re.sub(f"{mark}([0-9]+)\ue001", restore, rendered))


def _deferred_blocks(source: str) -> Iterator[tuple[int, int]]:
    """Places of the blocks, from ``{{`` to the next ``}}``, that name ``_prev`` or ``_results``."""
    end = 0
    while (start := source.find("{{", end)) >= 0:
        close = source.find("}}", start + 2)
        if close < 0:
            return
        end = close + 2
        if _DEFERRED.search(source, start, end):
            yield start, end


_NOT_JSON = object()


class _Export:
    """Turns a container that a template built into JSON values, sharing what needs no change."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._size = 0

    def _grow(self, size: int) -> None:
        self._size += size
        self._runtime.charge(1 + (size >> 6))
        if self._size > self._runtime.size:
            self._runtime.allocate(self._size)

    def value(self, value: Any) -> Any:
        """The JSON value; ``_NOT_JSON`` when it has none (infinite numbers, keys that are no strings, functions)."""
        self._grow(size_of(value) if isinstance(value, str) else 8)
        if value is None or value is NONE:
            return None
        if isinstance(value, str):
            return _storable(str(value))
        if isinstance(value, bool):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else _NOT_JSON
        if isinstance(value, WideInteger):
            return float(value)
        if isinstance(value, int):
            return value
        if isinstance(value, list):
            return self._list(value)
        if isinstance(value, Namespace):
            return self._mapping(value.attributes)
        if isinstance(value, dict):
            return self._mapping(value)
        assert isinstance(value, TemplateObject)
        return _NOT_JSON

    def _list(self, items: list[Any]) -> Any:
        if isinstance(items, Sequence) and items.opaque:
            return _NOT_JSON
        exported = [self.value(item) for item in items]
        return _NOT_JSON if any(item is _NOT_JSON for item in exported) else exported

    def _mapping(self, mapping: dict[Any, Any]) -> Any:
        result: dict[str, Any] = {}
        for key, item in mapping.items():
            exported = self.value(item)
            if exported is _NOT_JSON or not isinstance(key, str):
                return _NOT_JSON
            self._grow(size_of(key))
            result[str(key)] = exported
        return result


def render_text(source: str, context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> str:
    """Render a string to text; a string that is no template comes back unchanged. Raises TemplateError."""
    try:
        return _Renderer(context, limits).text(source)
    except RecursionError:
        raise invalid("recursion limit exceeded") from None


def render_and_coerce(source: str, context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> Any:
    """Render a string in value position (5.3). Raises TemplateError.

    A lone ``{{ expression }}`` with a sequence or map yields that value, undefined and none as None; a container of the
    context is returned as it is, not copied.
    """
    try:
        return _Renderer(context, limits).coerced(source)
    except RecursionError:
        raise invalid("recursion limit exceeded") from None


def render_value(value: Any, context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> Any:
    """Render every string of a JSON value, keys as text; ``limits`` hold for all of it together.

    Raises TemplateError.
    """
    try:
        return _Renderer(context, limits).value(value)
    except RecursionError:
        raise invalid("recursion limit exceeded") from None


def render_pipeline(config: list[Any], context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """Render a pipeline; blocks that name ``_prev`` or ``_results`` are left for the worker (5.8).

    Raises TemplateError.
    """
    try:
        return _Renderer(context, limits).value(config, deferring=True)
    except RecursionError:
        raise invalid("recursion limit exceeded") from None


__all__ = [
    "TemplateError",
    "coerce",
    "is_template",
    "render_and_coerce",
    "render_pipeline",
    "render_text",
    "render_value",
]
