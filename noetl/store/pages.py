"""How many rows the next page of a log has: large rows make small pages (promise P5)."""

from __future__ import annotations

from typing import Final

PAGE_BYTES: Final = 1 << 20
"""Size of a page that is aimed at; rows are counted by it when they are large."""


def rows_of_next_page(rows: int, size: int, highest: int) -> int:
    """As many rows as fill a page if they are like the last page's ``rows`` of ``size`` bytes.

    Never more than twice as many as there, and never more than ``highest``.
    """
    fitting = PAGE_BYTES * rows // max(size, 1)
    return max(1, min(fitting, 2 * rows, highest))
