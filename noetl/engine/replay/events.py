"""An event as the fold reads it, and what it says about stages, frames, commands, loops and objects (spec 15, 3)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

from msgspec import UNSET, Raw, Struct, UnsetType

from noetl.engine.replay.canonical import canonical, integer_of, parse, text_of
from noetl.engine.replay.state import PayloadEntry, PayloadSummary

Meta = dict[str, Any]

_EMPTY: Final[Meta] = {}
_LOOP_KEYS: Final = ("loop_id", "loop_event_id", "__loop_epoch_id")
_OBJECT: Final = "business_object"
_TYPE_SOURCES: Final = (("object_type", "type"), ("business_object_type", "object_type"))
_ID_SOURCES: Final = (("object_id", "id"), ("business_object_id", "object_id"))
"""Where a business object's type and id stand: keys of ``meta.business_object``, then keys of ``meta``."""
_OBJECT_KEYS: Final = frozenset({_OBJECT, *_TYPE_SOURCES[1], *_ID_SOURCES[1]})


class ReplayEvent(Struct, gc=False):
    """One row of the event log. ``meta`` and ``reference`` (the member of ``result``) are JSON texts.

    A stage or frame id is decimal text, whatever the type of its column.
    """

    event_id: int
    event_type: str
    node_name: str | None = None
    status: str = ""
    stage_id: str | None = None
    frame_id: str | None = None
    command_id: int | None = None
    worker_id: str | None = None
    aggregate_type: str | None = None
    aggregate_id: str | None = None
    meta: str | bytes | None = None
    reference: str | bytes | None = None


class BusinessObjectName(NamedTuple):
    """Which business object an event is about, and what it carries for it (``meta.business_object``)."""

    object_type: str
    object_id: str
    carried: Meta


def meta_of(event: ReplayEvent) -> Meta:
    """The event's metadata if they are an object, else an empty one."""
    if event.meta is None:
        return _EMPTY
    value = parse(event.meta)
    return cast("Meta", value) if isinstance(value, dict) else _EMPTY


def meta_text(meta: Meta, key: str) -> str | None:
    """The member as text, None if there is none. A member that is null is the text ``null``."""
    value = meta.get(key, UNSET)
    if value.__class__ is str:
        return cast("str", value)
    return None if value is UNSET else text_of(value)


def meta_integer(meta: Meta, key: str) -> int | None:
    """The member if it is a 64-bit integer."""
    return integer_of(meta.get(key))


def stage_of(event: ReplayEvent, meta: Meta) -> str | None:
    """The stage that an event belongs to: its column, its aggregate, its metadata."""
    if event.stage_id is not None:
        return event.stage_id
    if event.aggregate_type == "stage" and event.aggregate_id is not None:
        return event.aggregate_id.removeprefix("stage/")
    return meta_text(meta, "stage_id")


def frame_of(event: ReplayEvent, meta: Meta) -> str | None:
    """The frame that an event belongs to: its column, its aggregate, its metadata."""
    if event.frame_id is not None:
        return event.frame_id
    if event.aggregate_type == "frame" and event.aggregate_id is not None:
        return event.aggregate_id.removeprefix("frame/")
    return meta_text(meta, "frame_id")


def command_of(event: ReplayEvent, meta: Meta) -> str | None:
    """The command that an event belongs to: its column, its metadata."""
    return meta_text(meta, "command_id") if event.command_id is None else str(event.command_id)


def loop_of(meta: Meta) -> str | None:
    """The loop that an event belongs to."""
    for key in _LOOP_KEYS:
        found = meta_text(meta, key)
        if found is not None:
            return found
    return None


def business_object_of(event: ReplayEvent, meta: Meta) -> BusinessObjectName | None:
    """The business object that an event is about, None if its type or its id is unknown."""
    aggregate = event.aggregate_id if event.aggregate_type == _OBJECT else None
    if aggregate is None and _OBJECT_KEYS.isdisjoint(meta):
        return None
    found = meta.get(_OBJECT)
    carried = cast("Meta", found) if isinstance(found, dict) else _EMPTY
    object_type = _first_text(carried, meta, _TYPE_SOURCES)
    object_id = _first_text(carried, meta, _ID_SOURCES)
    if aggregate is not None:
        parts = [part for part in aggregate.removeprefix("business_object/").split("/") if part]
        named = len(parts) >= 2
        if object_type is None:
            object_type = parts[0] if named else _OBJECT
        if object_id is None:
            object_id = "/".join(parts[1:]) if named else aggregate
    if object_type is None or object_id is None:
        return None
    return BusinessObjectName(object_type, object_id, carried)


def payload_of(event: ReplayEvent) -> PayloadEntry | None:
    """The payload that an event refers to, with its summary."""
    if event.reference is None:
        return None
    reference = parse(event.reference)
    if reference is None:
        return None
    return PayloadEntry(event.event_id, Raw(canonical(reference)), summary_of(reference))


def summary_of(reference: Any) -> PayloadSummary:
    """What a reference says about its payload; members of a wrong type are passed over, zero and "" are not."""
    if not isinstance(reference, dict):
        return PayloadSummary()
    own = cast("Meta", reference)
    rows = _object(own, "rows_ref")
    places = (own, _object(rows, "meta"), _object(rows, "ipc")) if rows else (own,)
    sha256, ref = _first_string(places, "sha256"), _first_string((own, rows), "ref")
    return PayloadSummary(
        sha256=_first_string((own,), "digest") if sha256 is UNSET else sha256,
        schema_digest=_first_string(places, "schema_digest"),
        row_count=_first_integer(places, "row_count"),
        media_type=_first_string(places, "media_type"),
        ref=_first_string((own,), "uri") if ref is UNSET else ref,
    )


def _object(value: Meta, key: str) -> Meta:
    found = value.get(key)
    return cast("Meta", found) if isinstance(found, dict) else _EMPTY


def _first_string(places: tuple[Meta, ...], key: str) -> str | UnsetType:
    for place in places:
        found = place.get(key)
        if isinstance(found, str):
            return found
    return UNSET


def _first_integer(places: tuple[Meta, ...], key: str) -> int | UnsetType:
    for place in places:
        found = integer_of(place.get(key))
        if found is not None:
            return found
    return UNSET


def _first_text(carried: Meta, meta: Meta, sources: tuple[tuple[str, ...], tuple[str, ...]]) -> str | None:
    for place, keys in zip((carried, meta), sources, strict=True):
        for key in keys:
            found = meta_text(place, key)
            if found is not None:
                return found
    return None
