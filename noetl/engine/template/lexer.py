"""Cuts template source into tokens (spec 30, section 5.5: delimiters, literals, whitespace control)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from noetl.engine.template.errors import BadEscapeError, TemplateSyntaxError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

WHITE_SPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode White_Space; ``str.strip()`` without arguments also strips U+001C to U+001F, which are not in it."""

DATA = "template-data"
VARIABLE_START = "start of variable block"
VARIABLE_END = "end of variable block"
BLOCK_START = "start of block"
BLOCK_END = "end of block"
IDENTIFIER = "identifier"
STRING = "string"
INTEGER = "integer"
FLOAT = "float"
END = "end of input"

_MARKER = re.compile(r"\{[{%#]")
_BLANK = re.compile(r"[ \t\n\x0c\r]*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r"//|\*\*|==|!=|>=|<=|[-+*/%.,:~|()\[\]{}=<>]")
_RADIX = re.compile(r"0([bBoOxX])([0-9a-fA-F_]*)")
_NUMBER = re.compile(r"[0-9][0-9_]*(\.[0-9_]*)?([eE][+-]?[0-9_]*)?")
_RAW = re.compile(r"\{%[-+]?[ \t\n\x0c\r]*raw[ \t\n\x0c\r]*([-+]?)%\}")
_ENDRAW = re.compile(r"\{%([-+]?)[ \t\n\x0c\r]*endraw[ \t\n\x0c\r]*([-+]?)%\}")
_STRINGS = {quote: re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.DOTALL) for quote in "'\""}
_ESCAPE = re.compile(r"\\(u.{0,4}|x.{0,2}|[0-7]{1,3}|.)", re.DOTALL)
_SIMPLE_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\x08", "f": "\x0c", '"': '"', "'": "'", "\\": "\\", "/": "/"}
_RADIX_BASES = {"b": 2, "o": 8, "x": 16}
_MAX_INTEGER = 2**128 - 1


class Token(NamedTuple):
    """``kind`` is one of the constants above, or an operator in back quotes as error texts print it."""

    kind: str
    value: Any
    line: int


def unescape(text: str, line: int) -> str:
    """Resolve the escapes of a string literal; surrogate pairs join, a lone surrogate raises BadEscapeError."""

    def replace(match: re.Match[str]) -> str:
        body = match.group(1)
        letter = body[0]
        if letter in "ux":
            digits = body[1:]
            if len(digits) != (4 if letter == "u" else 2) or not all(
                char in "0123456789abcdefABCDEF" for char in digits
            ):
                raise BadEscapeError(line)
            return chr(int(digits, 16))
        if letter in "01234567":
            code = int(body, 8)
            if code > 255:
                raise BadEscapeError(line)
            return chr(code)
        return _SIMPLE_ESCAPES.get(letter, "\\" + letter)

    resolved = _ESCAPE.sub(replace, text)
    try:
        return resolved.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise BadEscapeError(line) from None


class _Cursor:
    """A place in the source that counts lines as it moves."""

    __slots__ = ("line", "position", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.line = 1

    def move_to(self, position: int) -> None:
        self.line += self.source.count("\n", self.position, position)
        self.position = position

    def unterminated(self, what: str) -> TemplateSyntaxError:
        """The error of something that goes on to the end of the source, which is its line."""
        return TemplateSyntaxError(f"unexpected end of {what}", self.line + self.source.count("\n", self.position))


def tokenize(source: str) -> Iterator[Token]:
    """Yield the tokens of ``source``; TemplateSyntaxError or BadEscapeError where it cannot go on."""
    if source.endswith("\n"):
        source = source[:-1].removesuffix("\r")
    cursor = _Cursor(source)
    trim = False
    while cursor.position < len(source):
        position = cursor.position
        opener = source[position : position + 2]
        if opener == "{#":
            close = source.find("#}", position + 2)
            if close < 0:
                raise cursor.unterminated("comment")
            trim = source[close - 1] == "-" and close - 1 >= position + 2
            cursor.move_to(close + 2)
        elif opener == "{%" and (raw := _RAW.match(source, position)):
            trim = yield from _raw_block(cursor, raw)
        elif opener in ("{{", "{%"):
            trim = yield from _code(cursor, opener == "{{")
        else:
            yield from _data(cursor, trim)
            trim = False


def _raw_block(cursor: _Cursor, opening: re.Match[str]) -> Generator[Token, None, bool]:
    close = _ENDRAW.search(cursor.source, opening.end())
    if close is None:
        raise cursor.unterminated("raw block")
    text = cursor.source[opening.end() : close.start()]
    if opening.group(1) == "-":
        text = text.lstrip(WHITE_SPACE)
    if close.group(1) == "-":
        text = text.rstrip(WHITE_SPACE)
    line = cursor.line
    cursor.move_to(close.end())
    yield Token(DATA, text, line)
    return close.group(2) == "-"


def _data(cursor: _Cursor, trim: bool) -> Iterator[Token]:
    source = cursor.source
    marker = _MARKER.search(source, cursor.position)
    end = marker.start() if marker else len(source)
    text = source[cursor.position : end]
    line = cursor.line
    if trim:
        stripped = text.lstrip(WHITE_SPACE)
        line += text.count("\n", 0, len(text) - len(stripped))
        text = stripped
    if marker and source[end + 2 : end + 3] == "-":
        text = text.rstrip(WHITE_SPACE)
    cursor.move_to(end)
    if text:
        yield Token(DATA, text, line)


def _code(cursor: _Cursor, variable: bool) -> Generator[Token, None, bool]:
    """Tokens from an opening delimiter to its closing one; the return value says whether what follows is trimmed."""
    source = cursor.source
    closing = "}}" if variable else "%}"
    yield Token(VARIABLE_START if variable else BLOCK_START, None, cursor.line)
    start = cursor.position + 2
    cursor.move_to(start + 1 if source[start : start + 1] in ("-", "+") else start)
    depth = 0
    while True:
        blank = _BLANK.match(source, cursor.position)
        cursor.move_to(blank.end() if blank else cursor.position)
        position = cursor.position
        if position >= len(source):
            return False
        if depth == 0:
            sign = source[position] if source[position] in "-+" else ""
            if source.startswith(closing, position + len(sign)):
                line = cursor.line
                cursor.move_to(position + len(sign) + 2)
                yield Token(VARIABLE_END if variable else BLOCK_END, None, line)
                return sign == "-"
        token = _code_token(cursor)
        if token.kind in ("`(`", "`[`", "`{`"):
            depth += 1
        elif token.kind in ("`)`", "`]`", "`}`"):
            depth -= 1
        yield token


def _code_token(cursor: _Cursor) -> Token:
    source, position, line = cursor.source, cursor.position, cursor.line
    char = source[position]
    if char in "'\"":
        literal = _STRINGS[char].match(source, position)
        if literal is None:
            raise cursor.unterminated("string")
        cursor.move_to(literal.end())
        text = literal.group(1)
        return Token(STRING, unescape(text, line) if "\\" in text else text, line)
    if char in "0123456789":
        return _number(cursor)
    word = _IDENTIFIER.match(source, position)
    if word is not None:
        cursor.position = word.end()
        return Token(IDENTIFIER, word.group(), line)
    operator = _OPERATOR.match(source, position)
    if operator is None:
        raise TemplateSyntaxError("unexpected character", line)
    cursor.position = operator.end()
    return Token(f"`{operator.group()}`", None, line)


def _number(cursor: _Cursor) -> Token:
    source, line = cursor.source, cursor.line
    radix = _RADIX.match(source, cursor.position)
    match = radix or _NUMBER.match(source, cursor.position)
    assert match is not None
    cursor.position = match.end()
    text = match.group()
    if text.endswith("_"):
        raise TemplateSyntaxError("'_' may not occur at end of number", line)
    text = text.replace("_", "")
    if radix is not None:
        try:
            number = int(text[2:], _RADIX_BASES[text[1].lower()])
        except ValueError:
            raise TemplateSyntaxError("invalid integer (too large)", line) from None
    elif match.group(1) is None and match.group(2) is None:
        number = int(text) if len(text) <= 40 else _MAX_INTEGER + 1
    else:
        try:
            return Token(FLOAT, float(text), line)
        except ValueError:
            raise TemplateSyntaxError("invalid float", line) from None
    if number > _MAX_INTEGER:
        raise TemplateSyntaxError("invalid integer (too large)", line)
    return Token(INTEGER, number, line)
