"""The filter ``format``: printf-style text (spec 30, section 5.6)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from noetl.engine.template.arguments import string
from noetl.engine.template.errors import invalid, missing_argument
from noetl.engine.template.printing import debug_text, text_of
from noetl.engine.template.values import kind_of

if TYPE_CHECKING:
    from noetl.engine.template.runtime import Runtime

_SPECIFICATION = re.compile(
    r"%(?:\((?P<name>[^)]*)\))?(?P<flags>[-+ #0]*)(?P<width>[0-9]*)(?:\.(?P<precision>[0-9]*))?"
)
_INTEGER_TYPES = {
    "d": "decimal",
    "i": "decimal",
    "u": "decimal",
    "o": "octal",
    "x": "hexadecimal",
    "X": "hexadecimal",
}
_FLOAT_TYPES = frozenset("eEfFgG")
_MAX_DIGITS = 6


def format_text(runtime: Runtime, arguments: list[Any]) -> str:
    """``"%s %05.2f %(name)d"|format(...)``: the arguments by place, or of the last argument by name."""
    if not arguments:
        raise missing_argument()
    pattern = string(arguments[0], runtime)
    values = arguments[1:]
    parts: list[str] = []
    size = 0
    position = taken = 0
    while (start := pattern.find("%", position)) >= 0:
        parts.append(pattern[position:start])
        if pattern.startswith("%%", start):
            parts.append("%")
            position = start + 2
            continue
        match = _SPECIFICATION.match(pattern, start)
        assert match is not None
        end = match.end()
        if end >= len(pattern):
            raise invalid(f"incomplete format spec at offset {start + 1}; missing conversion type")
        conversion = pattern[end]
        offset = start + 1
        if conversion not in "srdiuoxXeEfFgGc":
            raise invalid(f"invalid conversion type '{conversion}' in format spec at offset {offset}")
        if match["name"] is not None:
            value = _named(values, match["name"], start + len(match["name"]) + 3)
        elif taken < len(values):
            value = values[taken]
            taken += 1
        else:
            raise invalid(f"missing an argument for format spec at offset '{offset}'")
        piece = _convert(runtime, match, conversion, value, offset)
        size += len(piece)
        runtime.allocate(size)
        parts.append(piece)
        position = end + 1
    parts.append(pattern[position:])
    return runtime.text("".join(parts))


def _named(values: list[Any], name: str, offset: int) -> Any:
    mapping = values[-1] if values else None
    if not isinstance(mapping, dict) or name not in mapping:
        raise invalid(f"missing an argument for format spec at offset '{offset}'")
    return mapping[name]


def _convert(runtime: Runtime, match: re.Match[str], conversion: str, value: Any, offset: int) -> str:
    for digits in (match["width"], match["precision"] or ""):
        if len(digits) > _MAX_DIGITS:
            raise invalid(f"width or precision in format spec at offset {offset} is too large")
    width = int(match["width"] or 0)
    precision = int(match["precision"] or 0) if match["precision"] is not None else None
    runtime.allocate(width + (precision or 0))
    flags = match["flags"]
    specification = f"%{flags}{match['width']}" + (f".{precision}" if precision is not None else "")
    if conversion in _INTEGER_TYPES:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(offset, value, _INTEGER_TYPES[conversion], conversion)
        return (specification + conversion) % int(value)
    if conversion in _FLOAT_TYPES:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(offset, value, "float", conversion)
        number = float(value)
        if not math.isfinite(number):
            specification = specification.replace("0", "", 1) if flags else specification
        return (specification + conversion) % number
    if conversion == "c":
        text = _character(value, offset)
    else:
        text = debug_text(value, runtime) if conversion == "r" else text_of(value, runtime)
    return (
        "%" + flags.replace("0", "") + match["width"] + (f".{precision}" if precision is not None else "") + "s"
    ) % text


def _character(value: Any, offset: int) -> str:
    if isinstance(value, str) and len(value) == 1:
        return value
    if (
        isinstance(value, int)
        and not isinstance(value, bool)
        and 0 <= value < 0x110000
        and not 0xD800 <= value < 0xE000
    ):
        return chr(value)
    raise _wrong(offset, value, "character", "c")


def _wrong(offset: int, value: Any, name: str, conversion: str) -> Exception:
    kind = "float" if isinstance(value, float) else "integer" if type(value) is int else kind_of(value)
    return invalid(
        f"invalid format spec at offset {offset}; '{kind}' cannot be formatted in {name} format ('{conversion}')"
    )
