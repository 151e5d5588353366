"""The messaging of one server process on a real NATS, and somebody who listens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats
import orjson
from nats.errors import TimeoutError as NothingPending
from nats.js.api import AckPolicy, ConsumerConfig

from noetl.ledger.playbooks import Playbooks
from noetl.messaging.announcer import NatsAnnouncer
from noetl.messaging.connection import NatsConnection
from noetl.messaging.reannouncer import Reannouncer
from noetl.store.commands import CommandStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from tests.integration.ledger_harness import LedgerHarness


class Outcomes:
    """Counts publishes."""

    def __init__(self) -> None:
        self.ok = 0

    def observe_publish(self, outcome: str, seconds: float) -> None:
        """One publish ended."""
        self.ok += outcome == "ok"


class Messaging:
    """Connection, announcer and the sweep for lost notifications."""

    def __init__(self, nats_url: str) -> None:
        self.connection = NatsConnection([nats_url], client_name="test")
        self.outcomes = Outcomes()
        self.announcer = NatsAnnouncer(self.connection, "http://localhost:8082", self.outcomes)

    def sweeper(self, ledger: LedgerHarness) -> Reannouncer:
        """A sweep that looks at every waiting command at once."""
        return Reannouncer(
            CommandStore(ledger.database),
            self.connection,
            self.announcer,
            Playbooks(ledger.catalog, 2**20),
            after_seconds=0,
            first_pause_seconds=3600,
            per_second=10_000,
        )

    async def published(self) -> None:
        """Wait until NATS has everything."""
        async with asyncio.timeout(10):
            while self.announcer.waiting or self.connection.state != "connected":  # noqa: ASYNC110 (no event for both)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def open_messaging(nats_url: str) -> AsyncGenerator[Messaging]:
    """A running messaging; NATS need not be there."""
    messaging = Messaging(nats_url)
    tasks = [asyncio.create_task(messaging.connection.run()), asyncio.create_task(messaging.announcer.run())]
    try:
        yield messaging
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Listener:
    """A pull consumer of a pool of workers."""

    def __init__(self, stream: JetStreamContext, subscription: Any) -> None:
        self.stream = stream
        self._subscription = subscription

    async def take(self, count: int, *, within_seconds: float = 5, acknowledge: bool = True) -> list[int]:
        """Up to so many notifications, as event ids of their commands in order of arrival."""
        found: list[Msg] = []
        deadline = asyncio.get_running_loop().time() + within_seconds
        while len(found) < count and (left := deadline - asyncio.get_running_loop().time()) > 0:
            try:
                found += await self._subscription.fetch(count - len(found), timeout=left)
            except NothingPending:
                break
        if acknowledge:
            for message in found:
                await message.ack_sync()
        return [orjson.loads(message.data)["event_id"] for message in found]


@asynccontextmanager
async def listen(nats_url: str, name: str = "pool") -> AsyncGenerator[Listener]:
    """Listen as workers of the shared pool do."""
    client = await nats.connect(nats_url, allow_reconnect=False)
    try:
        stream = client.jetstream()
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=60)
        yield Listener(stream, await stream.pull_subscribe("noetl.commands.shared.>", durable=name, config=config))
    finally:
        await client.close()
