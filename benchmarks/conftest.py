"""Fixtures of the micro-benchmarks: a measurement that fails when it misses its goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_benchmark.fixture import BenchmarkFixture


class Measure(Protocol):
    """Measures ``function(*arguments)``; ``goal`` is the highest time of a call in nanoseconds."""

    def __call__(self, function: Callable[..., Any], *arguments: Any, goal: float | None = None) -> Any: ...


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Measure:
    """The fastest round decides, because noise of the machine only ever adds."""

    def run(function: Callable[..., Any], *arguments: Any, goal: float | None = None) -> Any:
        result = benchmark(function, *arguments)
        if goal is not None and benchmark.stats is not None:
            fastest = benchmark.stats.stats.min * 1e9
            assert fastest <= goal, f"{fastest:.0f} ns per call, the goal is {goal:.0f} ns"
        return result

    return run
