"""What the time of our server goes into under each load scenario: samples of its Python stack.

    python -m benchmarks.profile [SCENARIO ...] [--scale 0.5] [--top 8]

Needs `pip install py-spy`. A sample belongs to the innermost Python function, what it calls in C included; the frame of
the event loop itself therefore holds uvloop and the kernel's part of reading sockets. The sampler does not stop the
server, so a few samples are torn and left out, and shares are good to about one percent.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop

from benchmarks.load import scenarios
from benchmarks.load.__main__ import chosen, machine
from benchmarks.load.servers import open_servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.load.figures import Figures
    from benchmarks.load.servers import Target

DEFAULT: Final = (
    "events 1",
    "events 100",
    "steady 1000/s",
    "playbooks",
    "loop 1000",
    "chain 10",
    "chain 1000",
    "reads",
)
SAMPLES_PER_SECOND: Final = 250
LOOP: Final = "event loop, sockets"
OWNERS: Final = (
    ("noetl/http/", "requests and answers"),
    ("uvicorn/", "HTTP protocol"),
    ("noetl/ledger/", "ledger"),
    ("noetl/engine/", "engine"),
    ("noetl/store/", "statements"),
    ("asyncpg/", "PostgreSQL driver"),
    ("noetl/messaging/", "announcing"),
    ("nats/", "announcing"),
    ("noetl/observability/", "metrics and logs"),
    ("uvloop/", LOOP),
    ("asyncio/runners", LOOP),
    ("asyncio/", "tasks and timers"),
)


class Samples:
    """Shares by owner and by function, from py-spy's ``raw`` output: a line per stack, its frames by semicolons."""

    def __init__(self, text: str) -> None:
        self.total = 0
        self.owners: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        for line in text.splitlines():
            stack, _, count = line.rpartition(" ")
            frame = stack.rpartition(";")[2]
            if not frame:
                continue
            self.total += int(count)
            self.functions[frame] += int(count)
            self.owners[next((owner for part, owner in OWNERS if part in frame), "other")] += int(count)

    def lines(self, top: int) -> list[str]:
        """Owners in one line, then the functions with most samples."""
        if not self.total:
            return ["no samples"]
        owners = ", ".join(f"{name} {count / self.total:.0%}" for name, count in self.owners.most_common())
        functions = [
            f"  {count / self.total:5.1%}  {name}"
            for name, count in self.functions.most_common(top)
            if "runners" not in name
        ]
        return [owners, *functions]


async def sampled(target: Target, scenario: Callable[[Target], Awaitable[Figures]]) -> tuple[Figures, Samples]:
    """Run a scenario and look at the server all the while."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "samples"
        sampler = await asyncio.create_subprocess_exec(
            "py-spy", "record", "--nonblocking", "--function", "--format", "raw", "--rate", str(SAMPLES_PER_SECOND),
            "--duration", "3600", "--output", str(output), "--pid", str(target.pid),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            figures = await scenario(target)
        finally:
            sampler.send_signal(2)  # it writes what it has
            await sampler.wait()
        return figures, Samples(output.read_text())


async def run(names: list[str], scale: float, top: int) -> None:
    """Print the profile of each scenario."""
    known = chosen(scale)
    async with open_servers(None) as (target,):
        await scenarios.playbooks(target, steps=5, workers=8, executions=16)  # whatever is done once is done
        for name in names:
            figures, samples = await sampled(target, known[name])
            print(
                f"\n{name}: {figures.rate:,.0f} {figures.unit}/s while sampled",
                *samples.lines(top),
                sep="\n",
                flush=True,
            )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=DEFAULT)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--top", type=int, default=8)
    options = parser.parse_args()
    if shutil.which("py-spy") is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    print(machine())
    uvloop.run(run(list(options.scenarios), options.scale, options.top))


if __name__ == "__main__":
    main()
