"""Replacing replicas one after the other under load, and stopping at once when told so twice.

No request is lost means: the balancer repeats nothing that it has sent, no client sees anything but the answer of a
replica, none of those is an error, and what was answered is in the log exactly once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from benchmarks.load.connection import Connection
from noetl._fast.snowflake import SnowflakeGenerator
from tests.faults.checker import open_check, query, unfinished
from tests.faults.history import History
from tests.faults.wire import address
from tests.faults.worker import Crew
from tests.faults.workflows import MIXED
from tests.integration.balancer import Balancer

if TYPE_CHECKING:
    from noetl.dev.server_process import ServerProcess
    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer
    from tests.faults.workflows import Workflow

SENDERS = 4
PAUSE_SECONDS = 0.01
PLAIN = MIXED[:4]


class Load:
    """Clients that start executions and send events, each request once; keeps what they were answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.statuses: Counter[int] = Counter()
        self.plans: dict[int, Workflow] = {}
        self.history = History()

    async def send_events(self, number: int, stop: asyncio.Event) -> None:
        """Events of one execution, one after the other over one connection."""
        minter = SnowflakeGenerator(900 + number)
        connection = Connection(*address(self._url))
        execution_id = await self._start(connection, PLAIN[0])
        while not stop.is_set():
            body = {
                "execution_id": str(execution_id),
                "step": "load",
                "event_type": "step.note",
                "event_id": minter.mint(),
                "payload": {"status": "OK"},
                "actionable": False,
                "informative": True,
            }
            answer = await connection.call("POST", "/api/events", body)
            self.statuses[answer.status] += 1
            self.history.stored(execution_id, body["event_id"])
            await asyncio.sleep(PAUSE_SECONDS)
        connection.close()

    async def start_executions(self, stop: asyncio.Event) -> None:
        """Executions that the crew has to bring to their end."""
        connection = Connection(*address(self._url))
        while not stop.is_set():
            await self._start(connection, PLAIN[len(self.plans) % len(PLAIN)])
            await asyncio.sleep(10 * PAUSE_SECONDS)
        connection.close()

    async def _start(self, connection: Connection, workflow: Workflow) -> int:
        answer = await connection.call("POST", "/api/execute", {"path": workflow.path, "payload": {}})
        self.statuses[answer.status] += 1
        execution_id = int(answer.json["execution_id"])
        self.plans[execution_id] = workflow
        return execution_id


async def terminate(server: ServerProcess) -> None:
    """SIGTERM, and the exit code 0 of a server that has drained."""
    process = server._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 0
    await server.stop()


async def test_rolling_restart_under_load_loses_no_request(
    make_server: MakeServer, nats: EmbeddedNats, database_url: str
) -> None:
    replicas = [
        await make_server(
            {
                "NOETL_SERVER_MACHINE_ID": str(number),
                "NOETL_SERVER_NAME": f"replica-{number}",
                "NOETL_SHUTDOWN_DELAY_SECONDS": "1",
            }
        )
        for number in range(2)
    ]
    ports = {replica.port for replica in replicas}
    async with Balancer([replica.port for replica in replicas]) as balancer:
        await balancer.until_ready(ports)
        registering = Connection(*address(balancer.url))
        for workflow in PLAIN:
            assert (await registering.call("POST", "/api/catalog/register", {"content": workflow.text})).status == 200
        registering.close()
        load, stop = Load(balancer.url), asyncio.Event()
        async with Crew([balancer.url], nats.url, slots=4, name="rolling") as crew, asyncio.TaskGroup() as clients:
            for number in range(SENDERS):
                clients.create_task(load.send_events(number, stop))
            clients.create_task(load.start_executions(stop))
            for replica in replicas:
                served = balancer.served[replica.port]
                async with asyncio.timeout(20):
                    while balancer.served[replica.port] < served + 100:  # noqa: ASYNC110 (it shall have work when it goes)
                        await asyncio.sleep(0.05)
                await terminate(replica)
                assert balancer.ready == ports - {replica.port}
                await replica.start()
                await balancer.until_ready(ports)
            stop.set()
            async with asyncio.timeout(60):
                while await unfinished(database_url):  # noqa: ASYNC110 (another process ends them)
                    await asyncio.sleep(0.1)
            assert crew.failure() is None
    assert balancer.lost == 0
    assert set(load.statuses) == {200}
    assert set(balancer.statuses) <= {200, 409}, "409: two workers heard of one command"
    assert len(load.history.events) == load.statuses[200] - len(load.plans)
    load.history.events |= crew.history.events
    load.history.claims |= crew.history.claims
    async with open_check(database_url) as check:
        await check.log()
        await check.history(load.history)
        await check.models(load.plans)
    check.broken.pop("an execution whose last event is not its end", None)  # the load's events come whenever they come
    assert check.broken == {}
    assert len(await query(database_url, "SELECT DISTINCT execution_id FROM noetl.event")) == len(load.plans)


async def test_second_signal_ends_the_server_at_once(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_SHUTDOWN_DELAY_SECONDS": "30"})
    process = server._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    os.kill(server.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        while '"Shutting down"' not in server.log_text():  # noqa: ASYNC110 (another process's log)
            await asyncio.sleep(0.02)
    begin = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 1
    assert time.monotonic() - begin < 2
