"""Snowflake ids: 41 bits of milliseconds since 2024, 10 bits of machine, 12 bits of sequence (spec 60, section 8)."""

import logging
import time

from noetl.errors import InternalError, UnavailableError

cimport cython
from libc.stdint cimport int64_t, uint64_t
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

EPOCH_MS = 1_704_067_200_000

cdef enum:
    MACHINE_BITS = 10
    SEQUENCE_BITS = 12
    MAXIMUM_STRIPES = 16
    LONGEST_BORROW_MS = 1_000
    HARMLESS_STEP_MS = 10
    TRIES = 3

cdef int64_t EPOCH = 1_704_067_200_000
cdef int64_t LAST_MS = (1LL << 41) - 1


@cython.final
cdef class SnowflakeGenerator:
    """Mints ids that increase strictly within one generator; the GIL makes it safe for threads.

    ``stripe`` of ``stripes`` (a power of two up to 16) fixes the top bits of the sequence, so that the processes of
    one machine id never mint the same id. ``clock`` returns Unix milliseconds and replaces the system clock.

    When a millisecond's sequence is used up, or the clock stepped back, the generator runs ahead of the clock by up to
    one second; beyond that it sleeps, and where a second of sleep does not help it refuses.
    """

    def __init__(self, int machine_id, int stripe=0, int stripes=1, *, clock=None):
        if not 0 <= machine_id < 1 << MACHINE_BITS:
            raise ValueError(f"machine id {machine_id} is not in 0..1023")
        if not 1 <= stripes <= MAXIMUM_STRIPES or stripes & (stripes - 1):
            raise ValueError(f"{stripes} stripes: not a power of two in 1..{MAXIMUM_STRIPES}")
        if not 0 <= stripe < stripes:
            raise ValueError(f"stripe {stripe} is not in 0..{stripes - 1}")
        self.machine_id = machine_id
        self.stripe = stripe
        self.stripes = stripes
        self.clock = clock
        self.clock_backwards = 0
        cdef int64_t ids_per_millisecond = (1 << SEQUENCE_BITS) // stripes
        self.sequence_mask = ids_per_millisecond - 1
        self.low_bits = (machine_id << SEQUENCE_BITS) | (stripe * ids_per_millisecond)
        # One before the first millisecond, so that the first id at time 0 has sequence 0.
        self.last = -1
        self.sequence = 0
        self.seen = 0

    cdef int64_t now(self) except -1:
        """Milliseconds since the epoch of the ids."""
        cdef timespec moment
        cdef int64_t milliseconds
        if self.clock is None:
            clock_gettime(CLOCK_REALTIME, &moment)
            milliseconds = <int64_t>moment.tv_sec * 1000 + moment.tv_nsec // 1_000_000 - EPOCH
        else:
            milliseconds = <int64_t>self.clock() - EPOCH
        if <uint64_t>milliseconds > <uint64_t>LAST_MS:
            if milliseconds < 0:
                raise InternalError("system clock is before NoETL epoch (2024-01-01); fix NTP")
            raise InternalError("system clock is after the last NoETL id (2093-09-06); fix NTP")
        return milliseconds

    cdef int64_t compose_next(self, int64_t now) noexcept:
        """The next id at time ``now``, or -1 when that would lead more than one second ahead of it."""
        cdef int64_t milliseconds = self.last
        cdef int64_t sequence
        if now > milliseconds:
            milliseconds = now
            sequence = 0
        else:
            sequence = (self.sequence + 1) & self.sequence_mask
            if sequence == 0:
                milliseconds += 1
                if milliseconds - now > LONGEST_BORROW_MS or milliseconds > LAST_MS:
                    return -1
        self.last = milliseconds
        self.sequence = sequence
        return (milliseconds << (MACHINE_BITS + SEQUENCE_BITS)) | self.low_bits | sequence

    cdef int64_t next_id(self) except -1:
        """The next id by the clock; for other extensions."""
        cdef int64_t now, minted
        cdef int attempt
        for attempt in range(TRIES):
            now = self.now()
            if now < self.seen - HARMLESS_STEP_MS:
                self.report_backwards(now)
            self.seen = now
            minted = self.compose_next(now)
            if minted >= 0:
                return minted
            self.wait(self.last + 1 - LONGEST_BORROW_MS - now, attempt == TRIES - 1)
        raise AssertionError("the last wait raises")

    cdef int report_backwards(self, int64_t now) except -1:
        self.clock_backwards += 1
        logging.getLogger("noetl.snowflake").warning(
            "system clock stepped back by %d ms; ids continue from the newest one", self.seen - now
        )
        return 0

    cdef int wait(self, int64_t milliseconds, bint last_try) except -1:
        if last_try or milliseconds > LONGEST_BORROW_MS:
            raise UnavailableError(
                f"system clock is {milliseconds + LONGEST_BORROW_MS} ms behind the newest id; fix NTP",
                retry_after=1 + milliseconds // 1000,
            )
        # A little longer, because the clock counts whole milliseconds and the wait may begin within one.
        time.sleep(0.001 * max(milliseconds + 1, 1))
        return 0

    def mint(self):
        """The next id.

        Raises InternalError when the clock is outside the range of the ids (2024-2093), and UnavailableError when it is
        so far behind the newest id that one second of sleep would not help.
        """
        return self.next_id()

    def mint_many(self, Py_ssize_t count):
        """``count`` ids in increasing order; raises as `mint`, and ValueError for a negative count."""
        if count < 0:
            raise ValueError(f"count {count} is negative")
        return [self.next_id() for _ in range(count)]


def compose(int64_t ms, int machine, int sequence):
    """The id of a millisecond since the epoch, a machine and a sequence number; ValueError outside their ranges."""
    if not 0 <= ms <= LAST_MS or not 0 <= machine < 1 << MACHINE_BITS or not 0 <= sequence < 1 << SEQUENCE_BITS:
        raise ValueError(f"no id has millisecond {ms}, machine {machine}, sequence {sequence}")
    return (ms << (MACHINE_BITS + SEQUENCE_BITS)) | (machine << SEQUENCE_BITS) | sequence


def decompose(int64_t id):
    """``(milliseconds since the epoch, machine, sequence)`` of an id; ValueError for a negative one."""
    if id < 0:
        raise ValueError(f"{id} is not an id")
    return (
        id >> (MACHINE_BITS + SEQUENCE_BITS),
        (id >> SEQUENCE_BITS) & ((1 << MACHINE_BITS) - 1),
        id & ((1 << SEQUENCE_BITS) - 1),
    )


def machine_id_from_name(str text not None):
    """The machine id derived from a host name: low 10 bits of FNV-1a 64 of its UTF-8 bytes (spec 60, section 8.3)."""
    cdef uint64_t state = 0xCBF29CE484222325ULL
    cdef unsigned char byte
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3ULL
    return <int>(state & ((1 << MACHINE_BITS) - 1))
