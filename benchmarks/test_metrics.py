"""What a measurement costs the path that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from noetl.observability.instruments import Histogram
from noetl.observability.metrics import REQUEST_BUCKETS, Metrics

if TYPE_CHECKING:
    from benchmarks.conftest import Measure

pytestmark = pytest.mark.benchmark(group="metrics")


def test_histogram_observe(measure: Measure) -> None:
    measure(Histogram(REQUEST_BUCKETS).observe, 0.003, goal=1_000)


def test_observe_event(measure: Measure) -> None:
    measure(Metrics("1").observe_event, "command.completed", True, 0.003)


def test_observe_request(measure: Measure) -> None:
    measure(Metrics("1").observe_request, "POST", "/api/events", 200, 0.003)


def test_render(measure: Measure) -> None:
    metrics = Metrics("1")
    for number in range(100):
        metrics.observe_event(f"type-{number}", True, 0.003)
    measure(metrics.render)
