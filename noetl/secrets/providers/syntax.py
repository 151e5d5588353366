"""Texts from playbooks and workloads that become part of an address: nothing but names gets through (spec 40, 19)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from noetl.errors import InternalError

_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f/?#%\\]")
AWS_REGION: Final = re.compile(r"[a-z0-9-]{1,32}")


def path_segment(text: str, refusal: str) -> str:
    """A segment of a path, percent-encoded; InternalError with ``refusal`` for what could lead elsewhere."""
    if text in {"", ".", ".."} or _UNSAFE.search(text):
        raise InternalError(refusal)
    return quote(text, safe="")


def matching(pattern: re.Pattern[str], text: str, refusal: str) -> str:
    """The text, if all of it matches; InternalError with ``refusal`` otherwise."""
    if pattern.fullmatch(text) is None or set(text) == {"."} or text == "..":
        raise InternalError(refusal)
    return text


def aws_region(text: str, provider: str) -> str:
    """A region as it goes into a host name."""
    return matching(AWS_REGION, text, f"{provider}: invalid region {shown(text)}")


def shown(text: str) -> str:
    """A text of a client in an error message: bounded, without control characters."""
    return "'" + "".join(character if character.isprintable() else "\ufffd" for character in text[:200]) + "'"


def form(fields: dict[str, str]) -> bytes:
    """A form body; all but letters, digits and ``-_.~`` is percent-encoded."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items()).encode()


def utf8_fault(error: UnicodeDecodeError) -> str:
    """Where bytes are no UTF-8, without the bytes."""
    return f"invalid utf-8 sequence of {error.end - error.start} bytes from index {error.start}"
