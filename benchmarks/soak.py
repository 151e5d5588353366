"""Whether memory stays flat: an hour of worker events and playbooks at a steady rate, RSS every few seconds.

    python -m benchmarks.soak [--minutes 60] [--rate 300] [--csv FILE] [--plot FILE]

Half of the requests are events of a few long executions, the others come from workers that run new playbooks of 5 steps
all the time. Prints the median RSS of each tenth of the run, and the growth in MiB per hour after the first fifth.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import uvloop

from benchmarks.load.__main__ import machine
from benchmarks.load.playbooks import chain, execute, register
from benchmarks.load.scenarios import POST_EVENT, event_requests, open_loop
from benchmarks.load.servers import open_servers
from benchmarks.load.workers import Workers

if TYPE_CHECKING:
    from benchmarks.load.servers import Target

REQUESTS_OF_A_PLAYBOOK = 21
"""One to start it, and four for each of its five steps."""
SAMPLE_SECONDS = 5.0

Sample = tuple[float, float]


async def soak(target: Target, minutes: float, rate: float) -> list[Sample]:
    """Run the load; returns seconds since the start and RSS in MiB."""
    samples: list[Sample] = []
    begin = time.monotonic()

    async def sample() -> None:
        process = psutil.Process(target.pid)
        while True:
            samples.append((time.monotonic() - begin, process.memory_info().rss / 2**20))
            await asyncio.sleep(SAMPLE_SECONDS)

    async def start_playbooks() -> None:
        while True:
            await execute(target, "bench/chain5")
            await asyncio.sleep(REQUESTS_OF_A_PLAYBOOK / (rate / 2))

    requests = await event_requests(target, 20)
    await register(target, "bench/chain5", chain(5))
    async with Workers(target, 8) as crew:
        tasks = [asyncio.create_task(sample()), asyncio.create_task(start_playbooks())]
        figures = await open_loop(target, requests, POST_EVENT, rate / 2, minutes * 60, 16)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    row = figures.row("soak", target.name)
    print(
        f"{figures.count} events at {figures.rate:.0f}/s, {crew.figures.count} commands, "
        f"{figures.errors + crew.figures.errors} errors, event p95 {row['p95']:.1f} ms, p99 {row['p99']:.1f} ms"
    )
    return samples


def growth(samples: list[Sample]) -> float:
    """MiB per hour after the first fifth (least squares)."""
    late = samples[len(samples) // 5 :]
    slope, _ = statistics.linear_regression([at for at, _ in late], [rss for _, rss in late])
    return slope * 3600


def draw(samples: list[Sample], path: Path) -> None:
    """RSS over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 3), layout="constrained")
    axis.plot([at / 60 for at, _ in samples], [rss for _, rss in samples])
    axis.set(xlabel="minutes", ylabel="RSS, MiB", ylim=(0, max(rss for _, rss in samples) * 1.2))
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


async def run(minutes: float, rate: float) -> list[Sample]:
    """A server of its own under the load."""
    async with open_servers(None) as (target,):
        return await soak(target, minutes, rate)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    print(machine())
    samples = uvloop.run(run(options.minutes, options.rate))
    tenth = max(1, len(samples) // 10)
    medians = [statistics.median(rss for _, rss in samples[at : at + tenth]) for at in range(0, len(samples), tenth)]
    print("RSS MiB per tenth:", *(f"{median:.1f}" for median in medians))
    print(f"growth after the first fifth: {growth(samples):+.2f} MiB per hour")
    if options.csv:
        with options.csv.open("w", newline="") as output:
            csv.writer(output).writerows([("seconds", "rss_mib"), *samples])
    if options.plot:
        draw(samples, options.plot)


if __name__ == "__main__":
    main()
