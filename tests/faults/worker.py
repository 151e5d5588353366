"""A worker with bad habits: it hears through a real pull consumer, and repeats, hangs up, stops and comes late."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import nats
import orjson
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import Error as JetStreamError

from noetl._fast.snowflake import SnowflakeGenerator, machine_id_from_name
from tests.faults.wire import Client

if TYPE_CHECKING:
    from nats.aio.msg import Msg

HEARTBEAT_SECONDS = 5.0
FETCH_SECONDS = 1.0


@dataclass(frozen=True)
class Habits:
    """How often, from 0 to 1, something goes wrong with a request or a command."""

    repeats: float = 0.0
    """An event that was answered is sent again, as when the answer was lost."""
    hangs_up: float = 0.0
    """A request is sent, and the connection closed before the answer."""
    forgets: float = 0.0
    """A claimed command is never begun: the process died."""
    comes_late: float = 0.0
    """A claimed command is begun and finished only after ``late_seconds``."""
    late_seconds: float = 15.0


CAREFUL = Habits()
CARELESS = Habits(repeats=0.2, hangs_up=0.1)


@dataclass
class Crew:
    """Workers of one pool that share what they saw: ``slots`` commands are under way at the same time.

    ``acknowledged`` are (execution id, event id) of the events that a server took, ``done`` counts finished commands,
    ``heard`` counts notifications per command, ``seconds`` are latencies by kind of request.
    """

    server_urls: list[str]
    nats_url: str
    slots: int = 8
    habits: Habits = CAREFUL
    name: str = "crew"
    seed: int = 0
    acknowledged: set[tuple[int, int]] = field(default_factory=set)
    heard: dict[int, int] = field(default_factory=dict)
    done: int = 0
    refused: list[tuple[int, str, Any]] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._minter = SnowflakeGenerator(machine_id_from_name(self.name))
        self._messages: asyncio.Queue[Msg] = asyncio.Queue(maxsize=self.slots)
        registering = Client(self.server_urls)
        for number in range(self.slots):
            await self._register(registering, number)
        self._tasks = [
            asyncio.create_task(self._pull()),
            asyncio.create_task(self._beat(registering)),
            *(asyncio.create_task(self._serve(number)) for number in range(self.slots)),
        ]
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    def failure(self) -> BaseException | None:
        """What ended a task that should run for ever."""
        ended = (task for task in self._tasks if task.done() and not task.cancelled())
        return next((task.exception() for task in ended), None)

    # -- life of the worker ----------------------------------------------------------------------------------------

    def _worker_id(self, number: int) -> str:
        return f"{self.name}-{number}"

    async def _register(self, client: Client, number: int) -> None:
        body = {"component_type": "worker_pool", "name": self._worker_id(number), "runtime": {}, "status": "ready"}
        await client.insist("POST", "/api/worker/pool/register", body)

    async def _beat(self, client: Client) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            for number in range(self.slots):
                status, _ = await client.once("POST", "/api/worker/pool/heartbeat", {"name": self._worker_id(number)})
                if status == 404:
                    await self._register(client, number)

    async def _pull(self) -> None:
        """Fetch for ever; whatever happens to NATS or to the consumer, come again."""
        while True:
            try:
                client = await nats.connect(self.nats_url, allow_reconnect=False, connect_timeout=2)
            except (NatsError, OSError, TimeoutError):
                await asyncio.sleep(0.2)
                continue
            try:
                subscription = await client.jetstream(timeout=2).pull_subscribe(
                    "noetl.commands.shared.>",
                    durable=f"{self.name}-shared",
                    config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=5),
                )
                while client.is_connected:
                    try:
                        messages = await subscription.fetch(self.slots, timeout=FETCH_SECONDS)
                    except nats.errors.TimeoutError:
                        continue
                    for message in messages:
                        await self._messages.put(message)
            except (NatsError, JetStreamError, OSError, TimeoutError):
                await asyncio.sleep(0.2)
            finally:
                await client.close()

    async def _serve(self, number: int) -> None:
        client = Client(self.server_urls, first=number)
        try:
            while True:
                await self._handle(client, self._worker_id(number), await self._messages.get())
        finally:
            client.close()

    async def _handle(self, client: Client, worker_id: str, message: Msg) -> None:
        notice = orjson.loads(message.data)
        event_id = notice["event_id"]
        self.heard[event_id] = self.heard.get(event_id, 0) + 1
        path, body = f"/api/commands/{event_id}/claim", {"worker_id": worker_id}
        if self._happens(self.habits.hangs_up):
            await client.hang_up("POST", path, body)
        status, claimed = await client.insist("POST", path, body, meanwhile=lambda: _quietly(message.in_progress()))
        await _quietly(message.ack())
        if status != 200:
            if status != 409:
                self.refused.append((status, path, claimed))
            return
        if self._happens(self.habits.forgets):
            return
        if self._happens(self.habits.comes_late):
            await asyncio.sleep(self.habits.late_seconds)
        await self.report(client, worker_id, notice, str(claimed["meta"]["command_id"]))

    async def report(self, client: Client, worker_id: str, notice: dict[str, Any], command_id: str) -> None:
        """The events of a command that succeeds."""
        data = {"status": "success", "data": {"ok": True}}
        for event_type, state, payload in (
            ("command.started", "STARTED", {}),
            ("call.done", "COMPLETED", {"call_index": 0, "result": {"status": "success", "context": data}}),
            ("command.completed", "success", {"status": "success"}),
        ):
            body = {
                "execution_id": notice["execution_id"],
                "event_type": event_type,
                "step": notice["step"],
                "status": state,
                "created_at": datetime.now(UTC).isoformat(),
                "context": {"command_id": command_id, **payload},
                "event_id": self._minter.mint(),
                "worker_id": worker_id,
                "meta": {"attempts": 0},
            }
            await self._post(client, body)
        self.done += 1

    async def _post(self, client: Client, body: dict[str, Any]) -> None:
        if self._happens(self.habits.hangs_up):
            await client.hang_up("POST", "/api/events", body)
        repeats = 2 if self._happens(self.habits.repeats) else 1
        for _ in range(repeats):
            status, answer = await client.insist("POST", "/api/events", body)
            if status != 200:
                self.refused.append((status, body["event_type"], answer))
                return
            self.acknowledged.add((body["execution_id"], body["event_id"]))

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability


async def _quietly(sending: Any) -> None:
    """An acknowledgement over a connection that may be gone: the message comes again then."""
    try:
        await sending
    except (NatsError, OSError):
        return
