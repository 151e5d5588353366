from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef uint64_t hash_int64(int64_t value) noexcept nogil
cdef uint32_t shard_number(int64_t execution_id, uint32_t count) noexcept nogil
