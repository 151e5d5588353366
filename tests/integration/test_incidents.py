"""What has hurt users of NoETL in production, where the ledger decides it (the incidents are numbered as everywhere).

Others are named where their subject is tested: `grep -rw I5 tests`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import nats as nats_client
import orjson
import pytest

from noetl.errors import ConflictError
from noetl.ledger.items import StartExecution
from noetl.ledger.ledger import LedgerLimits
from tests.integration.ledger_harness import SilentMetrics, incoming, open_ledger
from tests.integration.messaging_harness import open_messaging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.services import EmbeddedNats
    from noetl.ledger.scope import Notification
    from tests.integration.ledger_harness import LedgerHarness

NOOP = {"tool": {"kind": "noop"}}


def playbook(name: str, *steps: dict[str, Any]) -> str:
    """A playbook as JSON, which is YAML."""
    return orjson.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": name, "path": f"incidents/{name}"},
            "workflow": [{**NOOP, **step} for step in steps],
        }
    ).decode()


BRANCHES = playbook(
    "branches",
    {"step": "start", "next": ["breaks", "works"]},
    {"step": "breaks"},
    {"step": "works", "next": [{"step": "recovery"}]},
    {"step": "recovery"},
)
LOOP = playbook(
    "loop",
    {"step": "start", "next": [{"step": "many"}]},
    {
        "step": "many",
        "loop": {"in": "{{ n }}", "iterator": "item", "spec": {"mode": "parallel"}},
        "next": [{"step": "after"}],
    },
    {"step": "after"},
)
NO_WAY_ON = playbook(
    "no_way_on",
    {"step": "start", "next": [{"step": "never", "when": "{{ 1 > 2 }}"}, {"step": "nor_this", "when": "{{ false }}"}]},
    {"step": "never"},
    {"step": "nor_this"},
)
TWO = playbook("two", {"step": "start", "next": [{"step": "last"}]}, {"step": "last"})


@pytest.fixture
async def ledger(migrated_database_url: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(migrated_database_url) as harness:
        for text in (BRANCHES, LOOP, NO_WAY_ON, TWO):
            await harness.register(text)
        yield harness


async def next_of(ledger: LedgerHarness, count: int) -> dict[str, Notification]:
    """The next commands that are announced, by step (and index)."""
    items = [await asyncio.wait_for(ledger.announcer.queue.get(), 5) for _ in range(count)]
    return {item.step + item.command_id.rpartition(":i")[2] * (":i" in item.command_id): item for item in items}


async def ends(ledger: LedgerHarness, execution: int) -> list[str]:
    """The terminal events so far."""
    return [event for event, node, _ in await ledger.log(execution) if node == "playbook"]


async def run_status(ledger: LedgerHarness, execution: int) -> str:
    """What lists show."""
    return await ledger.database.fetchval("SELECT status FROM noetl.execution WHERE execution_id = $1", execution)


async def test_i6_a_failure_waits_for_the_route_that_has_begun(ledger: LedgerHarness) -> None:
    execution = await ledger.start("incidents/branches")
    await ledger.work((await next_of(ledger, 1))["start"])
    branches = await next_of(ledger, 2)
    await asyncio.gather(ledger.work(branches["breaks"], fail="broken"), ledger.work(branches["works"]))
    recovery = await next_of(ledger, 1)
    assert await ends(ledger, execution) == []
    await ledger.work(recovery["recovery"])
    assert await ends(ledger, execution) == ["playbook.failed"]


async def test_i7_completed_is_said_with_the_terminal_event_and_not_before(ledger: LedgerHarness) -> None:
    execution = await ledger.start("incidents/loop", n=[1, 2, 3])
    await ledger.work((await next_of(ledger, 1))["start"])
    items = await next_of(ledger, 3)
    for item in items.values():
        assert (await run_status(ledger, execution), await ends(ledger, execution)) == ("RUNNING", [])
        await ledger.work(item)
    await ledger.work((await next_of(ledger, 1))["after"])
    assert (await run_status(ledger, execution), await ends(ledger, execution)) == ("COMPLETED", ["playbook.completed"])


@pytest.mark.parametrize("name", ["no_way_on", "two"])
async def test_i8_a_workflow_ends_whatever_its_last_step_is_called(ledger: LedgerHarness, name: str) -> None:
    execution = await ledger.start(f"incidents/{name}")
    await ledger.run_workers(lambda item: {"ok": item.step})
    assert (await ledger.log(execution))[-1][0] == "playbook.completed"


async def test_i10_an_iteration_counts_once_however_often_it_is_reported(ledger: LedgerHarness) -> None:
    await ledger.start("incidents/loop", n=[1, 2, 3])
    await ledger.work((await next_of(ledger, 1))["start"])
    items = await next_of(ledger, 3)
    done = {"call_index": 0, "result": {"status": "success", "context": {"data": 1}}}
    for _ in range(3):  # each time under another event id
        await ledger.post(items["many0"], "call.done", "COMPLETED", done)
        await ledger.post(items["many0"], "command.completed", "success", {"status": "success"})
    assert ledger.announcer.queue.empty()
    await ledger.work(items["many1"], 2)
    await ledger.work(items["many2"], 3)
    after = await ledger.claim((await next_of(ledger, 1))["after"])
    assert len(after["render_context"]["many"]) == 3
    assert ledger.announcer.queue.empty()


async def test_i13_notifications_carry_ids_whatever_the_command_weighs(
    ledger: LedgerHarness, nats: EmbeddedNats
) -> None:
    await ledger.start("incidents/two", large="x" * 1_500_000)
    client = await nats_client.connect(nats.url)
    heard = await client.subscribe("noetl.commands.>")
    await client.flush()
    async with open_messaging(nats.url) as messaging:
        messaging.announcer.announce(list((await next_of(ledger, 1)).values()))
        message = await heard.next_msg(timeout=10)
    await client.close()
    assert len(message.data) < 500


async def test_i14_a_batch_that_is_sent_again_while_the_first_one_waits_runs_once(ledger: LedgerHarness) -> None:
    execution = await ledger.start("incidents/two")
    item = (await next_of(ledger, 1))["start"]
    context = {"command_id": item.command_id, "status": "success"}
    batch = [
        incoming("command.started", item.step, "STARTED", {"command_id": item.command_id}, 601),
        incoming("command.completed", item.step, "success", context, 602),
    ]
    replies = await asyncio.gather(*(ledger.ledger.ingest(execution, batch) for _ in range(6)))
    assert replies == [[601, 602]] * 6
    types = [event for event, _, _ in await ledger.log(execution)]
    assert (types.count("command.started"), types.count("command.issued")) == (1, 2)


class Phases(SilentMetrics):
    """Keeps the phases of batches that were measured."""

    def __init__(self) -> None:
        self.phases: set[str] = set()

    def observe_phase(self, phase: str, seconds: float) -> None:
        self.phases.add(phase)


async def test_i15_loading_one_execution_holds_up_no_other(
    migrated_database_url: str, ledger: LedgerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are on the same lane; neither its lock nor its queue is held meanwhile."""
    execution = await ledger.start("incidents/two")
    async with open_ledger(migrated_database_url, machine_id=2, limits=LedgerLimits(lanes=1)) as other:
        phases = Phases()
        monkeypatch.setattr(other.ledger._shards[0]._queue._lanes[0], "_services", _measured(other, phases))
        page, may_read = other.ledger._shards[0]._events.page, asyncio.Event()

        async def waiting_page(*arguments: Any) -> Any:
            await may_read.wait()
            return await page(*arguments)

        monkeypatch.setattr(other.ledger._shards[0]._events, "page", waiting_page)
        slow = asyncio.create_task(other.ledger.cancel(execution))
        path = "incidents/two"
        await asyncio.wait_for(other.ledger.start(StartExecution(path=path)), 5)
        assert not slow.done()
        may_read.set()
        await slow
        assert phases.phases == {"wait", "decide", "write"}


def _measured(harness: LedgerHarness, metrics: Phases) -> Any:
    return dataclasses.replace(harness.ledger._shards[0]._queue._lanes[0]._services, metrics=metrics)


async def test_i16_a_large_result_reaches_the_next_step_whole(ledger: LedgerHarness) -> None:
    await ledger.start("incidents/two")
    rows = [{"number": number, "text": "\u00e9" * 40} for number in range(5_000)]
    await ledger.work((await next_of(ledger, 1))["start"], rows)
    last = await ledger.claim((await next_of(ledger, 1))["last"])
    assert last["render_context"]["start"] == rows


async def test_i21_an_event_that_is_twice_in_a_batch_is_stored_once(ledger: LedgerHarness) -> None:
    execution = await ledger.start("incidents/two")
    item = (await next_of(ledger, 1))["start"]
    event = incoming("command.completed", item.step, "success", {"command_id": item.command_id}, 701)
    assert await ledger.ledger.ingest(execution, [event, event]) == [701, 701]
    assert await ledger.ledger.ingest(execution, [event]) == [701]
    types = [kind for kind, _, _ in await ledger.log(execution)]
    assert (types.count("command.completed"), types.count("command.issued")) == (1, 2)


async def test_i26_a_cancelled_execution_stays_cancelled_while_its_workers_go_on(ledger: LedgerHarness) -> None:
    execution = await ledger.start("incidents/loop", n=[1, 2])
    await ledger.work((await next_of(ledger, 1))["start"])
    items = await next_of(ledger, 2)
    await ledger.claim(items["many0"])
    await ledger.ledger.cancel(execution)
    await ledger.post(items["many0"], "command.completed", "success", {"status": "success"})
    with pytest.raises(ConflictError, match="Execution has been cancelled"):
        await ledger.claim(items["many1"])
    assert ledger.announcer.queue.empty()
    assert await ends(ledger, execution) == ["playbook_cancelled"]
    assert await run_status(ledger, execution) == "CANCELLED"
