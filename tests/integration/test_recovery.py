"""What comes back by itself: lost notifications, commands of dead workers, periodic work, batches of unknown fate."""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noetl.dev.services import EmbeddedNats
from noetl.runtime.leases import Lease
from noetl.runtime.periodic import Job, PeriodicJobs
from noetl.runtime.recovery import CommandRecovery
from noetl.store.commands import CommandStore
from noetl.store.leases import LeaseStore
from noetl.store.runtime import Registration, RuntimeStore
from tests.integration.ledger_harness import CollectingAnnouncer, incoming, open_ledger, rows
from tests.integration.messaging_harness import listen, open_messaging

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from noetl.ledger.scope import Notification
    from tests.conftest import MakeDatabase
    from tests.integration.ledger_harness import LedgerHarness
    from tests.integration.messaging_harness import Listener, Messaging

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: two, path: recovery/two}
workflow:
  - step: start
    tool: {kind: noop}
    next: [{step: finish}]
  - step: finish
    tool: {kind: noop}
"""
SILENT_SECONDS = 60.0


@pytest.fixture
async def database(make_database: MakeDatabase, schema_template: str) -> str:
    return await make_database(schema_template)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(database) as harness:
        await harness.register(PLAYBOOK)
        yield harness


@pytest.fixture
async def own_nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedNats]:
    """A NATS server that does not run yet."""
    server = EmbeddedNats(tmp_path_factory.mktemp("nats"))
    yield server
    await server.stop()


async def lose_everything(server: EmbeddedNats) -> None:
    """NATS comes back without its store."""
    await server.kill()
    shutil.rmtree(server.data_directory / "jetstream")
    await server.start()


@asynccontextmanager
async def listen_later(messaging: Messaging, server: EmbeddedNats) -> AsyncGenerator[Listener]:
    """Listen once the stream is there."""
    await messaging.published()
    async with listen(server.url) as pool:
        yield pool


async def start(ledger: LedgerHarness, messaging: Messaging, count: int) -> list[int]:
    """Start executions through this messaging; returns the event ids of their first commands."""
    for _ in range(count):
        await ledger.start("recovery/two")
    items = [ledger.announcer.queue.get_nowait() for _ in range(count)]
    messaging.announcer.announce(items)
    return [item.event_id for item in items]


# -- notifications -----------------------------------------------------------------------------------------------------


async def test_execution_started_without_nats_is_announced_when_it_appears(
    ledger: LedgerHarness, own_nats: EmbeddedNats
) -> None:
    """I4, I23."""
    async with open_messaging(own_nats.url) as messaging:
        started = await start(ledger, messaging, 3)
        assert messaging.connection.state == "disconnected"
        await own_nats.start()
        await messaging.published()
        async with listen(own_nats.url) as pool:
            assert sorted(await pool.take(3)) == started


class Relay(CollectingAnnouncer):
    """Hands everything to the real announcer."""

    def __init__(self, messaging: Messaging) -> None:
        super().__init__()
        self.announce = messaging.announcer.announce
        self.forget = messaging.announcer.forget


async def test_what_ended_unheard_is_not_announced_any_more(database: str, own_nats: EmbeddedNats) -> None:
    """I19: NATS comes back after the execution was cancelled."""
    async with (
        open_messaging(own_nats.url) as messaging,
        open_ledger(database, announcer=Relay(messaging)) as ledger,
    ):
        await ledger.register(PLAYBOOK)
        cancelled = await ledger.start("recovery/two")
        await ledger.ledger.cancel(cancelled)
        await ledger.start("recovery/two")
        await own_nats.start()
        async with listen_later(messaging, own_nats) as pool:
            assert len(await pool.take(2, within_seconds=1)) == 1
            assert (await pool.stream.stream_info("noetl_commands")).state.messages == 1


async def test_notifications_of_a_process_that_died_are_found_in_the_database(
    ledger: LedgerHarness, own_nats: EmbeddedNats
) -> None:
    """I4: the process ended between the commit and the publish."""
    await own_nats.start()
    await ledger.start("recovery/two")
    lost = ledger.announcer.queue.get_nowait()
    async with open_messaging(own_nats.url) as messaging, listen_later(messaging, own_nats) as pool:
        assert await messaging.sweeper(ledger).sweep() == 1
        assert await pool.take(1) == [lost.event_id]


async def test_what_waits_in_an_emptied_nats_is_announced_again_once(
    ledger: LedgerHarness, own_nats: EmbeddedNats
) -> None:
    """I23."""
    await own_nats.start()
    async with open_messaging(own_nats.url) as messaging:
        started = await start(ledger, messaging, 5)
        await messaging.published()
        await lose_everything(own_nats)
        async with listen_later(messaging, own_nats) as pool:
            sweeper = messaging.sweeper(ledger)
            assert await sweeper.sweep() == 5
            assert await sweeper.sweep() == 0
            assert sorted(await pool.take(6, within_seconds=1)) == started


async def test_backlog_is_not_announced_again(ledger: LedgerHarness, own_nats: EmbeddedNats) -> None:
    """I5: two busy workers, many commands that only wait their turn, and a sweeper that does not know their places."""
    await own_nats.start()
    async with open_messaging(own_nats.url) as messaging, open_messaging(own_nats.url) as other:
        started = await start(ledger, messaging, 200)
        await messaging.published()
        await other.published()
        async with listen(own_nats.url) as pool:
            sweepers = [messaging.sweeper(ledger), other.sweeper(ledger)]
            for _ in range(4):
                assert len(await pool.take(2, acknowledge=False)) == 2
                assert [await sweeper.sweep() for sweeper in sweepers] == [0, 0]
            assert (await pool.stream.stream_info("noetl_commands")).state.messages == len(started)


@pytest.mark.parametrize("view_seconds", [60.0, -1.0])
async def test_what_is_published_while_the_stream_is_looked_at_is_not_lost(
    ledger: LedgerHarness, own_nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, view_seconds: float
) -> None:
    """I5: the view of the stream is older than the place of the notification there."""
    monkeypatch.setattr("noetl.messaging.reannouncer.VIEW_SECONDS", view_seconds)
    await own_nats.start()
    async with open_messaging(own_nats.url) as messaging:
        first = await start(ledger, messaging, 1)
        async with listen_later(messaging, own_nats) as pool:
            assert await pool.take(1) == first
            messaging.announcer.forget(first[0])
            item = await ledger_item(ledger)
            sweeper = messaging.sweeper(ledger)
            look, looks = sweeper._look_at, 0

            async def look_then_publish(segment: str) -> Any:
                nonlocal looks
                looks += 1
                view = await look(segment)
                if looks == 1:
                    messaging.announcer.announce([item])
                    await messaging.published()
                return view

            monkeypatch.setattr(sweeper, "_look_at", look_then_publish)
            monkeypatch.setattr(sweeper, "_is_paused", lambda event_id: event_id == first[0])
            assert await sweeper.sweep() == 0
            assert looks == (1 if view_seconds > 0 else 2)
            assert await pool.take(2, within_seconds=0.5) == [item.event_id]


async def ledger_item(ledger: LedgerHarness) -> Notification:
    """The first command of a new execution, which nobody is told of."""
    await ledger.start("recovery/two")
    return ledger.announcer.queue.get_nowait()


async def test_repeat_by_another_process_is_not_taken_for_a_duplicate(
    ledger: LedgerHarness, own_nats: EmbeddedNats
) -> None:
    """The second process cannot know how often the first has announced; NATS remembers for two minutes."""
    await own_nats.start()
    async with open_messaging(own_nats.url) as first, listen_later(first, own_nats) as pool:
        started = await start(ledger, first, 2)
        assert sorted(await pool.take(2)) == started  # acknowledged, and never claimed
        async with open_messaging(own_nats.url) as second:
            await second.published()
            assert await second.sweeper(ledger).sweep() == 2
            await second.published()
            assert sorted(await pool.take(2)) == started


async def test_place_in_a_stream_that_was_replaced_says_nothing(ledger: LedgerHarness, own_nats: EmbeddedNats) -> None:
    """A consumer of the new stream may never be idle, and takes long to get to the number that the old one had."""
    await own_nats.start()
    async with open_messaging(own_nats.url) as first, open_messaging(own_nats.url) as second:
        await first.published()
        await second.published()
        sweeper = second.sweeper(ledger)
        started = await start(ledger, first, 20)
        await first.published()
        async with listen(own_nats.url) as pool:
            assert len(await pool.take(1, acknowledge=False)) == 1
            assert await sweeper.sweep() == 0
        await lose_everything(own_nats)
        await second.published()
        async with listen_later(second, own_nats) as pool:
            await pool.stream.publish("noetl.commands.shared.1", b'{"event_id":1}')
            assert await pool.take(1, acknowledge=False) == [1]
            await sweeper.sweep()
            assert sorted(await pool.take(20)) == started


async def test_deaf_workers_are_named_in_the_log(
    ledger: LedgerHarness, own_nats: EmbeddedNats, caplog: pytest.LogCaptureFixture
) -> None:
    """I17: the durable consumer has vanished, the workers do not notice."""
    await own_nats.start()
    caplog.set_level(logging.INFO, "noetl.messaging")

    def heard() -> list[str]:
        return [record.subject for record in caplog.records if "onsumer" in record.message]

    async with open_messaging(own_nats.url) as messaging:
        started = await start(ledger, messaging, 1)
        await messaging.published()
        sweeper = messaging.sweeper(ledger)
        for _ in range(3):
            assert await sweeper.sweep() == 0
        assert heard() == ["noetl.commands.shared.>"]
        async with listen(own_nats.url) as pool:
            await sweeper.sweep()
            assert heard() == ["noetl.commands.shared.>"] * 2
            assert await pool.take(1) == started


async def test_commands_of_ended_executions_are_left_alone(ledger: LedgerHarness) -> None:
    """I19."""
    execution = await ledger.start("recovery/two")
    item = ledger.announcer.queue.get_nowait()
    store = CommandStore(ledger.database)
    assert [command.event_id for command in await store.waiting(0, 10)] == [item.event_id]
    await ledger.ledger.cancel(execution)
    assert await store.waiting(0, 10) == []
    assert await ledger.ledger.requeue(execution, item.event_id, None, 3, 0) == "moot"


# -- workers -----------------------------------------------------------------------------------------------------------


def recovery(ledger: LedgerHarness, *, can_judge: bool = True, attempts: int = 2) -> CommandRecovery:
    """A sweep for silent workers."""
    return CommandRecovery(
        CommandStore(ledger.database),
        ledger.ledger,
        silent_seconds=SILENT_SECONDS,
        unknown_worker_seconds=10 * SILENT_SECONDS,
        claim_lease_seconds=2 * SILENT_SECONDS,
        max_attempts=attempts,
        limit=100,
        can_judge=lambda _seconds: can_judge,
    )


async def claimed(ledger: LedgerHarness, worker: str, *, ago: float, begun: bool = True) -> Notification:
    """A command of a new execution that a worker claimed so many seconds ago."""
    await ledger.start("recovery/two")
    item = ledger.announcer.queue.get_nowait()
    await ledger.claim(item, worker)
    if begun:
        await ledger.post(item, "command.started", "STARTED", {})
    await ledger.database.execute(
        "UPDATE noetl.command SET claimed_at = now() - $2::interval WHERE event_id = $1",
        item.event_id,
        timedelta(seconds=ago),
    )
    return item


async def beat(ledger: LedgerHarness, worker: str, *, ago: float) -> None:
    """The last heartbeat of a registered worker."""
    await ledger.database.execute(
        "INSERT INTO noetl.runtime (runtime_id, name, kind, status, heartbeat) VALUES (hashtext($1), $1, 'worker_pool',"
        " 'ready', now() - $2::interval) ON CONFLICT (runtime_id) DO UPDATE SET heartbeat = excluded.heartbeat",
        worker,
        timedelta(seconds=ago),
    )


async def test_command_of_a_dead_worker_returns_until_its_attempts_are_used_up(ledger: LedgerHarness) -> None:
    """I2: and the end says what happened."""
    item = await claimed(ledger, "w1", ago=600)
    await beat(ledger, "w1", ago=SILENT_SECONDS + 1)
    sweep = recovery(ledger)
    assert await sweep.sweep() == {"requeued": 1}
    assert await sweep.sweep() == {}
    again = ledger.announcer.queue.get_nowait()
    assert (again.event_id, again.attempt) == (item.event_id, 2)
    await ledger.claim(again, "w2")
    await beat(ledger, "w2", ago=SILENT_SECONDS + 1)
    await ledger.database.execute("UPDATE noetl.command SET claimed_at = now() - interval '1 hour'")
    assert await sweep.sweep() == {"failed": 1}
    log = await ledger.log(item.execution_id)
    assert [event for event, _, _ in log[-2:]] == ["command.failed", "playbook.failed"]
    row = await ledger.database.fetchrow("SELECT status, attempt, error FROM noetl.command")
    assert row is not None
    assert (row["status"], row["attempt"]) == ("FAILED", 2)
    assert row["error"] == "Worker 'w2' went silent while it ran the command; attempt 2 of 2 was the last"
    assert ledger.announcer.queue.empty()


async def test_long_running_command_of_a_live_worker_is_left_alone(ledger: LedgerHarness) -> None:
    """I3."""
    await claimed(ledger, "w1", ago=86_400)
    await beat(ledger, "w1", ago=SILENT_SECONDS - 10)
    assert await recovery(ledger).sweep() == {}


async def test_heartbeat_of_the_command_keeps_it_although_the_worker_is_silent(ledger: LedgerHarness) -> None:
    """I3."""
    item = await claimed(ledger, "w1", ago=86_400)
    await beat(ledger, "w1", ago=86_400)
    await ledger.post(item, "command.heartbeat", "RUNNING", {})
    assert await recovery(ledger).sweep() == {}


async def test_command_of_a_worker_that_began_anew_under_its_name_returns(ledger: LedgerHarness) -> None:
    """I2: the container was killed and started again in its pod; it beats, and does not know of the command."""
    item = await claimed(ledger, "w1", ago=SILENT_SECONDS + 1)
    store = RuntimeStore(ledger.database)
    again = Registration(name="w1", kind="worker_pool", uri=None, status="ready")
    await store.upsert(1, again, begins=False)
    assert await recovery(ledger).sweep() == {}, "only its row was lost"
    await store.upsert(1, again)
    ledger.ledger.states.discard(item.execution_id)
    await ledger.database.execute("UPDATE noetl.event SET ingest_time = ingest_time - interval '10 minutes'")
    assert await recovery(ledger).sweep() == {"requeued": 1}
    await ledger.claim(ledger.announcer.queue.get_nowait(), "w1")
    assert await recovery(ledger).sweep() == {}


async def test_worker_that_never_registered_keeps_its_command_for_the_hard_limit(ledger: LedgerHarness) -> None:
    item = await claimed(ledger, "w1", ago=9 * SILENT_SECONDS)
    assert await recovery(ledger).sweep() == {}
    await ledger.database.execute("UPDATE noetl.command SET claimed_at = now() - interval '1 day'")
    assert await recovery(ledger).sweep() == {"requeued": 1}
    assert ledger.announcer.queue.get_nowait().event_id == item.event_id


async def test_claim_whose_worker_never_began_is_taken_back(ledger: LedgerHarness) -> None:
    """The answer to the claim was lost, and the worker lives on without knowing."""
    await claimed(ledger, "w1", ago=2 * SILENT_SECONDS + 1, begun=False)
    await claimed(ledger, "w1", ago=2 * SILENT_SECONDS - 10, begun=False)
    await beat(ledger, "w1", ago=0)
    assert await recovery(ledger).sweep() == {"requeued": 1}


async def test_nobody_is_judged_after_an_outage_of_ours(ledger: LedgerHarness) -> None:
    """I3: heartbeats could not arrive."""
    await claimed(ledger, "w1", ago=600)
    await beat(ledger, "w1", ago=600)
    assert await recovery(ledger, can_judge=False).sweep() == {}


@pytest.mark.parametrize("hours", [-24, 24])
async def test_clock_of_a_worker_does_not_say_when_it_was_heard(
    ledger: LedgerHarness, database: str, hours: int
) -> None:
    """Also not after the state was rebuilt from the log."""
    item = await claimed(ledger, "w1", ago=600)
    event = incoming("command.heartbeat", item.step, "RUNNING", {"command_id": item.command_id})
    event.created_at = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=hours)
    await ledger.ledger.ingest(item.execution_id, [event])
    async with open_ledger(database, machine_id=2) as other:
        assert await other.ledger.requeue(item.execution_id, item.event_id, "w1", 3, 3600) == "moot"
        await asyncio.sleep(0.05)
        assert await other.ledger.requeue(item.execution_id, item.event_id, "w1", 3, 0.01) == "requeued"


# -- periodic work -----------------------------------------------------------------------------------------------------


class SilentMetrics:
    """Takes the measurements."""

    def observe_sweep(self, sweep: str, ok: bool, seconds: float) -> None:
        """Ignored."""


def jobs(ledger: LedgerHarness, holder: str, job: Job, lease_seconds: float) -> PeriodicJobs:
    """The periodic work of one process."""
    lease = Lease(LeaseStore(ledger.database), "work", holder, lease_seconds)
    return PeriodicJobs([job], lease, SilentMetrics(), tick_seconds=0.05)


async def test_periodic_work_moves_when_its_holder_dies(ledger: LedgerHarness) -> None:
    """I12."""
    store = LeaseStore(ledger.database)
    assert await store.acquire("work", "dead", 0.5)
    ran = asyncio.Event()

    async def run() -> None:
        ran.set()

    task = asyncio.create_task(jobs(ledger, "second", Job("sweep", 0.05, run), 0.5).run())
    assert not await store.acquire("work", "third", 0.5)
    async with asyncio.timeout(5):
        await ran.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await store.acquire("work", "third", 0.5), "given back at shutdown"


async def test_job_that_takes_longer_than_the_lease_does_not_lose_it(ledger: LedgerHarness) -> None:
    """I12: two processes must not sweep at the same time."""
    running, done = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    async def slow() -> None:
        runs.append("first")
        running.set()
        await asyncio.sleep(2)
        done.set()

    async def other() -> None:
        runs.append("second")

    first = asyncio.create_task(jobs(ledger, "first", Job("sweep", 60, slow), 0.6).run())
    await running.wait()
    second = asyncio.create_task(jobs(ledger, "second", Job("sweep", 0.05, other), 0.6).run())
    await done.wait()
    assert runs == ["first"]
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


# -- batches of unknown fate -------------------------------------------------------------------------------------------


async def test_event_that_another_process_stored_does_not_prove_that_our_batch_was_committed(
    ledger: LedgerHarness, database: str
) -> None:
    """Our connection breaks before the commit; the client has meanwhile sent the same event to another server."""
    execution = await ledger.start("recovery/two")
    item = ledger.announcer.queue.get_nowait()
    command = {"command_id": item.command_id}
    batch = [
        incoming("command.started", item.step, "STARTED", command, 77),
        incoming("progress", item.step, "RUNNING", command),
    ]
    holder: Any = await ledger.database.connect_dedicated()
    await holder.execute("BEGIN")
    await holder.execute(f"SELECT pg_advisory_xact_lock({execution})")
    ingesting = asyncio.create_task(ledger.ledger.ingest(execution, batch))
    blocked = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    async with asyncio.timeout(5):
        while not (waiting := await rows(database, blocked)):  # noqa: ASYNC110 (only the database knows)
            await asyncio.sleep(0.01)
    await rows(database, "SELECT pg_terminate_backend($1)", waiting[0][0])
    async with asyncio.timeout(5):
        while not set(await rows(database, blocked)) - set(waiting):  # noqa: ASYNC110 (only the database knows)
            await asyncio.sleep(0.01)
    await holder.execute(
        "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, node_id, node_name, status, result,"
        " meta) SELECT execution_id, 77, catalog_id, 'command.started', 'start', 'start', 'STARTED', $1, '{}'"
        " FROM noetl.event WHERE execution_id = $2 LIMIT 1",
        batch[0].result.decode(),
        execution,
    )
    await holder.execute("COMMIT")
    await holder.close()
    answer = await ingesting
    stored = await rows(database, "SELECT event_id FROM noetl.event WHERE event_type = 'progress'")
    assert answer == [77, stored[0][0]]
    assert [event for event, _, _ in await ledger.log(execution)].count("command.started") == 1
