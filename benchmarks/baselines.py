"""Stored figures of earlier runs, by the Python and the maker of the processor: on others calls cost otherwise."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "baselines"


def processor_maker() -> str:
    """Who made the processor, for example ``AuthenticAMD``; its kind (``aarch64``) where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), platform.machine())


class Baselines:
    """The figures of one kind, by the name of what was measured, in a JSON file that reads well in a difference."""

    def __init__(self, kind: str, folder: Path = FOLDER) -> None:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.path = folder / f"{kind}-{version}-{processor_maker()}.json"
        self.exist = self.path.exists()
        """Whether there are any for this Python on such a processor."""
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
