"""What a run measured, and how it is printed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

PERCENTILES = (50, 95, 99)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Milliseconds by name: p50, p95, p99, max."""
    if not seconds:
        return {}
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return {**{f"p{cut}": cuts[cut - 1] * 1e3 for cut in PERCENTILES}, "max": max(seconds) * 1e3}


@dataclass
class Figures:
    """One measured run of one server.

    ``latencies`` are seconds by what was waited for; the first one is the one that tables show. ``notes`` are further
    facts by name.
    """

    unit: str
    latencies: dict[str, list[float]]
    count: int = 0
    errors: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    database_cpu_seconds: float = 0.0
    resident_mib: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.count / self.seconds if self.seconds else 0.0

    @property
    def cpu_microseconds(self) -> float:
        """CPU time of the server for one unit."""
        return self.cpu_seconds / self.count * 1e6 if self.count else 0.0

    def row(self, scenario: str, server: str) -> dict[str, Any]:
        """All figures under the names that tables, plots and stored results use."""
        first = next(iter(self.latencies))
        return {
            "scenario": scenario,
            "server": server,
            "unit": self.unit,
            "rate": self.rate,
            "count": self.count,
            "seconds": self.seconds,
            "errors": self.errors,
            "latency_of": first,
            **percentiles(self.latencies[first]),
            "latencies": {name: percentiles(values) for name, values in self.latencies.items()},
            "cpu_us": self.cpu_microseconds,
            "database_cpu_us": self.database_cpu_seconds / self.count * 1e6 if self.count else 0.0,
            "rss_mib": self.resident_mib,
            **self.notes,
        }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table for people and Markdown."""
    heads = "scenario, server, rate, errors, latency of, p50 ms, p95 ms, p99 ms, CPU us/unit, DB CPU us/unit, RSS MiB"
    columns = heads.split(", ")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        lines.append(
            f"| {row['scenario']} | {row['server']} | {row['rate']:,.0f} {row['unit']}/s | {row['errors']} "
            f"| {row['latency_of']} | {row.get('p50', 0):.2f} | {row.get('p95', 0):.2f} | {row.get('p99', 0):.2f} "
            f"| {row['cpu_us']:.0f} | {row['database_cpu_us']:.0f} | {row['rss_mib']:.0f} |"
        )
    return "\n".join(lines)


def ratios(rows: list[dict[str, Any]]) -> list[str]:
    """Per scenario the medians of ours beside those of the reference, where both ran."""
    lines: list[str] = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        of = {
            server: [row for row in rows if row["scenario"] == scenario and row["server"] == server]
            for server in ("ours", "reference")
        }
        if all(of.values()):
            ours, reference = (
                {key: statistics.median(row.get(key, 0.0) for row in of[server]) for key in ("rate", "p95", "cpu_us")}
                for server in ("ours", "reference")
            )
            lines.append(
                f"{scenario}: ours / reference: rate {ours['rate'] / reference['rate']:.2f}, "
                f"p95 {ours['p95'] / reference['p95']:.2f}, CPU {ours['cpu_us'] / reference['cpu_us']:.2f} "
                f"(medians of {len(of['ours'])} and {len(of['reference'])} runs)"
            )
    return lines
