"""Reads the timestamps of requests (spec 20, section 2)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_COMMON: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", re.ASCII)
_LENIENT: Final = re.compile(
    r"\s*(\d{4})-(\d{1,2})-(\d{1,2})(?:[Tt]|\s+)(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d+))?"
    r"\s*(?:[Zz]|[Uu][Tt][Cc]|([+-])(\d{2})\s*:?\s*(\d{2}))\s*",
    re.ASCII,
)


def parse_timestamp(text: str) -> datetime:
    """Parse RFC 3339 with its zone into naive UTC; what is finer than a microsecond is cut off.

    As lenient as the reference: blanks may stand around the parts and instead of ``T``, one-digit months and days,
    an offset without colon, and second 60. Raises ValueError for anything else, a time without zone above all.
    """
    if _COMMON.fullmatch(text):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError:
            pass  # the lenient grammar below decides
    found = _LENIENT.fullmatch(text)
    if found is None:
        raise ValueError("expected an RFC 3339 date and time with a zone")
    year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
    micros = int((found[7] or "0")[:6].ljust(6, "0"))
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, micros, UTC)
        if found[8]:
            offset = timedelta(hours=int(found[9]), minutes=int(found[10]))
            moment = moment.replace(tzinfo=timezone(-offset if found[8] == "-" else offset)).astimezone(UTC)
        return moment.replace(tzinfo=None) + timedelta(seconds=1 if leap else 0)
    except OverflowError:
        raise ValueError("date and time out of range") from None
