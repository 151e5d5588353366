"""Snowflake ids: layout, order, uniqueness, and what happens when the clock misbehaves."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl._fast.snowflake import EPOCH_MS, SnowflakeGenerator, compose, decompose, machine_id_from_name
from noetl.errors import InternalError, UnavailableError
from tests.unit.fast import twins

LAYOUT = [
    (0, 0, 0, 0),
    (1, 0, 4095, 4198399),
    (1, 1, 1, 4198401),
    (63158400000, 0, 0, 264905529753600000),
    (76723200000, 7, 0, 321800424652828672),
    (91375061784, 862, 0, 383254787144409088),
    (91375061784, 862, 1, 383254787144409089),
    (91375061785, 862, 0, 383254787148603392),
    (2199023255551, 1023, 4095, 9223372036854775807),
]
MACHINE_IDS = [
    ("", 805),
    ("a", 140),
    ("localhost", 890),
    ("noetl-server", 595),
    ("noetl-server-local", 465),
    ("noetl-server-0", 862),
    ("noetl-server-1", 273),
    ("noetl-server-2", 1016),
    ("noetl-server-3", 427),
    ("noetl-server-pod-0", 984),
    ("pod-0", 601),
    ("pod-1", 166),
    ("winbox", 182),
    ("noetl-server-rust-5f6b7c8d9-abcde", 443),
    ("noetl-server-7d9c6b5f4d-x2x4z", 939),
    ("ip-10-0-0-1.ec2.internal", 1011),
    ("very-long-hostname-with-pid-12345", 145),
    ("Noetl-Server-0", 990),
    ("сервер-1", 875),
]


class Clock:
    """A clock that shows what the test sets, in milliseconds since the epoch of the ids."""

    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return EPOCH_MS + self.now


@pytest.mark.parametrize(("ms", "machine", "sequence", "id_"), LAYOUT)
def test_layout(ms: int, machine: int, sequence: int, id_: int) -> None:
    assert compose(ms, machine, sequence) == id_
    assert decompose(id_) == (ms, machine, sequence)


@pytest.mark.parametrize("parts", [(-1, 0, 0), (2**41, 0, 0), (0, 1024, 0), (0, -1, 0), (0, 0, 4096), (0, 0, -1)])
def test_parts_outside_the_layout_are_refused(parts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        compose(*parts)


def test_negative_number_is_no_id() -> None:
    with pytest.raises(ValueError):
        decompose(-1)


@pytest.mark.parametrize(("name", "machine_id"), MACHINE_IDS)
def test_machine_id_of_a_host_name(name: str, machine_id: int) -> None:
    assert machine_id_from_name(name) == machine_id


@given(st.text())
def test_machine_id_of_any_name_equals_the_twin(name: str) -> None:
    assert machine_id_from_name(name) == twins.machine_id_from_name(name)


def test_sequence_restarts_every_millisecond_and_survives_a_small_step_back() -> None:
    clock = Clock()
    generator = SnowflakeGenerator(1, clock=clock)
    minted = []
    for clock.now in (10, 10, 11, 9, 11):
        minted.append(decompose(generator.mint()))
    assert minted == [(10, 1, 0), (10, 1, 1), (11, 1, 0), (11, 1, 1), (11, 1, 2)]
    assert generator.clock_backwards == 0


def test_full_millisecond_borrows_from_the_next_one() -> None:
    generator = SnowflakeGenerator(1, clock=Clock(10))
    minted = generator.mint_many(4097)
    assert [decompose(id_) for id_ in minted[-2:]] == [(10, 1, 4095), (11, 1, 0)]


def test_mint_many_equals_that_many_mints() -> None:
    one, many = SnowflakeGenerator(5, clock=Clock(7)), SnowflakeGenerator(5, clock=Clock(7))
    assert many.mint_many(5000) == [one.mint() for _ in range(5000)]
    assert many.mint_many(0) == []
    with pytest.raises(ValueError):
        many.mint_many(-1)


@given(
    st.lists(st.integers(0, 900), min_size=1, max_size=200),
    st.integers(0, 1023),
    st.sampled_from([(stripe, stripes) for stripes in (1, 2, 4, 8, 16) for stripe in range(stripes)]),
)
def test_any_clock_gives_increasing_ids_equal_to_the_twin(
    times: list[int], machine: int, stripe: tuple[int, int]
) -> None:
    clock = Clock()
    generator = SnowflakeGenerator(machine, *stripe, clock=clock)
    twin = twins.Snowflake(machine, *stripe)
    minted = []
    for clock.now in times:
        id_ = generator.mint()
        assert id_ == twin.mint_at(clock.now)
        minted.append(id_)
    assert minted == sorted(set(minted))


def test_system_clock_gives_increasing_ids_of_now() -> None:
    generator = SnowflakeGenerator(862)
    before = time.time_ns() // 1_000_000
    minted = [generator.mint() for _ in range(10_000)]
    after = time.time_ns() // 1_000_000
    assert minted == sorted(set(minted))
    assert before <= decompose(minted[0])[0] + EPOCH_MS <= after


def test_threads_never_share_an_id() -> None:
    generator = SnowflakeGenerator(3)
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [generator.mint() for _ in range(1000)], range(8)))
    assert len({id_ for batch in batches for id_ in batch}) == 8000


@pytest.mark.parametrize("stripes", [2, 4, 8, 16])
def test_stripes_of_one_machine_never_share_an_id(stripes: int) -> None:
    minted = [
        id_
        for stripe in range(stripes)
        for id_ in SnowflakeGenerator(9, stripe, stripes, clock=Clock(50)).mint_many(1000)
    ]
    assert len(set(minted)) == len(minted)
    assert {decompose(id_)[1] for id_ in minted} == {9}


@pytest.mark.parametrize("arguments", [(-1,), (1024,), (0, 0, 3), (0, 0, 32), (0, 0, 0), (0, 2, 2), (0, -1, 2)])
def test_impossible_generators_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        SnowflakeGenerator(*arguments)


def test_step_back_is_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(5000)
    generator = SnowflakeGenerator(1, clock=clock)
    first = generator.mint()
    clock.now = 4500
    with caplog.at_level(logging.WARNING, "noetl.snowflake"):
        minted = generator.mint_many(10)
    assert minted == list(range(first + 1, first + 11))
    assert generator.clock_backwards == 1
    assert [record.getMessage() for record in caplog.records] == [
        "system clock stepped back by 500 ms; ids continue from the newest one"
    ]


def test_borrowing_ends_after_one_second() -> None:
    generator = SnowflakeGenerator(1, 0, 16, clock=Clock(0))
    newest = generator.mint_many(256 * 1001)[-1]
    assert decompose(newest)[0] == 1000
    with pytest.raises(UnavailableError, match="system clock is 1001 ms behind the newest id; fix NTP"):
        generator.mint()


def test_waits_for_a_clock_that_is_just_too_far_behind() -> None:
    readings = iter([5000, *[3998] * 256, 4001])  # the first id beyond the 256 of its millisecond meets 3998
    generator = SnowflakeGenerator(1, 0, 16, clock=lambda: EPOCH_MS + next(readings))
    generator.mint_many(256)
    assert decompose(generator.mint())[0] == 5001


def test_step_back_of_a_minute_costs_nothing_while_the_sequence_lasts() -> None:
    clock = Clock(60_000)
    generator = SnowflakeGenerator(1, clock=clock)
    first = generator.mint()
    clock.now = 0
    assert generator.mint_many(4095) == list(range(first + 1, first + 4096))


def test_clock_far_behind_is_refused_at_once_and_recovers() -> None:
    clock = Clock(60_000)
    generator = SnowflakeGenerator(1, 0, 16, clock=clock)
    generator.mint_many(256)
    clock.now = 0
    with pytest.raises(UnavailableError, match="fix NTP") as refusal:
        generator.mint()
    assert refusal.value.retry_after == 60
    clock.now = 60_001
    assert decompose(generator.mint())[0] == 60_001


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (-1, "system clock is before NoETL epoch (2024-01-01); fix NTP"),
        (-EPOCH_MS, "system clock is before NoETL epoch (2024-01-01); fix NTP"),
        (2**41, "system clock is after the last NoETL id (2093-09-06); fix NTP"),
    ],
)
def test_clock_outside_the_range_of_ids_is_an_error(now: int, message: str) -> None:
    with pytest.raises(InternalError) as error:
        SnowflakeGenerator(1, clock=Clock(now)).mint()
    assert error.value.message == message


def test_last_millisecond_never_overflows_into_a_negative_id() -> None:
    generator = SnowflakeGenerator(1023, clock=Clock(2**41 - 1))
    assert generator.mint_many(4096)[-1] == 2**63 - 1
    with pytest.raises(UnavailableError):
        generator.mint()


def test_errors_of_the_clock_reach_the_caller() -> None:
    def broken() -> int:
        raise OSError("no clock")

    with pytest.raises(OSError, match="no clock"):
        SnowflakeGenerator(1, clock=broken).mint()
