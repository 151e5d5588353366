"""Canonical JSON of a large text, piece by piece: never the whole value as objects (promise P5; spec 15, section 6.2).

A decoded value takes many times the memory of its text, and decoding it in one go keeps everything else waiting. So
large arrays and objects are cut into runs of elements that are decoded and written one after the other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    Text: TypeAlias = bytes | bytearray

PIECE_BYTES: Final = 256 << 10
"""Texts up to this size are decoded whole."""
HIGHEST_MEMBERS: Final = 1_000_000
"""Members of one object, beyond which sorting them would take too much memory."""

# Everything is possessive, so that no position is remembered on the way. Except for single strings and numbers, matches
# are confined to a window of the size of a piece, so that none takes long.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_SCALAR: Final = rb'[^"\[\]{},]++|' + _STRING
_FLAT: Final = rb'[^"\[\]{}]++|' + _STRING
_BLOCK_1: Final = rb"[\[{](?:" + _FLAT + rb")*+[\]}]"
_BLOCK_2: Final = rb"[\[{](?:" + _FLAT + rb"|" + _BLOCK_1 + rb")*+[\]}]"
_BLOCK: Final = rb"[\[{](?:" + _FLAT + rb"|" + _BLOCK_2 + rb")*+[\]}]"
"""An array or object of at most three levels: the usual row, recognised in one step."""
_BLOCK_LEVELS: Final = 3

_FLAT_RUN: Final = re.compile(rb"(?:" + _FLAT + rb")++", re.DOTALL)
_RUN: Final = re.compile(rb"(?:" + _FLAT + rb"|" + _BLOCK + rb")++", re.DOTALL)
_VALUE: Final = re.compile(rb"(?:" + _SCALAR + rb"|" + _BLOCK + rb")++", re.DOTALL)
_SCALAR_REST: Final = re.compile(rb"(?:" + _SCALAR + rb")++", re.DOTALL)
_NUMBER_REST: Final = re.compile(rb'[^"\[\]{},]++')
_ONE_STRING: Final = re.compile(_STRING, re.DOTALL)
_CHARACTERS: Final = re.compile(
    rb'(?:[^"\\]++|\\[^u]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})++",
    re.DOTALL,
)
"""The inside of a string, escapes and pairs of surrogates unbroken."""
_LONGEST_CHARACTER: Final = 12
_KEY: Final = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
# To the reference ``-0`` is a float, to the decoder an integer without sign.
_NEGATIVE_ZERO: Final = re.compile(rb"-0(?=[\s,\]}]|\Z)")
_STRING_OR_NEGATIVE_ZERO: Final = re.compile(rb"(" + _STRING + rb")|" + _NEGATIVE_ZERO.pattern, re.DOTALL)
_BLANKS: Final = b" \t\r\n"
_OPEN: Final = b"[{"


class PieceError(ValueError):
    """A text that is no JSON value, or one that cannot be handled; the message says why."""


def canonical_pieces(text: Text, deepest: int, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """The canonical text of the JSON value ``text``, in pieces.

    Args:
        text: valid JSON; of an object that names a member twice the last one counts.
        deepest: highest nesting that is accepted, 1 for ``[]``.
        piece_bytes: size of the texts that are decoded at once, about.

    Raises:
        PieceError: the nesting is deeper, a number is beyond any double, a string is not Unicode, or an object has more
            than `HIGHEST_MEMBERS` members.
    """
    start, end = 0, len(text)
    while start < end and text[start] in _BLANKS:
        start += 1
    while end > start and text[end - 1] in _BLANKS:
        end -= 1
    if end - start < len(text):
        text = text[start:end]
    document = _Document(text, _large_parts(text, deepest, piece_bytes), piece_bytes)
    return document.pieces(0, len(text))


def canonical_member(text: bytes, name: bytes, deepest: int, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """As `canonical_pieces`, of the member ``name`` of the JSON object ``text`` (nothing if there is none).

    ``deepest`` is for the whole object.
    """
    document = _Document(text, _large_parts(text, deepest, piece_bytes), piece_bytes)
    return document.member(name)


def _large_parts(text: Text, deepest: int, piece_bytes: int) -> dict[int, int]:
    """Where each array, object and string larger than a piece begins and ends. Checks the nesting on the way."""
    parts: dict[int, int] = {}
    opened: list[int] = []
    position = 0
    while True:
        pattern = _RUN if len(opened) + _BLOCK_LEVELS <= deepest else _FLAT_RUN
        found = pattern.match(text, position, position + piece_bytes)
        if found is not None:
            position = found.end()
            continue
        string = _ONE_STRING.match(text, position)
        if string is not None:
            parts[position] = string.end()
            position = string.end()
            continue
        if position >= len(text):
            if opened:
                raise PieceError("unexpected end of data")
            return parts
        if text[position] in _OPEN:
            opened.append(position)
            if len(opened) > deepest:
                raise PieceError("recursion limit exceeded")
        elif not opened or text[position : position + 1] not in (b"]", b"}"):
            raise PieceError(f"unexpected character at byte {position}")
        else:
            start = opened.pop()
            if position - start >= piece_bytes:
                parts[start] = position + 1
        position += 1


class _Document:
    """A text and the places of its large parts."""

    def __init__(self, text: Text, large: dict[int, int], piece_bytes: int) -> None:
        self._text = text
        self._large = large
        self._piece_bytes = piece_bytes

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The canonical text of the value between the two places."""
        if start not in self._large:
            yield canonical(self._text[start:end])
        elif self._text[start] == ord('"'):
            yield from self._string(start, end)
        elif self._text[start] == ord("["):
            yield from self._array(start)
        else:
            yield from self._object(start)

    def member(self, name: bytes) -> Iterator[bytes]:
        """The canonical text of a member of the whole value, an object; nothing if it has none of that name."""
        found = self._members(self._text.index(b"{")).get(name)
        if found is not None:
            yield from self.pieces(*found[1:])

    def _string(self, start: int, end: int) -> Iterator[bytes]:
        text = self._text
        yield b'"'
        position, closing = start + 1, end - 1
        while position < closing:
            window = position + max(self._piece_bytes, _LONGEST_CHARACTER)
            found = _CHARACTERS.match(text, position, min(window, closing))
            if found is None:
                raise PieceError("lone surrogate in a string")
            stop = found.end()
            while text[stop] & 0xC0 == 0x80 and stop > position:  # inside a character of several bytes
                stop -= 1
            yield canonical(b'"' + text[position:stop] + b'"')[1:-1]
            position = stop
        yield b'"'

    def _array(self, opening: int) -> Iterator[bytes]:
        """Elements are collected into runs of about a piece; a large element stands alone."""
        text = self._text
        separator = b"["
        start = position = opening + 1
        closing = self._large[opening] - 1
        while start < closing:
            found = _RUN.match(text, position, position + self._piece_bytes)
            position = position if found is None else found.end()
            found = _NUMBER_REST.match(text, position)  # the window ends anywhere, also inside a number
            position = position if found is None else found.end()
            end = self._large.get(position)
            is_enough = 2 * (position - start) > self._piece_bytes and self._is_between_elements(position)
            if position == closing or end is not None or is_enough:
                for piece in _run(b"[", text[start:position], b"]"):
                    yield separator + piece
                    separator = b","
                start = position
            if end is not None:
                yield separator
                separator = b","
                yield from self.pieces(position, end)
                start = position = end
            elif text[position] in _OPEN:
                position = self._end(position)
        yield b"[]" if separator == b"[" else b"]"

    def _is_between_elements(self, position: int) -> bool:
        text = self._text
        if text[position] == ord(","):
            return True
        while text[position - 1] in _BLANKS:
            position -= 1
        return text[position - 1] == ord(",")

    def _object(self, opening: int) -> Iterator[bytes]:
        """Members by key; small ones are collected into runs of about a piece."""
        text = self._text
        separator = b"{"
        run: list[Text] = []
        size = 0
        for name, (key, start, end) in sorted(self._members(opening).items()):
            large = start in self._large
            if not large:
                run.append(text[key:end])
                size += end - key
            if large or size > self._piece_bytes:
                for piece in _run(b"{", b",".join(run), b"}"):
                    yield separator + piece
                    separator = b","
                run.clear()
                size = 0
            if large:
                yield separator + orjson.dumps(name.decode()) + b":"
                separator = b","
                yield from self.pieces(start, end)
        for piece in _run(b"{", b",".join(run), b"}"):
            yield separator + piece
            separator = b","
        yield b"{}" if separator == b"{" else b"}"

    def _members(self, opening: int) -> dict[bytes, tuple[int, int, int]]:
        """Of each key (in UTF-8) the places of its text, of its value, and of the value's end."""
        members: dict[bytes, tuple[int, int, int]] = {}
        position = opening + 1
        while (key := _KEY.match(self._text, position)) is not None:
            start = key.end()
            position = self._large.get(start) or self._end(start)
            members[_decoded(key[1])] = (key.start(1), start, position)
            if len(members) > HIGHEST_MEMBERS:
                raise PieceError(f"an object has more than {HIGHEST_MEMBERS} members")
        return members

    def _end(self, start: int) -> int:
        """Where a value that is not large ends."""
        window = start + self._piece_bytes
        found = _VALUE.match(self._text, start, window) or _SCALAR_REST.match(self._text, start)
        if found is not None and found.end() != window:
            return found.end()
        depth = 0
        position = start
        while depth or position == start:
            found = (_FLAT_RUN if depth else _SCALAR_REST).match(self._text, position)
            if found is not None:
                position = found.end()
            else:
                depth += 1 if self._text[position] in _OPEN else -1
                position += 1
        return position


def _run(opening: bytes, elements: Text, closing: bytes) -> Iterator[bytes]:
    """The canonical text of elements between separators, nothing if there are none."""
    elements = elements.strip(_BLANKS + b",")
    if elements:
        yield canonical(opening + elements + closing)[1:-1]


def _decoded(key: bytes) -> bytes:
    try:
        return orjson.loads(key).encode()
    except orjson.JSONDecodeError as error:
        raise PieceError(str(error)) from error


def canonical(text: Text) -> bytes:
    """The canonical text of a JSON value that is small enough to be decoded whole; raises PieceError."""
    if b"-0" in text and _NEGATIVE_ZERO.search(text):
        text = _STRING_OR_NEGATIVE_ZERO.sub(lambda found: found[1] or b"-0.0", text)
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise PieceError(str(error)) from error
