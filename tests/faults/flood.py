"""Writes events of one execution at full speed, as a process of its own.

python -m tests.faults.flood URL EXECUTION_ID EVENTS CONNECTIONS
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.faults.wire import Client

BATCH = 1


async def flood(url: str, execution_id: int, events: int, connections: int) -> None:
    """Post so many events in batches, over so many connections, each as soon as the one before is answered."""
    item = {"step": "flood", "event_type": "step.enter", "payload": {"text": "x" * 100}}
    batches = iter(range(events // BATCH))

    async def send() -> None:
        client = Client([url], patience_seconds=30)
        for _ in batches:
            body = {"execution_id": execution_id, "worker_id": "flood", "events": [item] * BATCH}
            status, answer = await client.insist("POST", "/api/events/batch", body)
            assert status == 200, answer
        client.close()

    await asyncio.gather(*(send() for _ in range(connections)))


if __name__ == "__main__":
    uvloop.run(flood(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
