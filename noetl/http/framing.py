"""Reads the head of a plain HTTP/1.1 request, for those who may pass over whatever is not plain."""

from __future__ import annotations

import re
from typing import Final

LARGEST_HEAD: Final = 2_048
"""Bytes of a head that is still looked at."""
_LINE: Final = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1")
_CONTROL: Final = re.compile(rb"[^\t\r\n -~]")
_HEADER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+:")
_UNUSUAL: Final = re.compile(rb"transfer-encoding:|expect:|connection:|upgrade:")
"""What changes where a message ends or what becomes of its connection."""
_LENGTH: Final = b"content-length:"


def plain_head(head: bytes) -> tuple[str, str, int] | None:
    """Method, target and length of the body, if there is nothing unusual about ``head``; otherwise None.

    It errs only towards None: whoever needs to know more must parse. ``head`` comes without the empty line at its end.
    """
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    ends = len(lines)
    if line is None or head.count(b"\n") != ends or head.count(b"\r") != ends or _CONTROL.search(head):
        return None
    length = b"0"
    has_length = False
    for header in lines:
        name = header.lower()
        if _HEADER.match(name) is None or _UNUSUAL.match(name):
            return None
        if name.startswith(_LENGTH):
            if has_length:
                return None
            has_length, length = True, name.removeprefix(_LENGTH).strip(b" \t")
    if not length.isdigit() or len(length) > 8:
        return None
    return line[1].decode("ascii"), line[2].decode("latin-1"), int(length)
