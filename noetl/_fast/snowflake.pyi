"""Snowflake ids: 41 bits of milliseconds since 2024, 10 bits of machine, 12 bits of sequence (spec 60, section 8)."""

from collections.abc import Callable
from typing import Final, final

EPOCH_MS: Final[int]
"""Unix milliseconds of 2024-01-01T00:00:00Z, where the ids' time begins."""

@final
class SnowflakeGenerator:
    """Mints ids that increase strictly within one generator; the GIL makes it safe for threads.

    ``stripe`` of ``stripes`` (a power of two up to 16) fixes the top bits of the sequence, so that the processes of
    one machine id never mint the same id. ``clock`` returns Unix milliseconds and replaces the system clock.

    When a millisecond's sequence is used up, or the clock stepped back, the generator runs ahead of the clock by up to
    one second; beyond that it sleeps, and where a second of sleep does not help it refuses.

    Raises ValueError for a machine id outside 0..1023 or an impossible stripe.
    """

    @property
    def machine_id(self) -> int: ...
    @property
    def stripe(self) -> int: ...
    @property
    def stripes(self) -> int: ...
    @property
    def clock_backwards(self) -> int:
        """How often the clock was seen to step back by more than 10 ms (``noetl_snowflake_clock_backwards_total``)."""

    def __init__(
        self, machine_id: int, stripe: int = 0, stripes: int = 1, *, clock: Callable[[], int] | None = None
    ) -> None: ...
    def mint(self) -> int:
        """The next id.

        Raises InternalError when the clock is outside the range of the ids (2024-2093), and UnavailableError when it is
        so far behind the newest id that one second of sleep would not help.
        """

    def mint_many(self, count: int) -> list[int]:
        """``count`` ids in increasing order; raises as `mint`, and ValueError for a negative count."""

def compose(ms: int, machine: int, sequence: int) -> int:
    """The id of a millisecond since the epoch, a machine and a sequence number; ValueError outside their ranges."""

def decompose(id: int) -> tuple[int, int, int]:
    """``(milliseconds since the epoch, machine, sequence)`` of an id; ValueError for a negative one."""

def machine_id_from_name(text: str) -> int:
    """The machine id derived from a host name: low 10 bits of FNV-1a 64 of its UTF-8 bytes (spec 60, section 8.3)."""
