"""Looking into the JSON of events, which may hold anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

if TYPE_CHECKING:
    from noetl.engine.events import Event

_UNKNOWN_WEIGHT: Final = 65_536


def weight(value: Any) -> int:
    """About how many bytes a decoded JSON value takes in memory. One pass in C over its text, not a walk in Python."""
    if value is None:
        return 0
    try:
        text = orjson.dumps(value)
    except TypeError:  # nested too deeply, or an integer beyond 64 bits: rare, so any size that is not small will do
        return _UNKNOWN_WEIGHT
    return len(text) + 200 * text.count(b"{") + 72 * text.count(b"[") + 48 * text.count(b",")


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_text(value: Any) -> str | None:
    """The value if it is a string."""
    return value if isinstance(value, str) else None


def as_count(value: Any) -> int | None:
    """The value if it is a natural number."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def worker_of(event: Event) -> str | None:
    """Who sent an event: its meta, its payload, or its column."""
    return (
        as_text(as_object(event.meta).get("worker_id"))
        or as_text(as_object(as_object(event.result).get("context")).get("worker_id"))
        or event.worker_id
    )
