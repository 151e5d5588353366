"""Builds responses: JSON, text and empty bodies, and the API's timestamps (spec 10, sections 2.5, 2.7, 2.8)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from blacksheep import Content, Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    Headers = Iterable[tuple[bytes, bytes]]

JSON_TYPE = b"application/json"
TEXT_TYPE = b"text/plain; charset=utf-8"


def json_response(value: Any, status: int = 200, headers: Headers = ()) -> Response:
    """Answer with ``value`` as compact JSON.

    Members keep their order; non-finite numbers become ``null``. ``orjson.Fragment`` and ``msgspec.Raw`` embed stored
    JSON texts unchanged, ``msgspec.Struct`` becomes an object, ``datetime`` the form of :func:`timestamp`.
    """
    body = orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME)
    return Response(status, list(headers), Content(JSON_TYPE, body))


def json_bytes_response(body: bytes, status: int = 200, headers: Headers = ()) -> Response:
    """Answer with a JSON text that is already serialized."""
    return Response(status, list(headers), Content(JSON_TYPE, body))


def text_response(
    text: str | bytes, status: int = 200, headers: Headers = (), content_type: bytes = TEXT_TYPE
) -> Response:
    """Answer with plain text (or any other body, under its own content type)."""
    body = text.encode() if isinstance(text, str) else text
    return Response(status, list(headers), Content(content_type, body))


def empty_response(status: int, headers: Headers = ()) -> Response:
    """Answer without body and without content type, as the reference does for 404 and 405 (spec 10, section 2.1)."""
    return Response(status, list(headers))


def error_response(message: str, status: int, headers: Headers = ()) -> Response:
    """Answer in the form of application errors: ``{"error": message, "status": status}`` (spec 10, section 2.5)."""
    return json_response({"error": message, "status": status}, status, headers)


def stored_json(text: str | bytes | None) -> orjson.Fragment | None:
    """A ``jsonb`` value as it goes into an answer: compact, members sorted by key (spec 10, section 2.7)."""
    if text is None:
        return None
    return orjson.Fragment(orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS))


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with ``Z`` and 0, 3 or 6 fraction digits, the fewest that are exact (spec 10, section 2.8).

    A naive ``moment`` is taken as UTC, which is what the ``timestamp`` columns hold.
    """
    if moment is None:
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    micros = moment.microsecond
    if not micros:
        return moment.isoformat(timespec="seconds") + "Z"
    return moment.isoformat(timespec="microseconds" if micros % 1000 else "milliseconds") + "Z"


def _plain(value: object) -> Any:
    """Turn what orjson does not know into what it knows."""
    if isinstance(value, msgspec.Raw):
        return orjson.Fragment(bytes(value))
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
