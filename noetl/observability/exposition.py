"""Metrics as text (Prometheus format 0.0.4), and the metrics of several processes added up.

The text is the reference's: whole numbers without ``.0``, families by name, no ``_created`` series (spec 60,
section 10).
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_EXACT_INTEGERS: Final = 2**53
_COMBINE: Final[dict[str, Callable[[float, float], float]]] = {"max": max, "min": min}


class Sample(msgspec.Struct, array_like=True, gc=False):
    """One line: name, labels in order, value."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class FamilySnapshot(msgspec.Struct, array_like=True):
    """One family at one moment; can be sent to another process with `msgspec`."""

    name: str
    kind: str
    documentation: str
    samples: list[Sample]


def snapshot(metrics: Iterable[Metric]) -> list[FamilySnapshot]:
    """The samples of collected metrics, families sorted by name."""
    families = [
        FamilySnapshot(
            f"{metric.name}_total" if metric.type == "counter" else metric.name,
            metric.type if metric.type != "unknown" else "untyped",
            metric.documentation,
            [Sample(sample.name, tuple(sample.labels.items()), sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]
    return sorted(families, key=lambda family: family.name)


def merge(processes: Iterable[list[FamilySnapshot]], rules: Mapping[str, str]) -> list[FamilySnapshot]:
    """The families of all processes as one: values of equal labels are added.

    Args:
        processes: One snapshot per process.
        rules: ``max`` or ``min`` for families, by name, whose values are not to be added.
    """
    merged: dict[str, FamilySnapshot] = {}
    totals: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], Sample]] = {}
    for families in processes:
        for family in families:
            known = merged.setdefault(family.name, FamilySnapshot(family.name, family.kind, family.documentation, []))
            samples = totals.setdefault(family.name, {})
            combine = _COMBINE.get(rules.get(family.name, ""), float.__add__)
            for sample in family.samples:
                present = samples.get((sample.name, sample.labels))
                if present is None:
                    added = samples[sample.name, sample.labels] = Sample(sample.name, sample.labels, sample.value)
                    known.samples.append(added)
                else:
                    present.value = combine(float(present.value), float(sample.value))
    return sorted(merged.values(), key=lambda family: family.name)


def render(families: Iterable[FamilySnapshot]) -> bytes:
    """The text, one line per sample. A family without samples is left out, as in the reference."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        documentation = family.documentation.replace("\\", "\\\\").replace("\n", "\\n")
        lines += (f"# HELP {family.name} {documentation}", f"# TYPE {family.name} {family.kind}")
        lines += (f"{sample.name}{_labels(sample.labels)} {_number(sample.value)}" for sample in family.samples)
    return "\n".join((*lines, "")).encode()


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    # A lone surrogate has no UTF-8 form; the text must stay readable whatever a client called its event.
    text = value.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < _EXACT_INTEGERS:
        return str(int(value))
    return repr(float(value))
