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
from tests.faults.history import History
from tests.faults.wire import Client

if TYPE_CHECKING:
    from nats.aio.msg import Msg

HEARTBEAT_SECONDS = 5.0
ACK_SECONDS = 5.0
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
    batches: float = 0.0
    """The events of a command are sent as one batch."""
    reorders: float = 0.0
    """The start of a command is told together with its result, or behind it."""


CAREFUL = Habits()
WILD = Habits(repeats=0.15, hangs_up=0.08, batches=0.2, reorders=0.15)


@dataclass
class Crew:
    """Workers of one pool that share what they saw: ``slots`` commands are under way at the same time.

    A worker answers ``n + 1`` to an input ``n``; an input ``fail`` makes it fail the command, ``error`` makes the tool
    report an error. Crews with one ``pool`` share their notifications. ``heard`` counts notifications per command.
    """

    server_urls: list[str]
    nats_url: str
    slots: int = 8
    habits: Habits = CAREFUL
    name: str = "crew"
    pool: str = ""
    seed: int = 0
    history: History = field(default_factory=History)
    heard: dict[int, int] = field(default_factory=dict)
    done: int = 0
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    ack_seconds: float = ACK_SECONDS
    """After so long without an acknowledgement a notification comes again."""
    client: type[Client] = Client
    """How a member of the crew talks to the servers."""
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _waiting: set[asyncio.Task[None]] = field(default_factory=set)
    _children: set[tuple[str, int]] = field(default_factory=set)
    """Workers and the commands with which they wait for a sub-playbook."""

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
        tasks = {*self._tasks, *self._waiting}
        pending = tasks
        while pending:
            # The NATS client swallows a cancellation that meets it while it loses its connection.
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=1)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

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
            await asyncio.sleep(self.heartbeat_seconds)
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
                    durable=f"{self.pool or self.name}-shared",
                    config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=self.ack_seconds),
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
        client = self.client(self.server_urls, first=number)
        try:
            while True:
                await self._handle(client, self._worker_id(number), await self._messages.get())
        finally:
            client.close()

    async def _handle(self, client: Client, worker_id: str, message: Msg) -> None:
        notice = orjson.loads(message.data)
        event_id = notice["event_id"]
        self.heard[event_id] = self.heard.get(event_id, 0) + 1
        if (worker_id, event_id) in self._children:
            # Heard again, as NATS went away before the acknowledgement: a claim would be granted again, to its owner.
            await _quietly(message.ack())
            return
        path, body = f"/api/commands/{event_id}/claim", {"worker_id": worker_id}
        if self._happens(self.habits.hangs_up):
            await client.hang_up("POST", path, body)
        status, claimed = await client.insist("POST", path, body, meanwhile=lambda: _quietly(message.in_progress()))
        await _quietly(message.ack())
        if status != 200:
            if status != 409:
                self.history.refused(status, path, claimed)
            return
        self.history.claimed(int(notice["execution_id"]), event_id, worker_id)
        if self._happens(self.habits.forgets):
            return
        if self._happens(self.habits.comes_late):
            await asyncio.sleep(self.habits.late_seconds)
        config = claimed["context"]["tool_config"]
        if claimed["action"] == "playbook":
            # A slot that waited for a child could keep the child from being served.
            task = asyncio.create_task(self._run_child(worker_id, notice, claimed, config))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            self._children.add((worker_id, event_id))
            task.add_done_callback(lambda _: self._children.discard((worker_id, event_id)))
            return
        one = {"execution_id": notice["execution_id"], "worker_id": worker_id}
        await self._report(client, one, self._events(notice, claimed, config.get("args") or {}))

    async def _run_child(
        self, worker_id: str, notice: dict[str, Any], claimed: dict[str, Any], config: dict[str, Any]
    ) -> None:
        """Start a sub-playbook once, wait for its end, and report it."""
        client = Client(self.server_urls)
        try:
            command_id = _names(claimed)[1]
            start, *rest = self._events(notice, claimed, {})
            one = {"execution_id": notice["execution_id"], "worker_id": worker_id}
            await self._post(client, "/api/events", {**one, **start}, [start])
            body = {
                "path": config["path"],
                "payload": config.get("args") or {},
                "parent_execution_id": notice["execution_id"],
                "idempotency_key": command_id,
            }
            status, answer = await client.insist("POST", "/api/execute", body)
            if status == 200:
                child = int(answer["execution_id"])
                self.history.started(command_id, child)
                while not (status == 200 and (answer.get("completed") or answer.get("failed"))):
                    await asyncio.sleep(0.2)
                    status, answer = await client.insist("GET", f"/api/executions/{child}/status")
            await self._report(client, one, rest)
        finally:
            client.close()

    def _events(self, notice: dict[str, Any], claimed: dict[str, Any], args: dict[str, Any]) -> list[dict[str, Any]]:
        """The events of a command: its start, its result, its end."""
        outcome = "error" if args.get("error") else "success"
        data = {"status": outcome, "data": {"n": (args.get("n") or 0) + 1}}
        told = [
            ("command.started", "STARTED", {}),
            ("call.done", "COMPLETED", {"call_index": 0, "result": {"status": outcome, "context": data}}),
            ("command.completed", outcome, {"status": outcome}),
        ]
        if args.get("fail"):
            told[1:] = [
                ("call.error", "FAILED", {"call_index": 0, "error": "as asked for"}),
                ("command.failed", "FAILED", {"error": "as asked for"}),
            ]
        return [
            {
                "event_type": event_type,
                "step": notice["step"],
                "status": state,
                "created_at": datetime.now(UTC).isoformat(),
                "context": {"command_id": _names(claimed)[1], **payload},
                "event_id": self._minter.mint(),
                "meta": {"attempts": 0},
            }
            for event_type, state, payload in told
        ]

    async def _report(self, client: Client, one: dict[str, Any], events: list[dict[str, Any]]) -> None:
        """Send the events of a command, with what the habits do to them; ``one`` has the members of all."""
        if self._happens(self.habits.batches):
            await self._post(client, "/api/events/batch", {**one, "events": events}, events)
        elif self._happens(self.habits.reorders):
            other = Client(self.server_urls, first=self._random.randrange(8))
            try:
                late = asyncio.create_task(self._post(other, "/api/events", {**one, **events[0]}, events[:1]))
                for event in events[1:]:
                    await self._post(client, "/api/events", {**one, **event}, [event])
                await late
            finally:
                other.close()
        else:
            for event in events:
                await self._post(client, "/api/events", {**one, **event}, [event])
        self.done += 1

    async def _post(self, client: Client, path: str, body: dict[str, Any], events: list[dict[str, Any]]) -> None:
        if self._happens(self.habits.hangs_up):
            await client.hang_up("POST", path, body)
        repeats = 2 if self._happens(self.habits.repeats) else 1
        for _ in range(repeats):
            status, answer = await client.insist("POST", path, body)
            if status != 200:
                self.history.refused(status, f"{path} {events[-1]['event_type']}", answer)
                return
            for event in events:
                self.history.stored(int(body["execution_id"]), event["event_id"])

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability


def _names(claimed: dict[str, Any]) -> tuple[int, str]:
    """Execution id and command id of a claim's answer."""
    meta = claimed["meta"]
    return int(meta["execution_id"]), str(meta["command_id"])


async def _quietly(sending: Any) -> None:
    """An acknowledgement over a connection that may be gone: the message comes again then."""
    try:
        await sending
    except (NatsError, OSError):
        return
