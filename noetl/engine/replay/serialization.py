"""The state as JSON, in pieces: its answer in the order of the members, its canonical form for the checksums.

A state may be hundreds of megabytes long. But for `dump_state` and the copies, nothing here makes it one text or works
on it for more than about a millisecond at a stretch.
"""

from __future__ import annotations

import heapq
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from msgspec import UNSET

from noetl.engine.replay.canonical import canonical, parse
from noetl.engine.replay.state import BusinessObjectEntry, Checksum, ReplayState

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

PIECE: Final = 32
"""Entries of a map or list that are written at once."""
RUN: Final = 1024
"""Keys that are sorted at once."""

# "deterministic" sorts maps by key, "sorted" the members of structures as well.
_AS_DECLARED: Final = msgspec.json.Encoder(order="deterministic")
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(ReplayState)
_PROJECTED: Final = {
    "business_object": "business_objects",
    "command": "commands",
    "execution": "execution",
    "frame": "frames",
    "loop": "loops",
    "stage": "stages",
}


def state_parts(state: ReplayState) -> Iterator[bytes]:
    """The JSON text of a settled state, in pieces (spec 15, section 5)."""
    return _parts(state, _AS_DECLARED)


def dump_state(state: ReplayState) -> bytes:
    """The JSON text of a settled state, for storing it as a snapshot."""
    return b"".join(state_parts(state))


def load_state(text: str | bytes) -> ReplayState:
    """An earlier result, read from its JSON text, in which members may stand in any order.

    Raises:
        UnreadableJsonError: it is not JSON.
        msgspec.ValidationError: it is not a state.
    """
    return _DECODER.decode(canonical(parse(text)))


def copy_state(state: ReplayState) -> ReplayState:
    """A state that shares nothing changeable with ``state``."""
    return _DECODER.decode(_AS_DECLARED.encode(state))


def settle(state: ReplayState) -> Iterator[None]:
    """Sort the maps of a state and compute its checksums, a little with each step (spec 15, section 6.1)."""
    state.checksum = UNSET
    state.projection_checksums = UNSET
    for attribute in _PROJECTED.values():
        entries = getattr(state, attribute)
        if isinstance(entries, dict):
            setattr(state, attribute, (yield from _sorted_by_key(cast("dict[str, Any]", entries))))
    for entry in state.business_objects.values():
        if len(entry.attributes) > PIECE:
            entry.attributes = yield from _sorted_by_key(entry.attributes)
    checksums: dict[str, Checksum] = {}
    for name, attribute in _PROJECTED.items():
        checksums[name] = yield from _checksum(_parts(getattr(state, attribute), _CANONICAL))
    state.projection_checksums = checksums
    state.checksum = yield from _checksum(_parts(state, _CANONICAL))


def _sorted_by_key(entries: dict[str, Any]) -> Generator[None, None, dict[str, Any]]:
    """The map in the order of its keys: characters compare as their UTF-8 bytes do."""
    keys = iter(entries)
    runs: list[list[str]] = []
    while run := sorted(islice(keys, RUN)):
        runs.append(run)
        yield
    merged = heapq.merge(*runs)
    result: dict[str, Any] = {}
    while some := {key: entries[key] for key in islice(merged, RUN)}:
        result.update(some)
        yield
    return result


def _checksum(parts: Iterable[bytes]) -> Generator[None, None, Checksum]:
    digest = sha256()
    for part in parts:
        digest.update(part)
        yield
    return Checksum(value=digest.hexdigest())


def _parts(value: Any, encoder: msgspec.json.Encoder) -> Iterator[bytes]:
    """The JSON text of a value whose maps are in order already, or are short."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        members = {name: getattr(value, name) for name in (sorted(names) if encoder is _CANONICAL else names)}
        separator = b"{"
        for name, member in members.items():
            if member is not UNSET:
                yield b'%s"%s":' % (separator, name.encode())
                yield from _parts(member, encoder)
                separator = b","
        yield b"}"
    elif isinstance(value, dict):
        yield from _map_parts(cast("dict[str, Any]", value), encoder)
    elif isinstance(value, list):
        yield from _list_parts(cast("list[Any]", value), encoder)
    else:
        yield encoder.encode(value)


def _map_parts(entries: dict[str, Any], encoder: msgspec.json.Encoder) -> Iterator[bytes]:
    items = iter(entries.items())
    separator = b"{"
    while some := dict(islice(items, PIECE)):
        if any(map(_is_long, some.values())):
            for key, entry in some.items():
                yield b"%s%s:" % (separator, encoder.encode(key))
                yield from _parts(entry, encoder)
                separator = b","
        else:
            yield separator + encoder.encode(some)[1:-1]
            separator = b","
    yield b"}" if entries else b"{}"


def _list_parts(elements: list[Any], encoder: msgspec.json.Encoder) -> Iterator[bytes]:
    separator = b"["
    for start in range(0, len(elements), PIECE):
        yield separator + encoder.encode(elements[start : start + PIECE])[1:-1]
        separator = b","
    yield b"]" if elements else b"[]"


def _is_long(entry: Any) -> bool:
    return isinstance(entry, BusinessObjectEntry) and len(entry.attributes) + len(entry.payload_refs) > PIECE
