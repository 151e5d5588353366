"""How values print: the plain form and the debug form of spec 30, section 5.4."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import Any

from noetl.engine.template.limits import Budget, size_of
from noetl.engine.template.values import NONE, Namespace, NoneLiteral, Sequence, TemplateObject, admit, sorted_keys

_SIMPLE_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0"}
_PLAIN = re.compile(r"[ !#-\[\]-~]*")
# Spacing characters that nevertheless extend the one before (Other_Grapheme_Extend of Unicode 16).
_SPACING_EXTENDERS = frozenset(
    "\u09be\u09d7\u0b3e\u0b57\u0bbe\u0bd7\u0cc0\u0cc2\u0cc7\u0cc8\u0cca\u0ccb\u0cd5\u0cd6\u0d3e\u0d57\u0dcf"
    "\u0ddf\u1715\u1734\u1b35\u1b3b\u1b3d\u1b43\u1b44\u1baa\u1bf2\u1bf3\u200c\u302e\u302f\ua953\ua9c0\uff9e"
    "\uff9f\U000111c0\U00011235\U0001133e\U0001134d\U00011357\U000114b0\U000114bd\U000115af\U000116b6"
    "\U00011930\U0001193d\U00016ff0\U00016ff1\U0001d165\U0001d166\U0001d16d\U0001d16e\U0001d16f\U0001d170"
    "\U0001d171\U0001d172"
)
# Since Unicode 16 a spacing character, which the tables of Python still call a non-spacing one.
_RECLASSIFIED = "\U0001171e"


def float_text(number: float) -> str:
    """Shortest round-trip digits without an exponent and always with a point; ``inf``, ``-inf``, ``NaN``."""
    text = repr(number)
    if "e" in text:
        text = format(Decimal(text), "f")
        return text if "." in text else text + ".0"
    return "NaN" if text == "nan" else text


def float_debug(number: float) -> str:
    """Like ``float_text``, with an exponent for magnitudes below 1e-4 and from 1e16 on (``1e20``, ``1e-7``)."""
    text = repr(number)
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    return "NaN" if text == "nan" else text


def string_debug(text: str) -> str:
    """Quoted text with escapes; whatever is non-printable or combining becomes ``\\u{hex}``."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return '"' + "".join(map(_escape_character, text)) + '"'


def _escape_character(char: str) -> str:
    simple = _SIMPLE_ESCAPES.get(char)
    if simple is not None:
        return simple
    extends = unicodedata.category(char) in ("Mn", "Me") or char in _SPACING_EXTENDERS
    if char.isprintable() and (not extends or char == _RECLASSIFIED):
        return char
    return f"\\u{{{ord(char):x}}}"


def text_of(value: Any, budget: Budget) -> str:
    """The printed form of a value; it is accounted for unless the value is a string already."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float_text(value)
    if value is NONE:
        return "none"
    return debug_text(value, budget)


def debug_text(value: Any, budget: Budget, indent: bool = False) -> str:
    """The debug form; with ``indent`` one element per line (filter ``pprint``, function ``debug``)."""
    writer = _DebugWriter(budget, indent)
    writer.write_value(value, 0)
    return "".join(writer.parts)


class _DebugWriter:
    """Collects the parts of one debug form and stops when they exceed the limits."""

    def __init__(self, budget: Budget, indent: bool) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.budget = budget
        self.indent = indent

    def write(self, text: str) -> None:
        self.parts.append(text)
        size = size_of(text)
        self.size += size
        self.budget.charge(1 + (size >> 6))
        if self.size > self.budget.size:
            self.budget.allocate(self.size)

    def write_value(self, value: Any, depth: int) -> None:
        if isinstance(value, str):
            self.write(string_debug(value))
        elif isinstance(value, float):
            self.write(float_debug(value))
        elif value is None:
            self.write("undefined")
        elif isinstance(value, (bool, int, NoneLiteral)):
            self.write(text_of(value, self.budget))
        elif isinstance(value, Sequence) and value.opaque:
            self.write("<iterator>")
        elif isinstance(value, list):
            self._write_items("[", "]", [(None, item) for item in value], depth)
        elif isinstance(value, dict):
            pairs = [((key,), value[key]) for key in sorted_keys(value)]
            self._write_items("{", "}", pairs, depth)
        elif isinstance(value, Namespace):
            self.write_value(value.attributes, depth)
        elif isinstance(value, TemplateObject):
            self.write(value.text())
        else:
            raise TypeError(f"no value of a template: {type(value).__name__}")

    def _write_items(self, opening: str, closing: str, items: list[tuple[Any, Any]], depth: int) -> None:
        self.write(opening)
        pad = "\n" + "    " * (depth + 1)
        for index, (key, item) in enumerate(items):
            if self.indent:
                self.write(pad)
            elif index:
                self.write(", ")
            if key is not None:
                self.write_value(key[0], depth + 1)
                self.write(": ")
            self.write_value(admit(item), depth + 1)
            if self.indent:
                self.write(",")
        if self.indent and items:
            self.write("\n" + "    " * depth)
        self.write(closing)


def escape_html(text: str) -> str:
    """Text with the characters that HTML gives a meaning replaced by entities."""
    if not any(char in text for char in "&<>\"'/"):
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return text.replace("'", "&#x27;").replace("/", "&#x2f;")
