"""The cache of execution states keeps its budget, and what is needed (promise P5)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noetl.ledger.cache import SPENT_PART, ByteBoundedCache

BUDGET = 80


def cache_of(*entries: tuple[int, int, bool]) -> ByteBoundedCache[int, str]:
    cache: ByteBoundedCache[int, str] = ByteBoundedCache(BUDGET)
    for key, size, is_spent in entries:
        cache.put(key, f"value {key}", size, is_spent=is_spent)
    return cache


def keys(cache: ByteBoundedCache[int, str]) -> list[int]:
    return [key for key in range(100) if cache.peek(key) is not None]


def test_least_recently_used_goes_first() -> None:
    cache = cache_of(*((key, 20, False) for key in range(4)))
    assert cache.get(0) == "value 0"
    cache.put(9, "value 9", 20)
    assert keys(cache) == [0, 2, 3, 9]
    assert (cache.bytes, cache.evictions, cache.hits, cache.misses) == (80, 1, 1, 0)


def test_newest_entry_stays_even_if_it_is_too_large() -> None:
    assert keys(cache_of((1, 10, False), (2, 500, False))) == [2]
    assert keys(cache_of((1, 10, False), (2, 70, True))) == [1, 2]


def test_spent_entries_have_a_part_of_the_budget() -> None:
    running = [(key, 10, False) for key in range(3)]
    spent = [(key, BUDGET // SPENT_PART // 2, True) for key in range(10, 20)]
    assert keys(cache_of(*running, *spent)) == [0, 1, 2, 18, 19]


def test_entry_that_is_needed_again_is_no_longer_spent() -> None:
    cache = cache_of((1, 5, True), (1, 5, False), *((key, 5, True) for key in range(10, 20)))
    assert keys(cache) == [1, 18, 19]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 100), st.sampled_from(["put", "spend", "discard", "get"])))
)
def test_size_is_that_of_what_is_there(steps: list[tuple[int, int, str]]) -> None:
    cache = cache_of()
    sizes: dict[int, int] = {}
    for key, size, step in steps:
        if step == "discard":
            cache.discard(key)
        elif step == "get":
            assert (cache.get(key) is not None) == (key in keys(cache))
        else:
            cache.put(key, f"value {key}", size, is_spent=step == "spend")
            sizes[key] = size
        assert cache.bytes == sum(sizes[key] for key in keys(cache))
        assert cache.bytes <= BUDGET or len(cache) == 1
