"""JSON text and template values (filters ``tojson`` and ``fromjson``; spec 30, section 5.6)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import orjson

from noetl.engine.template.errors import invalid
from noetl.engine.template.printing import float_text, text_of
from noetl.engine.template.values import NONE, Keywords, Namespace, Sequence, TemplateObject, admit, sorted_keys

if TYPE_CHECKING:
    from noetl.engine.template.limits import Budget

_REASONS = {
    "Expecting value": "expected value",
    "Expecting ':' delimiter": "expected `:`",
    "Extra data": "trailing characters",
    "Expecting property name enclosed in double quotes": "key must be a string",
    "Illegal trailing comma before end of object": "trailing comma",
    "Illegal trailing comma before end of array": "trailing comma",
}
_LITERALS = ("true", "false", "null")
_NUMBER = re.compile(r"-?[0-9.]+(?:[eE][+-]?[0-9]+)?")


class _Writer:
    """Collects JSON text within a budget."""

    def __init__(self, budget: Budget) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.budget = budget

    def write(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)
        self.budget.charge(1 + (len(text) >> 6))
        if self.size > self.budget.size:
            self.budget.allocate(self.size)

    def value(self, value: Any) -> None:
        if value is None or value is NONE:
            self.write("null")
        elif isinstance(value, bool):
            self.write("true" if value else "false")
        elif isinstance(value, float):
            self.write(_number(value))
        elif isinstance(value, int):
            self.write(int.__repr__(value))
        elif isinstance(value, str):
            self.write(quote(value))
        elif isinstance(value, Sequence) and value.opaque:
            self.write(quote(text_of(value, self.budget)))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.write("," if index else "[")
                self.value(admit(item))
            self.write("]" if value else "[]")
        elif isinstance(value, dict):
            self.mapping(value)
        elif isinstance(value, Namespace):
            self.mapping(value.attributes)
        else:
            assert isinstance(value, TemplateObject)
            self.write(quote(value.text()))

    def mapping(self, mapping: dict[Any, Any]) -> None:
        for index, key in enumerate(sorted_keys(mapping)):
            self.write("," if index else "{")
            self.write(quote(text_of(key, self.budget)) + ":")
            self.value(admit(mapping[key]))
        self.write("}" if mapping else "{}")


def quote(text: str) -> str:
    """A JSON string literal."""
    return orjson.dumps(str(text)).decode()


def _number(value: float) -> str:
    """A float with an integral value as an integer, infinities and NaN as strings (JSON has no such numbers)."""
    if not math.isfinite(value):
        return f'"{float_text(value)}"'
    if value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return orjson.dumps(value).decode()


def write_json(value: Any, budget: Budget) -> str:
    """Compact JSON with ascending keys; undefined and none are null, objects of the template their printed form."""
    writer = _Writer(budget)
    writer.value(dict(value) if isinstance(value, Keywords) else value)
    return "".join(writer.parts)


def read_json(text: str, budget: Budget) -> Any:
    """The value of a JSON text; TemplateError ``fromjson error: <reason> at line L column C``."""
    budget.allocate(4 * len(text))
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid(f"fromjson error: {_reason(text, error)}") from None


def _reason(text: str, error: json.JSONDecodeError) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as located:
        error = located
    except RecursionError:
        return "recursion limit exceeded"
    position, rest = error.pos, text[error.pos :].rstrip()
    if error.msg.startswith("Unterminated string"):
        reason, position = "EOF while parsing a string", len(text)
    elif not rest or (error.msg == "Expecting value" and any(word.startswith(rest) for word in _LITERALS)):
        opened = max(text.rfind("["), text.rfind("{"))
        what = "a value" if error.msg == "Expecting value" else "a list" if text[opened] == "[" else "an object"
        reason, position = f"EOF while parsing {what}", len(text)
    elif error.msg.startswith("number is infinity"):
        number = _NUMBER.match(text, error.pos)
        reason, position = "number out of range", number.end() if number else error.pos + 1
    else:
        reason = _REASONS.get(error.msg, error.msg[:1].lower() + error.msg[1:])
        position += 1
    line = text.count("\n", 0, position) + 1
    return f"{reason} at line {line} column {position - (text.rfind(chr(10), 0, position) + 1)}"
