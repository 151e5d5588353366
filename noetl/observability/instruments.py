"""Counters, gauges and histograms that cost little to move; `prometheus_client` collects them.

The values are plain Python numbers without locks: they belong to the thread of the event loop. Other threads may read.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import CollectorRegistry


class Counter:
    """A number that only grows."""

    __slots__ = ("read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self.read: Callable[[], float] | None = None

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``, which is not negative."""
        self.value += amount

    def track(self, read: Callable[[], float]) -> None:
        """Take the value from ``read`` whenever the metrics are shown, for counts that are kept elsewhere."""
        self.read = read

    def current(self) -> float:
        """The value to show."""
        return self.value if self.read is None else self.read()


class Gauge(Counter):
    """A number that goes up and down."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value


class Histogram:
    """Counts of values by upper bound, their sum and their number."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count ``value``; a value equal to a bound belongs to it, as in Prometheus."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Child = TypeVar("Child", Counter, Gauge, Histogram)

MAXIMUM_CHILDREN: Final = 2000
"""Combinations of label values of one family; the rest is counted together, whoever chose the values."""
OTHER: Final = "other"


class Family(Collector, Generic[Child]):
    """One metric name with a child per combination of label values.

    Args:
        registry: Where the family is shown.
        kind: ``counter``, ``gauge`` or ``histogram``.
        name: Full name, for a counter with ``_total``.
        documentation: The HELP text.
        label_names: Names of the labels, in the order of the values given to `labels`.
        make: Builds a child.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        kind: str,
        name: str,
        documentation: str,
        label_names: tuple[str, ...],
        make: Callable[[], Child],
    ) -> None:
        self.name = name
        self._kind = kind
        self._documentation = documentation
        self.label_names = label_names
        self._make = make
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> Child:
        """The child for the label values; bind it once where it is used often."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self.name} has the labels {self.label_names}")
            if len(self._children) >= MAXIMUM_CHILDREN:
                values = (OTHER,) * len(values)
                if values in self._children:
                    return self._children[values]
            child = self._children[values] = self._make()
        return child

    def describe(self) -> Iterable[Metric]:
        """The name alone, so that registering does not read tracked values."""
        yield Metric(self.name, self._documentation, self._kind)

    def collect(self) -> Iterable[Metric]:
        """All samples, sorted by label values."""
        metric = Metric(self.name.removesuffix("_total"), self._documentation, self._kind)
        for values, child in sorted(self._children.items()):
            labels = dict(zip(self.label_names, values, strict=True))
            if isinstance(child, Histogram):
                _add_histogram(metric, self.name, labels, child)
            else:
                metric.add_sample(self.name, labels, child.current())
        yield metric


def _add_histogram(metric: Metric, name: str, labels: dict[str, str], histogram: Histogram) -> None:
    seen = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        seen += count
        metric.add_sample(f"{name}_bucket", {**labels, "le": "+Inf" if bound is None else f"{bound:.15g}"}, seen)
    metric.add_sample(f"{name}_sum", labels, histogram.total)
    metric.add_sample(f"{name}_count", labels, seen)
