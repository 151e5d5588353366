"""Filters that make text from values (spec 30, section 5.6)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from noetl.engine.template.arguments import anything, boolean, count, split_keywords, string, takes, text
from noetl.engine.template.errors import invalid
from noetl.engine.template.json_text import read_json, write_json
from noetl.engine.template.lexer import WHITE_SPACE
from noetl.engine.template.limits import size_of
from noetl.engine.template.printing import debug_text, escape_html, text_of
from noetl.engine.template.values import NONE, Namespace, SafeString, elements, kind_of

if TYPE_CHECKING:
    from noetl.engine.template.runtime import Runtime

_BASE64_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_WORD_BREAK = re.compile(r"([!-/:-@\[-`{-~\s]+)")


@takes(text)
def b64encode(runtime: Runtime, value: str) -> str:
    """Base64 of the UTF-8 text."""
    runtime.allocate(2 * size_of(value))
    return base64.b64encode(value.encode()).decode()


@takes(text)
def b64decode(runtime: Runtime, value: str) -> str:
    """UTF-8 text of a Base64 text with its padding."""
    runtime.charge(len(value) >> 2)
    problem = _base64_problem(value)
    if problem is not None:
        raise invalid(f"b64decode error: {problem}")
    try:
        decoded = binascii.a2b_base64(value)
        return runtime.text(decoded.decode())
    except UnicodeDecodeError as error:
        length = error.end - error.start
        if error.reason == "unexpected end of data":
            raise invalid(f"utf8 error: incomplete utf-8 byte sequence from index {error.start}") from None
        raise invalid(f"utf8 error: invalid utf-8 sequence of {length} bytes from index {error.start}") from None


def _base64_problem(value: str) -> str | None:
    body = value.rstrip("=")
    raw = body.encode()
    for offset, byte in enumerate(raw):
        if chr(byte) not in _BASE64_ALPHABET:
            return f"Invalid symbol {byte}, offset {offset}."
    if len(raw) % 4 == 1:
        return f"Invalid input length: {len(raw)}"
    if raw and len(raw) % 4:
        unused = 0b1111 if len(raw) % 4 == 2 else 0b11
        if _BASE64_ALPHABET.index(chr(raw[-1])) & unused:
            return f"Invalid last symbol {raw[-1]}, offset {len(raw) - 1}."
    padding = len(value) - len(body)
    return "Invalid padding" if padding != -len(raw) % 4 else None


@takes(anything)
def tojson(runtime: Runtime, value: Any) -> str:
    """Compact JSON, keys ascending."""
    return runtime.text(write_json(value, runtime))


@takes(text)
def fromjson(runtime: Runtime, value: str) -> Any:
    """Value of a JSON text."""
    return read_json(value, runtime)


@takes(text)
def to_string(runtime: Runtime, value: str) -> str:
    """The printed form."""
    return value


@takes(text)
def lower(runtime: Runtime, value: str) -> str:
    """Lower-case text."""
    return runtime.text(value.lower())


@takes(text)
def upper(runtime: Runtime, value: str) -> str:
    """Upper-case text (``ß`` becomes ``SS``)."""
    return runtime.text(value.upper())


@takes(text)
def trim(runtime: Runtime, value: str) -> str:
    """Text without surrounding white space."""
    return runtime.text(value.strip(WHITE_SPACE))


@takes(text, text, optional=1)
def split(runtime: Runtime, value: str, separator: str | None) -> list[str]:
    """Parts between a literal separator (default one blank), empty ones kept; an empty one cuts everywhere."""
    separator = " " if separator is None else separator
    pieces = value.count(separator) + 1
    runtime.allocate(64 * pieces + size_of(value))
    return value.split(separator) if separator else ["", *value, ""]


@takes(anything, text, optional=1)
def join(runtime: Runtime, value: Any, separator: str | None) -> str:
    """Printed elements with a separator between them."""
    try:
        items = elements(value)
    except Exception as error:
        raise invalid("join requires a sequence") from error
    separator = separator or ""
    parts: list[str] = []
    size = 0
    for item in items:
        part = text_of(item, runtime)
        parts.append(part)
        size += size_of(part) + size_of(separator)
        runtime.charge(1)
        if size > runtime.size:
            runtime.allocate(size)
    runtime.allocate(size)
    return separator.join(parts)


@takes(text)
def title(runtime: Runtime, value: str) -> str:
    """First letter of every word in upper case, the others in lower case."""
    runtime.charge(len(value) >> 2)
    words = _WORD_BREAK.split(value)
    return runtime.text("".join(word[:1].upper() + word[1:].lower() for word in words))


@takes(text)
def capitalize(runtime: Runtime, value: str) -> str:
    """First letter in upper case, all others in lower case."""
    return runtime.text(value[:1].upper() + value[1:].lower())


@takes(text, text, text)
def replace(runtime: Runtime, value: str, old: str, new: str) -> str:
    """Every occurrence of a text replaced by another."""
    occurrences = value.count(old)
    runtime.allocate(size_of(value) + occurrences * size_of(new))
    return value.replace(old, new)


@takes(text, count, boolean, boolean, optional=3)
def _indent(runtime: Runtime, value: str, width: int | None, first: bool | None, blank: bool | None) -> str:
    value = value.removesuffix("\n").removesuffix("\r")
    source = value.split("\n")
    pad_width = 4 if width is None else width
    runtime.allocate(size_of(value) + (pad_width + 64) * len(source))
    pad = " " * pad_width
    moved = [
        pad + line if (line or blank) and (index or first) else line
        for index, line in enumerate(item.removesuffix("\r") for item in source)
    ]
    return "\n".join(moved)


def indent(runtime: Runtime, values: list[Any]) -> str:
    """``indent(width=4, first=false, blank=false)``: lines after the first moved right, empty ones if ``blank``."""
    names = ("width", "first", "blank")
    positional, keywords = split_keywords(values, names)
    given = [*positional, *(keywords.get(name) for name in names[max(len(positional) - 1, 0) :])]
    return _indent(runtime, given)


@takes(string)
def lines(runtime: Runtime, value: str) -> list[str]:
    """The lines of a string, without their ends."""
    runtime.allocate(64 * (value.count("\n") + 1) + size_of(value))
    parts = value.split("\n")
    if parts[-1] == "":
        parts.pop()
    return [part.removesuffix("\r") for part in parts]


@takes(anything)
def escape(runtime: Runtime, value: Any) -> str:
    """Text safe for HTML."""
    if isinstance(value, SafeString):
        return value
    escaped = escape_html(text_of(value, runtime))
    return SafeString(runtime.text(escaped))


@takes(anything)
def pprint(runtime: Runtime, value: Any) -> str:
    """Debug form with one element per line."""
    return runtime.text(debug_text(value, runtime, indent=True))


@takes(anything)
def length(runtime: Runtime, value: Any) -> int:
    """UTF-8 bytes of a string, elements of anything else."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if value is None or value is NONE or isinstance(value, (bool, int, float)):
        raise invalid("length requires string, sequence, or mapping")
    return sum(1 for _ in elements(value)) if not isinstance(value, (list, dict)) else len(value)


@takes(anything)
def character_count(runtime: Runtime, value: Any) -> int:
    """Characters of a string, elements of anything else (``count``)."""
    if isinstance(value, Namespace):
        return len(value.attributes)
    if isinstance(value, (str, list, dict)):
        return len(value)
    raise invalid(f"cannot calculate length of value of type {kind_of(value)}")
