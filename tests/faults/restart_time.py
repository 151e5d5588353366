"""How soon a killed server decides again while many executions are open.

    python -m tests.faults.restart_time [--open 10000] [--rounds 20]

The goal is 2 s from the start of the process to the first decision.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

from tests.faults.campaign import PROBE, percentiles
from tests.faults.checker import unfinished
from tests.faults.site import open_site
from tests.faults.wire import Client


async def measure(executions: int, rounds: int) -> None:
    """Start executions that nobody works on, then kill and start the server again and again."""
    async with open_site(servers=1) as site:
        await site.register([PROBE])
        keys = iter(range(executions))

        async def begin() -> None:
            client = Client(site.urls)
            for key in keys:
                body = {"path": PROBE.path, "payload": {}, "idempotency_key": f"open-{key}"}
                assert (await client.insist("POST", "/api/execute", body))[0] == 200
            client.close()

        await asyncio.gather(*(begin() for _ in range(32)))
        print(f"{await unfinished(site.database_url)} open executions", flush=True)
        ready: list[float] = []
        decided: list[float] = []
        for number in range(rounds):
            await site.servers[0].kill()
            since = time.monotonic()
            await site.servers[0].start()
            ready.append(time.monotonic() - since)
            client = Client(site.urls)
            body = {"path": PROBE.path, "payload": {}, "idempotency_key": f"restart-{number}"}
            assert (await client.insist("POST", "/api/execute", body))[0] == 200
            decided.append(time.monotonic() - since)
            client.close()
        print(f"ready after {percentiles(ready)}, first decision after {percentiles(decided)} (p50 / p99)")


def main() -> None:
    """Parse the sizes and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--open", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    uvloop.run(measure(options.open, options.rounds))


if __name__ == "__main__":
    main()
