"""What a measurement costs the path that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noetl.observability.instruments import Histogram
from noetl.observability.metrics import REQUEST_BUCKETS, Metrics

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

pytestmark = pytest.mark.benchmark(group="metrics")


def test_histogram_observe(benchmark: BenchmarkFixture) -> None:
    benchmark(Histogram(REQUEST_BUCKETS).observe, 0.003)


def test_observe_event(benchmark: BenchmarkFixture) -> None:
    benchmark(Metrics("1").observe_event, "command.completed", True, 0.003)


def test_observe_request(benchmark: BenchmarkFixture) -> None:
    benchmark(Metrics("1").observe_request, "POST", "/api/events", 200, 0.003)


def test_render(benchmark: BenchmarkFixture) -> None:
    metrics = Metrics("1")
    for number in range(100):
        metrics.observe_event(f"type-{number}", True, 0.003)
    benchmark(metrics.render)
