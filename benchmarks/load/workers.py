"""Scripted workers: they hear of commands through NATS, claim them, and report as real ones do."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Self

import nats
import orjson

from benchmarks.load.connection import Connection, encode
from benchmarks.load.figures import Figures

if TYPE_CHECKING:
    from benchmarks.load.servers import Target

CLAIM: Final = "claim"
COMPLETED: Final = "command.completed"
WORKER: Final = "bench"


class Workers:
    """So many workers at once, while the context is open. ``figures`` counts commands."""

    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._count = count
        self.figures = Figures("commands", {CLAIM: [], COMPLETED: []})
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._ended: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._client: Any = None

    async def __aenter__(self) -> Self:
        self._client = await nats.connect(self._target.nats_url)

        async def heard(message: Any) -> None:
            self._queue.put_nowait(orjson.loads(message.data))

        # What is published to the stream also reaches a plain subscription, at once and without an acknowledgement.
        await self._client.subscribe("noetl.commands.>", cb=heard)
        await self._client.flush()
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def finished(self, execution_id: str) -> None:
        """Wait until the step ``end`` of an execution is done."""
        await self._ended.setdefault(execution_id, asyncio.Event()).wait()
        del self._ended[execution_id]

    async def _serve(self) -> None:
        connection = self._target.connect()
        try:
            while True:
                await self._work(connection, await self._queue.get())
        finally:
            connection.close()

    async def _work(self, connection: Connection, notice: dict[str, Any]) -> None:
        figures = self.figures
        begin = time.perf_counter()
        answer = await connection.call("POST", f"/api/commands/{notice['event_id']}/claim", {"worker_id": WORKER})
        figures.latencies[CLAIM].append(time.perf_counter() - begin)
        if answer.status != 200:
            figures.errors += answer.status != 409
            return
        command_id = notice["command_id"]
        result = {"status": "success", "context": {"status": "success", "data": {"ok": True}}}
        for event_type, status, context in (
            ("command.started", "STARTED", {}),
            ("call.done", "COMPLETED", {"call_index": 0, "result": result}),
            (COMPLETED, "success", {"status": "success"}),
        ):
            event = {
                "execution_id": notice["execution_id"],
                "step": notice["step"],
                "event_type": event_type,
                "status": status,
                "context": {"command_id": command_id, **context},
                "worker_id": WORKER,
                "meta": {"attempts": 0},
            }
            begin = time.perf_counter()
            answer = await connection.send(encode("POST", "/api/events", event))
            figures.errors += answer.status != 200
        figures.latencies[COMPLETED].append(time.perf_counter() - begin)
        figures.count += 1
        if notice["step"] == "end":
            self._ended.setdefault(str(notice["execution_id"]), asyncio.Event()).set()
