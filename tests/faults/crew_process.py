"""A crew as a process of its own, to be killed, stopped and started again.

python -m tests.faults.crew_process '{"server_urls": [...], "nats_url": "...", "name": "...", ...}' HISTORY
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from noetl.dev.server_process import PythonProcess
from tests.faults.history import History
from tests.faults.worker import Crew, Habits

if TYPE_CHECKING:
    from collections.abc import Mapping


class CrewProcess(PythonProcess):
    """Starts a crew; its members keep their names over all starts, as the pods of a deployment do."""

    name = "crew"

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        super().__init__(folder)
        self.options = dict(options)

    @property
    def history_path(self) -> Path:
        """What all starts were told."""
        return self.data_directory / "history"

    def _command(self) -> list[str]:
        options = orjson.dumps(self.options).decode()
        return [sys.executable, "-m", "tests.faults.crew_process", options, str(self.history_path)]

    def _environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(Path(__file__).parents[2])}

    async def _is_ready(self) -> bool:
        return True


async def _work(options: dict[str, Any], path: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    habits = Habits(**options.pop("habits"))
    with path.open("ab") as file:
        async with Crew(**options, habits=habits, history=History(file=file)) as crew:
            while not stop.is_set():
                if (failure := crew.failure()) is not None:
                    raise failure
                await asyncio.wait([asyncio.ensure_future(stop.wait())], timeout=1)


if __name__ == "__main__":
    uvloop.run(_work(orjson.loads(sys.argv[1]), Path(sys.argv[2])))
