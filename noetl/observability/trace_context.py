"""The `traceparent` header: of which trace a request is a part (W3C Trace Context, section 3.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceParent(NamedTuple):
    """The caller's span: 32 and 16 lower-case hexadecimal digits, and whether the caller records the trace."""

    trace_id: str
    span_id: str
    is_sampled: bool


def trace_parent(values: Sequence[bytes]) -> TraceParent | None:
    """What the `traceparent` headers of one request say; None where there is not exactly one, or it is invalid.

    Of versions after 00 the known parts are read, as the recommendation asks.
    """
    match = _FORM.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return TraceParent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1))
