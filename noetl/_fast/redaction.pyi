"""Redaction of secrets in JSON text, in one pass and without decoding it (spec 20, section 9)."""

from collections.abc import Iterable
from typing import Final, final

SENSITIVE_WORDS: Final[tuple[str, ...]]
"""A member whose folded key contains one of these is redacted whatever its value."""

@final
class Sanitizer:
    """Redacts JSON texts by the built-in words and ``extra_keys``; immutable, so one may serve everybody.

    Keys are compared in lower case with ``-`` read as ``_``. Raises ValueError for an empty extra key.
    """

    @property
    def words(self) -> tuple[str, ...]: ...
    def __init__(self, extra_keys: Iterable[str] = ()) -> None: ...
    def sanitize(self, raw: bytes) -> bytes:
        """``raw`` with secrets replaced and NUL escapes dropped; ``raw`` itself when there is nothing to change.

        ``raw`` is one valid JSON value in UTF-8 at depth 0. What comes out for other bytes is unspecified (a ValueError
        or bytes), but it never reads outside of them.
        """

def sanitize(raw: bytes, extra_keys: tuple[str, ...] = ()) -> bytes:
    """`Sanitizer.sanitize` with the built-in words; who has ``extra_keys`` to use often keeps a `Sanitizer`."""
