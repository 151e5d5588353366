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

PIECE_BYTES: Final = 256 << 10
"""Texts up to this size are decoded whole."""
HIGHEST_MEMBERS: Final = 1_000_000
"""Members of one object, beyond which sorting them would take too much memory."""

_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT: Final = rb'[^"\[\]{}]++|' + _STRING
_SMALL_1: Final = rb"[\[{](?:" + _FLAT + rb"){0,200}+[\]}]"
_SMALL_2: Final = rb"[\[{](?:" + _FLAT + rb"|" + _SMALL_1 + rb"){0,200}+[\]}]"
_SMALL: Final = rb"[\[{](?:" + _FLAT + rb"|" + _SMALL_2 + rb"){0,50}+[\]}]"
"""An array or object with few parts, at most three levels: the usual row, recognised in one step."""
_SMALL_LEVELS: Final = 3

# Possessive, so that no position is remembered; bounded, so that one match does not take long.
_FLAT_RUN: Final = re.compile(rb"(?:" + _FLAT + rb"){1,2000}+", re.DOTALL)
_SMALL_RUN: Final = re.compile(rb"(?:" + _FLAT + rb"|" + _SMALL + rb"){1,200}+", re.DOTALL)
_ELEMENTS: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb"|,|" + _SMALL + rb"){1,200}+", re.DOTALL)
_ELEMENT_REST: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb")++", re.DOTALL)
_SMALL_VALUE: Final = re.compile(rb'(?:[^"\[\]{},]++|' + _STRING + rb"|" + _SMALL + rb")++", re.DOTALL)
_KEY: Final = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
# To the reference ``-0`` is a float, to the decoder an integer without sign.
_NEGATIVE_ZERO: Final = re.compile(rb"-0(?=[\s,\]}]|\Z)")
_STRING_OR_NEGATIVE_ZERO: Final = re.compile(rb"(" + _STRING + rb")|" + _NEGATIVE_ZERO.pattern, re.DOTALL)
_BLANKS: Final = b" \t\r\n"
_OPEN: Final = b"[{"


class PieceError(ValueError):
    """A text that is no JSON value, or one that cannot be handled; the message says why."""


def canonical_pieces(text: bytes, deepest: int, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """The canonical text of the JSON value ``text``, in pieces.

    Args:
        text: valid JSON; of an object that names a member twice the last one counts.
        deepest: highest nesting that is accepted, 1 for ``[]``.
        piece_bytes: size of the texts that are decoded at once, about.

    Raises:
        PieceError: the nesting is deeper, a number is beyond any double, a string is not Unicode, or an object has more
            than `HIGHEST_MEMBERS` members.
    """
    text = text.strip(_BLANKS)
    document = _Document(text, _large_parts(text, deepest, piece_bytes), piece_bytes)
    return document.pieces(0, len(text))


def _large_parts(text: bytes, deepest: int, piece_bytes: int) -> dict[int, int]:
    """Where each array and object larger than a piece begins and ends. Checks the nesting on the way."""
    parts: dict[int, int] = {}
    opened: list[int] = []
    position = 0
    while True:
        pattern = _SMALL_RUN if len(opened) + _SMALL_LEVELS <= deepest else _FLAT_RUN
        found = pattern.match(text, position)
        if found is not None:
            position = found.end()
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

    def __init__(self, text: bytes, large: dict[int, int], piece_bytes: int) -> None:
        self._text = text
        self._large = large
        self._piece_bytes = piece_bytes

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The canonical text of the value between the two places."""
        if start not in self._large:
            yield canonical(self._text[start:end])
        elif self._text[start] == ord("["):
            yield from self._array(start)
        else:
            yield from self._object(start)

    def _array(self, opening: int) -> Iterator[bytes]:
        """Elements are collected into runs of about a piece; a large element stands alone."""
        text = self._text
        separator = b"["
        start = position = opening + 1
        closing = self._large[opening] - 1
        while start < closing:
            for pattern in (_ELEMENTS, _ELEMENT_REST):  # the second ends an element that the bound of the first has cut
                found = pattern.match(text, position)
                position = position if found is None else found.end()
            end = self._large.get(position)
            between_elements = text[position] == ord(",") or text[position - 1] == ord(",")
            if position == closing or end is not None or (between_elements and position - start > self._piece_bytes):
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

    def _object(self, opening: int) -> Iterator[bytes]:
        """Members by key; small ones are collected into runs of about a piece."""
        text = self._text
        separator = b"{"
        run: list[bytes] = []
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
        found = _SMALL_VALUE.match(self._text, start)
        if found is not None:
            return found.end()
        depth = 0
        position = start
        while depth or position == start:
            found = _FLAT_RUN.match(self._text, position)
            if found is not None:
                position = found.end()
            else:
                depth += 1 if self._text[position] in _OPEN else -1
                position += 1
        return position


def _run(opening: bytes, elements: bytes, closing: bytes) -> Iterator[bytes]:
    """The canonical text of elements between separators, nothing if there are none."""
    elements = elements.strip(_BLANKS + b",")
    if elements:
        yield canonical(opening + elements + closing)[1:-1]


def _decoded(key: bytes) -> bytes:
    try:
        return orjson.loads(key).encode()
    except orjson.JSONDecodeError as error:
        raise PieceError(str(error)) from error


def canonical(text: bytes) -> bytes:
    """The canonical text of a JSON value that is small enough to be decoded whole; raises PieceError."""
    if b"-0" in text and _NEGATIVE_ZERO.search(text):
        text = _STRING_OR_NEGATIVE_ZERO.sub(lambda found: found[1] or b"-0.0", text)
    try:
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise PieceError(str(error)) from error
