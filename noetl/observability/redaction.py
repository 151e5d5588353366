"""Credentials out of texts that were not made by us: driver messages, URLs, DSNs (promise P7)."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"

# Up to the last @ before the path, because passwords may hold an unescaped one.
_URL_LOGIN: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s\"'<>?#]*@")
# In a DSN a value ends at the semicolon and may hold blanks.
_ASSIGNED: Final = re.compile(
    r"""(?P<name>(?:password|passwd|pwd|secret|token|api[_-]?key|encryption[_-]?key)["']?\s*[=:]\s*)
        (?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^;\n"']*(?=;)|[^\s;,&"'})\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_BEARER: Final = re.compile(r"(?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_HINT: Final = re.compile(r"://[^\s]*@|passw|pwd|secret|token|key|bearer|basic", re.IGNORECASE)


def redact(text: str) -> str:
    """``text`` with passwords in URLs, ``password=...`` assignments and bearer tokens replaced by ``***``.

    A net below the rule that such texts are not logged at all. Cheap when there is nothing to do.
    """
    if _HINT.search(text) is None:
        return text
    text = _URL_LOGIN.sub(rf"\g<scheme>{MASK}@", text)
    text = _ASSIGNED.sub(rf"\g<name>{MASK}", text)
    return _BEARER.sub(rf"\g<scheme>{MASK}", text)
