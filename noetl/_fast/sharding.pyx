# cython: freethreading_compatible=True
"""Which shard (and lane) an execution belongs to: XXH64 of its id (spec 60, section 9)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

# The constants of the XXH64 specification (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md).
cdef extern from *:
    """
    #define XXH_PRIME64_1 0x9E3779B185EBCA87ULL
    #define XXH_PRIME64_2 0xC2B2AE3D27D4EB4FULL
    #define XXH_PRIME64_3 0x165667B19E3779F9ULL
    #define XXH_PRIME64_4 0x85EBCA77C2B2AE63ULL
    #define XXH_PRIME64_5 0x27D4EB2F165667C5ULL
    """
    const uint64_t XXH_PRIME64_1
    const uint64_t XXH_PRIME64_2
    const uint64_t XXH_PRIME64_3
    const uint64_t XXH_PRIME64_4
    const uint64_t XXH_PRIME64_5


cdef inline uint64_t rotate_left(uint64_t value, int bits) noexcept nogil:
    return (value << bits) | (value >> (64 - bits))


cdef uint64_t hash_int64(int64_t value) noexcept nogil:
    # An input of exactly eight bytes skips the stripes: one lane, then the avalanche. Arithmetic on the integer
    # itself is the little-endian reading on any machine.
    cdef uint64_t lane = rotate_left(<uint64_t>value * XXH_PRIME64_2, 31) * XXH_PRIME64_1
    cdef uint64_t accumulator = (XXH_PRIME64_5 + 8) ^ lane
    accumulator = rotate_left(accumulator, 27) * XXH_PRIME64_1 + XXH_PRIME64_4
    accumulator ^= accumulator >> 33
    accumulator *= XXH_PRIME64_2
    accumulator ^= accumulator >> 29
    accumulator *= XXH_PRIME64_3
    accumulator ^= accumulator >> 32
    return accumulator


cdef uint32_t shard_number(int64_t execution_id, uint32_t count) noexcept nogil:
    if count <= 1:
        return 0
    return <uint32_t>(hash_int64(execution_id) % count)


def xxh64_int64(int64_t value):
    """XXH64, seed 0, over the eight little-endian bytes of the signed 64-bit ``value``; in 0..2**64-1."""
    return hash_int64(value)


def shard_for(int64_t execution_id, uint32_t count):
    """The shard in 0..count-1 of an execution; 0 when ``count`` is 0 or 1 (spec 60, section 9).

    Raises OverflowError for an id outside the signed 64-bit range or a negative count.
    """
    return shard_number(execution_id, count)
