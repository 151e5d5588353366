"""What one rendering may use: steps, bytes, depth (incident I24: a template can neither hang nor fill the memory).

Every construct charges steps for its work and every new string or list charges one step per 64 bytes, so the fuel
bounds time and total allocation at once; the size limit bounds each single value and the output.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from noetl.engine.template.errors import TemplateError, invalid


@dataclass(frozen=True, slots=True)
class Limits:
    """``fuel`` in evaluation steps, ``size`` in bytes, ``depth`` in nested macro calls and recursive loops."""

    fuel: int = 1_000_000
    size: int = 8 * 1024 * 1024
    depth: int = 60


DEFAULT_LIMITS = Limits()
_OBJECT_SIZE = sys.getsizeof("é") - 1


class Budget:
    """What is left for the rendering under way."""

    __slots__ = ("depth", "fuel", "size")

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.fuel = limits.fuel
        self.size = limits.size
        self.depth = limits.depth

    def charge(self, steps: int) -> None:
        """Use ``steps``; TemplateError when there are none left."""
        self.fuel -= steps
        if self.fuel < 0:
            raise TemplateError("engine ran out of fuel")

    def allocate(self, size: int) -> None:
        """Account for a new value of ``size`` bytes, before or after it is built."""
        if size > self.size:
            raise invalid(f"result exceeds the limit of {self.size} bytes")
        self.fuel -= 1 + (size >> 6)
        if self.fuel < 0:
            raise TemplateError("engine ran out of fuel")

    def text(self, text: str) -> str:
        """Account for a new string and return it."""
        self.allocate(size_of(text))
        return text

    def items(self, count: int) -> None:
        """Account for a new list of ``count`` elements."""
        self.allocate(count << 3)


def size_of(text: str) -> int:
    """Bytes that the characters of a string take in memory: 1, 2 or 4 each."""
    return len(text) if text.isascii() else sys.getsizeof(text) - _OBJECT_SIZE
