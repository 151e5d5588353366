"""The search itself: what it must find, so that finding nothing means something."""

from __future__ import annotations

import base64
import json
import urllib.parse
from typing import TYPE_CHECKING

import pytest

from tests.integration.leaks.marks import Family

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "in another case": lambda text: text.upper().encode(),
    "reversed": lambda text: text[::-1].encode(),
    "in JSON": lambda text: json.dumps({"a": text}).encode(),
    "in JSON in JSON": lambda text: json.dumps(json.dumps([text])).encode(),
    "all in escapes": lambda text: "".join(f"\\u{ord(character):04X}" for character in text).encode(),
    "in a URL": lambda text: urllib.parse.quote_plus(text).encode(),
    "all in percents": lambda text: "".join(f"%{octet:02X}" for octet in text.encode()).encode(),
    "in hex": lambda text: text.encode().hex().encode(),
    "in upper-case hex": lambda text: text.encode().hex().upper().encode(),
    "as bytes of PostgreSQL": lambda text: b"\\x" + text.encode().hex().encode(),
    "as a list of bytes": lambda text: str(list(text.encode())).encode(),
    "in repr": lambda text: repr(text.encode()).encode(),
    "its first half": lambda text: text[: len(text) // 2].encode(),
    "its last half": lambda text: text[len(text) // 2 :].encode(),
    "wrapped": lambda text: b"\n".join(text.encode()[start : start + 5] for start in range(0, len(text), 5)),
    "in parts of a list": lambda text: json.dumps(
        [text[start : start + 3] for start in range(0, len(text), 3)]
    ).encode(),
    **{
        f"in base64 after {count}": lambda text, count=count: base64.b64encode(b"." * count + text.encode() + b"..")
        for count in range(4)
    },
    **{
        f"in base32 after {count}": lambda text, count=count: base64.b32encode(b"." * count + text.encode() + b"..")
        for count in range(5)
    },
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()),
    "as a basic login": lambda text: b"Basic " + base64.b64encode(f"user:{text}".encode()),
    "in a base64 of JSON": lambda text: base64.b64encode(json.dumps({"password": text}).encode()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_mark_is_found(way: str) -> None:
    family = Family("f")
    for mark in (family.text("here"), family.token("there")):
        assert family.found_in(b"before " + WAYS[way](mark) + b" after"), mark


def test_a_hit_tells_where_the_mark_went_in() -> None:
    family = Family("f")
    family.text("elsewhere")
    assert family.found_in(f"x {family.text('the body')} y".encode())[0].startswith("f from the body: ...x ")


def test_other_texts_are_no_hits() -> None:
    family, other = Family("f"), Family("g")
    assert family.found_in(other.text("x").encode() * 1000) == []
