"""A fault campaign of any length.

    python -m tests.faults [--rounds 20] [--seed N] [--first 0] [--faults server-kill,nats-empty | --faults all]
        [--replicas 2] [--executions 10] [--strikes 2]

Each round starts executions of all kinds and lets faults strike while they run; then everything heals, the round waits
until all is quiet, and checks what must hold. The seed and the number of a round repeat its plan. Exit code 1 after a
violation. `python -m tests.faults.long_form` runs the other fault tests with larger sizes.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys

import uvloop

from tests.faults.campaign import Campaign, impossible_faults
from tests.faults.faults import FAULTS


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
    options = parser.parse_args()
    wanted = list(FAULTS) if options.faults == "all" else options.faults.split(",")
    chosen = [name for name in FAULTS if any(part in name for part in wanted)]
    for name, reason in impossible_faults().items():
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
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has started it in the background
    try:
        uvloop.run(campaign.run(range(options.first, options.first + options.rounds)))
    except KeyboardInterrupt:
        print("interrupted; until here:")
    print(campaign.tally.table())
    return 1 if campaign.tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
