"""Finds members that a JSON object names twice; decoders silently keep the last one (spec 20, section 2)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import msgspec

from noetl.http.requests import refuse_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Members(list[tuple[str, object]]):
    """The members of a JSON object in their order, repeated ones included."""


def refuse_duplicates(
    body: bytes,
    decoded: msgspec.Struct,
    aliases: Mapping[str, str],
    items: Sequence[msgspec.Struct] = (),
) -> None:
    """Refuse (422) a body whose known members, or those of its ``items`` (under ``events``), are given twice.

    ``aliases`` maps second names of members to their first ones: giving both is giving the member twice. The structs
    type every optional member with UNSET or ``msgspec.Raw``, so that what was given is known. A compact body that has
    as many members as were recognised, not counting those inside undecoded ones, has no duplicates; only other bodies
    are looked at again, member by member.
    """
    given = 0
    inside = 0
    aliased = False
    for struct in (decoded, *items):
        members, nested = _counted(struct)
        given += members
        inside += nested
        aliased = aliased or any(
            _is_given(struct, alias) and _is_given(struct, name) for alias, name in aliases.items()
        )
    if aliased or body.count(b'":') - inside != given or _may_have_loose_colons(body):
        known_of_items = {*items[0].__struct_fields__} if items else set[str]()
        _look_at_each(body, {*decoded.__struct_fields__}, known_of_items, aliases)


def _may_have_loose_colons(body: bytes) -> bool:
    """Whether there may be a colon that does not follow its name at once (control characters are not in strings)."""
    return b"\n" in body or b"\t" in body or b"\r" in body or (b" " in body and b" :" in body)


def _counted(struct: msgspec.Struct) -> tuple[int, int]:
    """Number of members that were given, and of members inside the undecoded ones."""
    values = msgspec.structs.astuple(struct)
    given = len(values) - values.count(msgspec.UNSET)
    inside = 0
    for value in values:
        if isinstance(value, msgspec.Raw):
            text = bytes(value)
            if text:
                inside += text.count(b'":')
            else:
                given -= 1
    return given, inside


def _is_given(struct: msgspec.Struct, name: str) -> bool:
    value = getattr(struct, name, msgspec.UNSET)
    return value is not msgspec.UNSET and not (isinstance(value, msgspec.Raw) and not bytes(value))


def _look_at_each(body: bytes, known: set[str], known_of_items: set[str], aliases: Mapping[str, str]) -> None:
    decoded = json.loads(body, object_pairs_hook=_Members, parse_int=str, parse_float=str)
    _refuse_repeated(decoded, known, aliases, "")
    for name, value in decoded:
        if name == "events" and known_of_items:
            for index, item in enumerate(cast("list[_Members]", value)):
                _refuse_repeated(item, known_of_items, aliases, f"events[{index}]: ")


def _refuse_repeated(members: _Members, known: set[str], aliases: Mapping[str, str], location: str) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in known:
            canonical = aliases.get(name, name)
            if canonical in seen:
                refuse_shape(f"{location}duplicate field `{canonical}`")
            seen.add(canonical)
