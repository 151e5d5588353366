"""The other fault tests with larger sizes.

    python -m tests.faults.long_form [--executions 40] [--examples 500] [--backlog 10000] [--requests 100000]
        [--rounds 20] [--seed N] [-k interleavings]

Each example plays four random workflows under one random interleaving. Without a seed every run is another one.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    """Hand the sizes over to the tests, and run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=40)
    parser.add_argument("--examples", type=int, default=500, help="random interleavings")
    parser.add_argument("--backlog", type=int, default=10_000, help="commands that wait for two workers")
    parser.add_argument("--events", type=int, default=100_000, help="of one execution, at full speed")
    parser.add_argument("--requests", type=int, default=100_000, help="hostile ones")
    parser.add_argument("--rounds", type=int, default=20, help="of the campaign")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("-k", dest="expression", default="", help="only tests that match, as pytest's option")
    options = parser.parse_args()
    for name in ("executions", "examples", "backlog", "events", "requests", "rounds", "seed"):
        os.environ[f"NOETL_FAULT_{name.upper()}"] = str(getattr(options, name))
    return pytest.main([str(Path(__file__).parent), "-x", "-v", "-s", "-k", options.expression])


if __name__ == "__main__":
    sys.exit(main())
