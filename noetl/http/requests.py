"""Reads path parameters, query strings and JSON bodies exactly as the reference does (spec 10, sections 2.2 to 2.4).

Everything that is wrong with the form of a request is refused here with RejectedRequestError (a text body).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar
from urllib.parse import unquote_plus

import msgspec
import orjson

from noetl._fast.nesting import depth_of
from noetl.errors import RejectedRequestError, UnprocessableError

if TYPE_CHECKING:
    from blacksheep import Request

T = TypeVar("T")

MAX_DEPTH: Final = 127
"""Deepest nesting of a JSON body that is accepted (spec 10, section 2.4)."""

_SYNTAX: Final = "Failed to parse the request body as JSON: "
_SHAPE: Final = "Failed to deserialize the JSON body into the target type: "
_QUERY: Final = "Failed to deserialize query string: "
_CONTENT_TYPE: Final = "Expected request with `Content-Type: application/json`"

_STRICT_SIZE: Final = 4 << 20
"""Bodies up to this size are checked by a second, stricter parser, whose objects larger ones cannot afford."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_POSITION: Final = re.compile(r"(.*): line (\d+) column (\d+) \(char \d+\)", re.DOTALL)
_WRONG_TYPE: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`(?: - at `\$\.?(.*)`)?", re.DOTALL)
_OTHER: Final = re.compile(r"(.*?) - at `\$\.?(.*)`", re.DOTALL)
_NUL_ESCAPE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_EXPECTED: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "null": "null",
    "object": "an object",
    "array": "an array",
}
_GIVEN: Final = {
    "str": "string",
    "int": "integer",
    "float": "floating point number",
    "bool": "boolean",
    "null": "null",
    "object": "map",
    "array": "sequence",
}


class IntegerSyntaxError(ValueError):
    """A text is not an integer of the wanted width; the message is the reference's."""


def parse_integer(text: str, *, bits: int = 64, signed: bool = True) -> int:
    """Parse ``[+-]?[0-9]+`` within a machine integer (spec 10, sections 2.2 and 2.3); raises IntegerSyntaxError."""
    if not text:
        raise IntegerSyntaxError("cannot parse integer from empty string")
    negative = text[0] == "-"
    if _INTEGER.fullmatch(text) is None or (negative and not signed):
        raise IntegerSyntaxError("invalid digit found in string")
    digits = text.lstrip("+-0")  # the grammar is checked, so this takes one sign and the leading zeros
    value = int(digits or "0") if len(digits) <= 20 else 1 << 80
    if negative:
        if value > 1 << (bits - 1):
            raise IntegerSyntaxError("number too small to fit in target type")
        return -value
    if value >= 1 << (bits - 1 if signed else bits):
        raise IntegerSyntaxError("number too large to fit in target type")
    return value


def client_address(request: Request) -> str | None:
    """The address that the connection comes from; a proxy before us is that client."""
    client: tuple[str, int] | None = request.scope.get("client")  # pyright: ignore[reportUnknownMemberType]
    return None if client is None else client[0]


def path_text(request: Request, name: str) -> str:
    """The percent-decoded path parameter ``name``."""
    return path_parameters(request)[name]


def path_parameters(request: Request) -> dict[str, str]:
    """All path parameters in the order of the route's template, percent-decoded."""
    return request.route_values  # type: ignore[return-value]


def path_integer(request: Request, name: str) -> int:
    """The path parameter ``name`` as a signed 64-bit integer; 400 with the reference's text otherwise."""
    values = path_parameters(request)
    text = values[name]
    try:
        return parse_integer(text)
    except IntegerSyntaxError:
        if len(values) == 1:
            raise RejectedRequestError(400, f"Invalid URL: Cannot parse `{text}` to a `i64`") from None
        index = list(values).index(name)
        raise RejectedRequestError(
            400, f"Invalid URL: Cannot parse value at index {index} with value `{text}` to a `i64`"
        ) from None


class Query:
    """The query string of a request (spec 10, section 2.3).

    Each accessor returns None for a missing name (or refuses it where ``required``), refuses a name that is given
    twice, and a value of the wrong form. Names that nobody asks for are ignored.
    """

    def __init__(self, request: Request) -> None:
        raw: bytes = request.scope["query_string"]  # type: ignore[typeddict-item]
        self._values: dict[str, list[str]] = {}
        for pair in raw.decode("latin-1").split("&"):
            if pair:
                name, _, value = pair.partition("=")
                self._values.setdefault(_form_decoded(name), []).append(_form_decoded(value))

    def text(self, name: str) -> str | None:
        """The value of ``name``; empty for a name without ``=``."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise RejectedRequestError(400, f"{_QUERY}duplicate field `{name}`")
        return values[0]

    def required_text(self, name: str) -> str:
        """The value of ``name``, which must be there."""
        value = self.text(name)
        if value is None:
            raise RejectedRequestError(400, f"{_QUERY}missing field `{name}`")
        return value

    def integer(self, name: str, *, bits: int = 64, signed: bool = True) -> int | None:
        """The integer ``name`` of the given width."""
        value = self.text(name)
        return None if value is None else self._parsed(name, value, bits, signed)

    def required_integer(self, name: str, *, bits: int = 64, signed: bool = True) -> int:
        """The integer ``name`` of the given width, which must be there."""
        return self._parsed(name, self.required_text(name), bits, signed)

    def boolean(self, name: str) -> bool | None:
        """The boolean ``name``: only ``true`` and ``false``."""
        value = self.text(name)
        if value is None:
            return None
        if value not in {"true", "false"}:
            raise RejectedRequestError(400, f"{_QUERY}{name}: provided string was not `true` or `false`")
        return value == "true"

    @staticmethod
    def _parsed(name: str, value: str, bits: int, signed: bool) -> int:
        try:
            return parse_integer(value, bits=bits, signed=signed)
        except IntegerSyntaxError as error:
            raise RejectedRequestError(400, f"{_QUERY}{name}: {error}") from None


async def json_text(request: Request) -> bytes:
    """The body of a JSON route, unparsed; refuses another content type (415) before it looks at the size (413)."""
    content_type = request.get_first_header(b"content-type")
    if content_type != b"application/json" and not _is_json(content_type):
        raise RejectedRequestError(415, _CONTENT_TYPE)
    return await request.read() or b""


async def json_body(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The JSON body of a request, decoded; 415, 413, 400 and 422 in this order (spec 10, section 2.4).

    Members that ``decoder`` types as ``msgspec.Raw`` are valid JSON texts afterwards.
    """
    return decode_json(await json_text(request), decoder)


def decode_json(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON text: 400 where it is not JSON, 422 where it has another shape than ``decoder`` wants."""
    if not body:
        raise RejectedRequestError(400, f"{_SYNTAX}EOF while parsing a value at line 1 column 0")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and depth_of(body) > MAX_DEPTH:
        raise RejectedRequestError(400, f"{_SYNTAX}recursion limit exceeded")
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        check_json(body)
        raise RejectedRequestError(422, _SHAPE + shape_reason(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        check_json(body)
        raise RejectedRequestError(400, f"{_SYNTAX}{error}") from None
    check_json(body)
    return value


def check_json(body: bytes) -> None:
    """Refuse (400) what msgspec lets pass inside undecoded members: bytes outside UTF-8, numbers beyond a double.

    Bodies above 4 MiB are only checked for UTF-8.
    """
    if len(body) > _STRICT_SIZE:
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise RejectedRequestError(400, f"{_SYNTAX}invalid unicode code point at byte {error.start}") from None
        return
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        found = _POSITION.fullmatch(str(error))
        reason = f"{found[1]} at line {found[2]} column {found[3]}" if found else str(error)
        raise RejectedRequestError(400, _SYNTAX + reason) from None


def refuse_shape(reason: str) -> NoReturn:
    """Refuse a JSON body for its shape (422); ``reason`` names the field."""
    raise RejectedRequestError(422, _SHAPE + reason)


def shape_reason(message: str) -> str:
    """Turn msgspec's words into ``<path>: <reason>`` of spec 10, section 2.4."""
    if found := _WRONG_TYPE.fullmatch(message):
        expected = " or ".join(_EXPECTED.get(word, word) for word in found[1].split(" | "))
        reason, path = f"invalid type: {_GIVEN.get(found[2], found[2])}, expected {expected}", found[3]
    elif found := _MISSING.fullmatch(message):
        reason, path = f"missing field `{found[1]}`", found[2]
    elif found := _OTHER.fullmatch(message):
        reason, path = found[1], found[2]
    else:
        reason, path = message, None
    return f"{path}: {reason}" if path else reason


def refuse_nul(field: str, text: str | None) -> None:
    """Refuse (422) U+0000 in a text that goes into a column (spec 10, fix 3)."""
    if text is not None and "\0" in text:
        raise UnprocessableError(f"{field} must not contain U+0000")


def refuse_nul_in_json(field: str, text: bytes | None) -> None:
    """Refuse (422) the escape of U+0000 in a JSON text that goes into a jsonb column (spec 10, fix 3)."""
    if text is not None and b"\\u0000" in text and _NUL_ESCAPE.search(text):
        raise UnprocessableError(f"{field} must not contain U+0000")


def _is_json(content_type: bytes | None) -> bool:
    if content_type is None:
        return False
    essence = content_type.partition(b";")[0].strip().lower()
    return essence == b"application/json" or (
        essence.startswith(b"application/") and essence.endswith(b"+json") and len(essence) > len(b"application/+json")
    )


def _form_decoded(text: str) -> str:
    return unquote_plus(text, errors="replace") if "%" in text or "+" in text else text
