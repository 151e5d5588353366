"""Servers that a module of the tests changes before they start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from noetl.dev.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping


class ChangedServerProcess(ServerProcess):
    """Starts the server by ``module``, which makes its change and then runs the command line."""

    module: ClassVar[str]

    def _command(self) -> list[str]:
        return [sys.executable, "-m", self.module, "serve"]

    def _environment(self) -> Mapping[str, str]:
        return {**super()._environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
