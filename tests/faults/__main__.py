"""A fault campaign of any length.

    python -m tests.faults [--rounds 20] [--seed N] [--first 0] [--faults server-kill,nats-empty | --faults all]
        [--replicas 2] [--executions 10] [--strikes 2] [--worker BINARY]

Each round starts executions of all kinds and lets faults strike while they run; then everything heals, the round waits
until all is quiet, and checks what must hold. The seed and the number of a round repeat its plan. Exit code 1 after a
violation. A signal (INT, TERM) ends it early, with the table of what was done. With the binary of the real worker,
named here or by NOETL_REFERENCE_WORKER, that one takes part.

`python -m tests.faults.long_form` runs the other fault tests with larger sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import uvloop

from tests.faults.campaign import Campaign, impossible_faults
from tests.faults.faults import FAULTS
from tests.faults.real_worker import VARIABLE


def main() -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first round")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--faults", default="all", help="names, separated by commas; a part of a name stands for all")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--executions", type=int, default=10, help="per round")
    parser.add_argument("--strikes", type=int, default=2, help="per round")
    parser.add_argument("--worker", type=Path, default=os.environ.get(VARIABLE) or None, help="the real one")
    options = parser.parse_args()
    wanted = list(FAULTS) if options.faults == "all" else options.faults.split(",")
    chosen = [name for name in FAULTS if any(part in name for part in wanted)]
    for name, reason in impossible_faults(options.worker).items():
        if name in chosen:
            chosen.remove(name)
            print(f"without {name}: {reason}")
    if not chosen:
        parser.error(f"no such fault; there are {', '.join(FAULTS)}")
    print(f"seed {options.seed}, faults {', '.join(chosen)}", flush=True)
    campaign = Campaign(
        seed=options.seed,
        faults=chosen,
        replicas=options.replicas,
        executions=options.executions,
        strikes=options.strikes,
        worker=options.worker,
    )
    try:
        uvloop.run(_run(campaign, range(options.first, options.first + options.rounds)))
    except asyncio.CancelledError:
        print("interrupted; until here:")
    finally:
        print(campaign.tally.table(), flush=True)
    return 1 if campaign.tally.violations else 0


async def _run(campaign: Campaign, rounds: range) -> None:
    """Until the end, or a signal: also one that a shell's background job would ignore."""
    task = asyncio.current_task()
    assert task is not None, "run by a loop"

    def interrupt() -> None:
        print(f"interrupted: {campaign.tally.total()}", flush=True)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    await campaign.run(rounds)


if __name__ == "__main__":
    sys.exit(main())
