"""Streams that take only some of the commands: every pool hears of its own, or the log names it (spec 70, I17)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import nats as nats_client
import pytest

from noetl.messaging.streams import CommandStreams
from tests.integration.ledger_harness import open_ledger
from tests.integration.messaging_harness import open_messaging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.js import JetStreamContext

    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeDatabase
    from tests.integration.ledger_harness import LedgerHarness
    from tests.integration.messaging_harness import Messaging

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: one, path: {path}}}
workflow:
  - step: start
    tool: {{kind: noop}}
"""
SHARED, SYSTEM = "streams/one", "system/one"
SUBJECT = "noetl.commands"


@pytest.fixture
async def stream(nats: EmbeddedNats) -> AsyncIterator[JetStreamContext]:
    """JetStream without any stream."""
    client = await nats_client.connect(nats.url)
    context = client.jetstream()
    yield context
    for info in await context.streams_info():
        await context.delete_stream(info.config.name)
    await client.close()


@pytest.fixture
async def ledger(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(await make_database(schema_template)) as harness:
        for path in (SHARED, SYSTEM):
            await harness.register(PLAYBOOK.format(path=path))
        yield harness


async def announce_both(ledger: LedgerHarness, messaging: Messaging) -> None:
    """Start an execution for each pool."""
    for path in (SHARED, SYSTEM):
        await ledger.start(path)
    messaging.announcer.announce([ledger.announcer.queue.get_nowait() for _ in range(2)])
    await messaging.published()


async def contents(stream: JetStreamContext) -> dict[str, tuple[list[str], int]]:
    """Subjects and number of messages of each stream."""
    found = await stream.streams_info()
    return {info.config.name or "": (sorted(info.config.subjects or []), info.state.messages) for info in found}


async def test_a_pool_without_a_stream_gets_one_beside_the_stream_of_the_other(
    ledger: LedgerHarness, nats: EmbeddedNats, stream: JetStreamContext
) -> None:
    await stream.add_stream(name="NOETL_COMMANDS", subjects=[f"{SUBJECT}.shared.>"])
    async with open_messaging(nats.url) as messaging:
        await announce_both(ledger, messaging)
        assert await contents(stream) == {
            "NOETL_COMMANDS": ([f"{SUBJECT}.shared.>"], 1),
            "noetl_commands": ([f"{SUBJECT}.system.>"], 1),
        }
        sweeper = messaging.sweeper(ledger)
        await stream.purge_stream("noetl_commands")
        assert await sweeper.sweep() == 1, "what each stream holds is told apart"
        await messaging.published()
        assert [messages for _, messages in (await contents(stream)).values()] == [1, 1]


@pytest.mark.parametrize(
    ("subjects", "widened"),
    [
        ([f"{SUBJECT}.shared.>"], [f"{SUBJECT}.shared.>", f"{SUBJECT}.system.>"]),
        ([f"{SUBJECT}.other.*", "mine"], ["mine", SUBJECT, f"{SUBJECT}.>"]),
    ],
    ids=["one pool", "no pool"],
)
async def test_our_stream_is_widened_and_keeps_what_it_takes(
    stream: JetStreamContext, subjects: list[str], widened: list[str]
) -> None:
    await stream.add_stream(name="noetl_commands", subjects=subjects)
    streams = CommandStreams(SUBJECT, "noetl_commands")
    await streams.ensure(stream)
    assert await contents(stream) == {"noetl_commands": (widened, 0)}
    assert [streams.of(segment) for segment in ("shared", "system")] == ["noetl_commands"] * 2
    await streams.ensure(stream)


async def test_a_pool_that_cannot_have_a_stream_does_not_stop_the_other(
    ledger: LedgerHarness, nats: EmbeddedNats, stream: JetStreamContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else's stream takes a part of the pool's subjects, so there can be none for all of them."""
    caplog.set_level(logging.WARNING, "noetl.messaging")
    await stream.add_stream(name="NOETL_COMMANDS", subjects=[f"{SUBJECT}.shared.>"])
    await stream.add_stream(name="obstacle", subjects=[f"{SUBJECT}.system.0.>"])
    async with open_messaging(nats.url) as messaging:
        sweeper = messaging.sweeper(ledger)
        await announce_both(ledger, messaging)
        assert (await contents(stream))["NOETL_COMMANDS"][1] == 1
        assert messaging.connection.reconnects == 0
        assert [record.subjects for record in caplog.records if "can be made" in record.message] == [
            [f"{SUBJECT}.system.>"]
        ]
        assert await sweeper.sweep() == 0
        assert [sweeper.is_unheard(segment) for segment in ("shared", "system")] == [True, True]
        await stream.delete_stream("obstacle")
        assert await sweeper.sweep() == 1
        await messaging.published()
        assert (await contents(stream))["noetl_commands"] == ([f"{SUBJECT}.system.>"], 1)


async def test_commands_that_nobody_hears_are_an_alert_until_they_are_gone(
    ledger: LedgerHarness, nats: EmbeddedNats, stream: JetStreamContext
) -> None:
    """I17."""
    async with open_messaging(nats.url) as messaging:
        sweeper = messaging.sweeper(ledger)
        await announce_both(ledger, messaging)
        await stream.pull_subscribe(f"{SUBJECT}.shared.>", durable="pool")
        await sweeper.sweep()
        assert [sweeper.is_unheard(segment) for segment in ("shared", "system")] == [False, True]
        waiting = await ledger.database.fetch("SELECT execution_id FROM noetl.command")
        await asyncio.gather(*(ledger.ledger.cancel(row["execution_id"]) for row in waiting))
        await sweeper.sweep()
        assert not sweeper.is_unheard("system")
