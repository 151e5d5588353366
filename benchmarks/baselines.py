"""Stored figures of earlier runs, by the Python that they hold for: each has another interpreter and other costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "baselines"


class Baselines:
    """The figures of one kind, by the name of what was measured, in a JSON file that reads well in a difference."""

    def __init__(self, kind: str, folder: Path = FOLDER) -> None:
        self.path = folder / f"{kind}-python{sys.version_info.major}.{sys.version_info.minor}.json"
        self.exist = self.path.exists()
        """Whether there are any for this Python."""
        self._figures: dict[str, float] = json.loads(self.path.read_text()) if self.exist else {}
        self._measured: dict[str, float] = {}

    def of(self, name: str) -> float | None:
        """The figure to compare with."""
        return self._figures.get(name)

    def store(self, name: str, figure: float) -> None:
        """Take a new one; `write` keeps it."""
        self._measured[name] = figure

    def write(self) -> None:
        """Keep the new figures, and those that were not measured this time."""
        self.path.parent.mkdir(exist_ok=True)
        figures = dict(sorted((self._figures | self._measured).items()))
        self.path.write_text(json.dumps(figures, indent=1) + "\n")
