"""Draws the rows of a load run: rate and p95 per scenario, ours beside the reference."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import matplotlib

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = {"ours": "#2563eb", "reference": "#9ca3af"}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Medians per scenario as two rows of bars, into a file whose ending says the format."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["scenario"] for row in rows))
    servers = [name for name in COLOURS if any(row["server"] == name for row in rows)]
    figure, axes = pyplot.subplots(1, 2, figsize=(12, 0.5 * len(names) + 1.5), sharey=True, layout="constrained")
    for axis, key, title in zip(axes, ("rate", "p95"), ("units per second", "p95 in milliseconds"), strict=True):
        for place, server in enumerate(servers):
            values = [
                statistics.median(
                    [row[key] for row in rows if (row["scenario"], row["server"]) == (name, server)] or [0]
                )
                for name in names
            ]
            height = 0.8 / len(servers)
            bars = axis.barh([i + place * height for i in range(len(names))], values, height, color=COLOURS[server])
            axis.bar_label(bars, [f"{value:,.4g}" if value else "" for value in values], padding=3, fontsize=8)
            bars.set_label(server)
        axis.set_xscale("log")
        axis.set_title(title)
        axis.set_yticks([i + 0.4 - 0.4 / len(servers) for i in range(len(names))], names)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    axes[0].legend(frameon=False, loc="lower right")
    figure.savefig(path)


def _median(rows: list[dict[str, Any]], scenario: str, server: str, key: str) -> float:
    found = [row[key] for row in rows if (row["scenario"], row["server"]) == (scenario, server)]
    return statistics.median(found) if found else 0.0
