from libc.stdint cimport int64_t

cdef class SnowflakeGenerator:
    cdef readonly int machine_id
    cdef readonly int stripe
    cdef readonly int stripes
    cdef readonly int64_t clock_backwards
    cdef object clock
    cdef int64_t last
    cdef int64_t sequence
    cdef int64_t sequence_mask
    cdef int64_t low_bits
    cdef int64_t seen

    cdef int64_t now(self) except -1
    cdef int64_t next_id(self) except -1
    cdef int64_t compose_next(self, int64_t now) noexcept
    cdef int report_backwards(self, int64_t now) except -1
    cdef int wait(self, int64_t milliseconds, bint last_try) except -1
