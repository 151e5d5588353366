"""Which shard (and lane) an execution belongs to: XXH64 of its id (spec 60, section 9)."""

def xxh64_int64(value: int) -> int:
    """XXH64, seed 0, over the eight little-endian bytes of the signed 64-bit ``value``; in 0..2**64-1."""

def shard_for(execution_id: int, count: int) -> int:
    """The shard in 0..count-1 of an execution; 0 when ``count`` is 0 or 1 (spec 60, section 9).

    Raises OverflowError for an id outside the signed 64-bit range or a negative count.
    """
