"""Reads the head of a plain HTTP/1.1 request, for those who may pass over whatever is not plain."""

from __future__ import annotations

import re
from typing import Final

LARGEST_HEAD: Final = 2_048
"""Bytes of a head that is still looked at."""
_LINE: Final = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1")
_UNUSUAL: Final = re.compile(rb"transfer-encoding|expect|connection|upgrade|content-length\s|\s|[^:]*$")
"""What changes where a message ends or what becomes of its connection, folded lines, and what is no header."""
_LENGTH: Final = b"content-length:"


def plain_head(head: bytes) -> tuple[str, str, int] | None:
    """Method, target and length of the body, if there is nothing unusual about ``head``; otherwise None.

    It errs only towards None: whoever needs to know more must parse. ``head`` comes without the empty line at its end.
    """
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None or head.count(b"\n") != len(lines):
        return None
    length = b"0"
    has_length = False
    for header in lines:
        name = header.lower()
        if _UNUSUAL.match(name):
            return None
        if name.startswith(_LENGTH):
            if has_length:
                return None
            has_length, length = True, name.removeprefix(_LENGTH).strip(b" \t")
    if not length.isdigit() or len(length) > 8:
        return None
    return line[1].decode("ascii"), line[2].decode("latin-1"), int(length)
