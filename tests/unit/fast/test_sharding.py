"""The shard of an execution: the recorded table, the xxhash package, and an even spread."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl._fast.sharding import shard_for, xxh64_int64
from tests.unit.fast import twins

COUNTS = (1, 2, 3, 4, 5, 7, 8, 16, 64, 100, 1023, 1024)
RECORDED = [
    # execution id, XXH64, shard for each of COUNTS (read from the reference server)
    (0, 0x34C96ACDCADB1BBB, (0, 1, 2, 3, 4, 3, 3, 11, 59, 79, 263, 955)),
    (1, 0x9F29CB17A2A49995, (0, 1, 1, 1, 4, 4, 5, 5, 21, 69, 739, 405)),
    (2, 0xEAC73E4044E82DB0, (0, 0, 0, 0, 0, 2, 0, 0, 48, 60, 777, 432)),
    (-1, 0x85D136ADB773C6C9, (0, 1, 0, 1, 1, 0, 1, 9, 9, 61, 156, 713)),
    (-2, 0xBAB3B83CF164D97F, (0, 1, 1, 3, 4, 6, 7, 15, 63, 99, 304, 383)),
    (-42, 0xD5BA346BC19093F4, (0, 0, 2, 0, 1, 6, 4, 4, 52, 56, 401, 1012)),
    (42, 0xB556806FB6D14353, (0, 1, 0, 3, 2, 4, 3, 3, 19, 87, 177, 851)),
    (4096, 0xCE0B8AD9F765C16F, (0, 1, 0, 3, 4, 0, 7, 15, 47, 59, 216, 367)),
    (9999999999, 0x937FB82DF386E737, (0, 1, 2, 3, 1, 2, 7, 7, 55, 11, 386, 823)),
    (264905529753600000, 0x72A0EC1CCAE89259, (0, 1, 1, 1, 2, 5, 1, 9, 25, 37, 826, 601)),
    (297520437657600000, 0x5733015C1929A6AC, (0, 0, 2, 0, 0, 4, 4, 12, 44, 40, 236, 684)),
    (320816801799737344, 0x7C38CB2FCD528ABE, (0, 0, 1, 2, 0, 3, 6, 14, 62, 90, 214, 702)),
    (320816801799737345, 0x5060055BBF0F2241, (0, 1, 1, 1, 2, 1, 1, 1, 1, 37, 907, 577)),
    (320816801799737346, 0xF6FBC73106F885CB, (0, 1, 0, 3, 0, 0, 3, 11, 11, 15, 693, 459)),
    (381234567890123456, 0x1504C8A511DDA868, (0, 0, 0, 0, 0, 3, 0, 8, 40, 60, 399, 104)),
    (609143516974809090, 0xA0922CEBB9922D3E, (0, 0, 0, 2, 3, 6, 6, 14, 62, 38, 876, 318)),
    (9007199254740991, 0x9999941A8902253A, (0, 0, 0, 2, 4, 0, 2, 10, 58, 14, 705, 314)),
    (9007199254740993, 0xE61780137AF44266, (0, 0, 1, 2, 4, 4, 6, 6, 38, 54, 136, 614)),
    (9223372036854775807, 0xFF70CC60366E770C, (0, 0, 2, 0, 2, 5, 4, 12, 12, 72, 74, 780)),
    (9223372036854775806, 0x1C7F46D8C2D32364, (0, 0, 0, 0, 1, 6, 4, 4, 36, 36, 549, 868)),
    (-9223372036854775808, 0x3F425EACF01544E0, (0, 0, 0, 0, 3, 5, 0, 0, 32, 48, 537, 224)),
    (-9223372036854775807, 0x044E434D0C94F9C4, (0, 0, 0, 0, 1, 6, 4, 4, 4, 56, 87, 452)),
]
SIGNED_64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize(("execution_id", "digest", "shards"), RECORDED)
def test_recorded_ids_hash_and_route_as_recorded(execution_id: int, digest: int, shards: tuple[int, ...]) -> None:
    assert xxh64_int64(execution_id) == digest
    assert tuple(shard_for(execution_id, count) for count in COUNTS) == shards


@pytest.mark.parametrize(
    ("execution_id", "count", "shard"), [(7, 3, 2), (383263798816944128, 8, 6), (1, 1024, 405), (-1, 1024, 713)]
)
def test_values_known_to_the_gateway(execution_id: int, count: int, shard: int) -> None:
    assert shard_for(execution_id, count) == shard


@given(SIGNED_64, st.integers(0, 2**32 - 1))
def test_any_id_routes_as_the_xxhash_package_says(execution_id: int, count: int) -> None:
    assert shard_for(execution_id, count) == twins.shard_for(execution_id, count)


def test_zero_shards_are_one() -> None:
    assert shard_for(42, 0) == 0


@pytest.mark.parametrize(("execution_id", "count"), [(2**63, 2), (-(2**63) - 1, 2), (1, -1), (1, 2**32)])
def test_numbers_outside_their_range_are_refused(execution_id: int, count: int) -> None:
    with pytest.raises(OverflowError):
        shard_for(execution_id, count)


def test_consecutive_ids_spread_evenly() -> None:
    shards = Counter(shard_for(383254787144409088 + index, 16) for index in range(10_000))
    assert len(shards) == 16
    assert all(abs(count - 625) <= 125 for count in shards.values())
