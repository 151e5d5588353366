"""Registers a playbook, runs it, and shows what happened: `python examples/client.py`, beside `noetl-server dev`."""

import asyncio
import os
from pathlib import Path

from noetl.client import NoetlClient, NotFoundError, RefusedError

PLAYBOOK = Path(__file__).with_name("hello.yaml").read_text()


async def main() -> None:
    async with NoetlClient(os.environ.get("NOETL_SERVER_URL", "http://localhost:8082")) as noetl:
        checked = await noetl.catalog.validate(PLAYBOOK)
        print("valid:", checked.valid, [problem.message for problem in checked.problems])

        entry = await noetl.catalog.register(PLAYBOOK)
        started = await noetl.executions.start(entry.path, {"name": "Ada"})
        async with asyncio.timeout(60):
            async for event in noetl.executions.follow(started.execution_id):
                if event.event_type == "command.completed":
                    print("done:", event.node_name)

        status = await noetl.executions.status(started.execution_id)
        print(status.status, status.completed_steps)

        stored = await noetl.results.put(started.execution_id, "report", {"rows": [1, 2, 3]})
        print("result:", await noetl.results.get(stored.ref))

        try:
            await noetl.executions.cancel(started.execution_id)
        except RefusedError as error:
            print(error.status, error.code, error.message)
        try:
            await noetl.catalog.get("no/such/playbook")
        except NotFoundError as error:
            print(error.status, error.code, error.message)


asyncio.run(main())
