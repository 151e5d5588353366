"""Expiry times as the issuers of tokens write them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment_of(text: str) -> datetime:
    """An RFC 3339 time with offset; raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("no RFC 3339 time") from None
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment.astimezone(UTC)


def moment_of_epoch(seconds: float) -> datetime:
    """A number of seconds since 1970; raises ValueError for what no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError):
        raise ValueError("no time") from None
