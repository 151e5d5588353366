"""The ledger on a real PostgreSQL: durability, one decision per event, one owner per command, idempotence."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from noetl.errors import ConflictError, NotFoundError, UnprocessableError
from noetl.ledger.items import StartExecution
from noetl.ledger.ledger import LedgerLimits
from noetl.ledger.loader import PARALLEL_LOADS
from noetl.store import events
from noetl.store.commands import CommandStore
from noetl.store.database import ConnectionLostError
from tests.integration.ledger_harness import incoming, open_ledger, rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.ledger_harness import LedgerHarness

LINEAR = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: linear, path: ledger/linear}
workload: {k: 5}
workflow:
  - step: start
    tool: {kind: noop}
    next: [{step: end}]
  - step: end
    tool: {kind: python, args: {value: "{{ start.ok }}"}, code: "result = {}"}
"""

PARALLEL = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: parallel, path: ledger/parallel}
workflow:
  - step: start
    tool: {kind: noop}
    next: [{step: many}]
  - step: many
    tool: {kind: noop}
    loop: {in: "{{ n }}", iterator: item, spec: {mode: parallel}}
    next: [{step: end}]
  - step: end
    tool: {kind: noop}
"""


@pytest.fixture
async def ledger(migrated_database_url: str) -> AsyncIterator[LedgerHarness]:
    async with open_ledger(migrated_database_url) as harness:
        await harness.register(LINEAR)
        await harness.register(PARALLEL)
        yield harness


async def test_linear_playbook_runs_to_its_terminal_event(ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/linear", k=7)
    await ledger.run_workers(lambda item: {"ok": item.step})
    worker = ["command.claimed", "command.started", "call.done", "command.completed"]
    assert [event for event, _, _ in await ledger.log(execution)] == [
        "playbook_started",
        "command.issued",
        *worker,
        "step.enter",
        "command.issued",
        *worker,
        "playbook.completed",
    ]
    commands = await ledger.database.fetch(
        "SELECT status, worker_id FROM noetl.command WHERE execution_id = $1", execution
    )
    assert [(record["status"], record["worker_id"]) for record in commands] == [("COMPLETED", "w0")] * 2
    head = await ledger.database.fetchrow(
        "SELECT status, end_time FROM noetl.execution WHERE execution_id = $1", execution
    )
    assert head is not None
    assert head["status"] == "COMPLETED"
    assert head["end_time"] is not None


async def decisions_apart(ledger: LedgerHarness, execution: int) -> tuple[int, int]:
    """How many rows of decisions there are, and how many that were not written with the event they follow from.

    A crash can come between two transactions, and not within one.
    """
    record = await ledger.database.fetchrow(
        "SELECT count(*) AS decided, count(*) FILTER (WHERE decided.xmin <> cause.xmin) AS apart"
        " FROM noetl.event AS decided JOIN noetl.event AS cause"
        " ON cause.execution_id = decided.execution_id AND cause.event_id = decided.parent_event_id"
        " WHERE decided.event_type IN ('step.enter', 'command.issued', 'playbook.completed')"
        " AND cause.event_type = 'command.completed' AND decided.execution_id = $1",
        execution,
    )
    assert record is not None
    return record["decided"], record["apart"]


async def test_event_and_what_follows_from_it_are_written_in_one_transaction(ledger: LedgerHarness) -> None:
    """I22."""
    execution = await ledger.start("ledger/linear")
    for _ in range(2):
        await ledger.work(await asyncio.wait_for(ledger.announcer.queue.get(), 10), {"ok": True})
    assert await decisions_apart(ledger, execution) == (3, 0)


async def test_parallel_loop_with_many_workers_issues_its_successor_once(ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/parallel", n=800)
    assert await ledger.run_workers(lambda item: {"n": item.step}, workers=32) == 802
    log = await ledger.log(execution)
    assert sum(event == "command.issued" for event, _, _ in log) == 802
    assert [event for event, _, _ in log if event.startswith("playbook.")] == ["playbook.completed"]
    assert log[-1][0] == "playbook.completed"


async def test_executions_that_another_process_writes_cost_the_others_no_state(
    migrated_database_url: str, ledger: LedgerHarness
) -> None:
    own = await ledger.start("ledger/linear")
    async with open_ledger(migrated_database_url, machine_id=2) as other:

        async def write_both() -> None:
            foreign = await ledger.start("ledger/linear")
            await other.ledger.ingest(foreign, [incoming("step.note", "start", "OK", {}, None)])
            await asyncio.gather(
                ledger.ledger.ingest(foreign, [incoming("step.note", "start", "OK", {}, None)]),
                ledger.ledger.ingest(own, [incoming("step.note", "start", "OK", {}, None)]),
            )

        await write_both()  # shows that somebody else is there
        state = ledger.ledger.states.peek(own)
        assert state is not None
        for _ in range(3):
            await write_both()
        assert ledger.ledger.states.peek(own) is state


async def test_two_processes_on_one_database_decide_once(migrated_database_url: str, ledger: LedgerHarness) -> None:
    async with open_ledger(migrated_database_url, machine_id=2, announcer=ledger.announcer) as other:
        execution = await ledger.start("ledger/parallel", n=40)
        turns = itertools.cycle((ledger, other))

        async def serve(name: str) -> None:
            while True:
                try:
                    item = await asyncio.wait_for(ledger.announcer.queue.get(), 0.5)
                except TimeoutError:
                    return
                await next(turns).claim(item, name)
                await next(turns).post(item, "command.started", "STARTED", {})
                await next(turns).post(item, "command.completed", "success", {"status": "success"})

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(serve(f"w{number}"))
    log = await ledger.log(execution)
    assert sum(event == "command.issued" for event, _, _ in log) == 42
    assert sum(event.startswith("playbook.") for event, _, _ in log) == 1
    assert (await decisions_apart(ledger, execution))[1] == 0


async def test_second_claim_by_another_worker_is_refused(ledger: LedgerHarness) -> None:
    """I1."""
    await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    outcomes = await asyncio.gather(
        *(ledger.claim(item, f"worker-{number}") for number in range(20)), return_exceptions=True
    )
    winners = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, dict)]
    assert len(winners) == 1
    assert all(
        isinstance(outcome, ConflictError) and str(outcome) == f"Command already claimed by worker-{winners[0]}"
        for outcome in outcomes
        if not isinstance(outcome, dict)
    )
    assert await ledger.claim(item, f"worker-{winners[0]}") == outcomes[winners[0]]


async def test_finished_command_cannot_be_claimed_again(ledger: LedgerHarness) -> None:
    await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.work(item, {"ok": 1})
    with pytest.raises(ConflictError, match="Command already reached terminal state"):
        await ledger.claim(item)


@pytest.mark.parametrize("event_id", [7, -7, 2**63 - 1, -(2**63)])
async def test_unknown_command_is_not_found(ledger: LedgerHarness, event_id: int) -> None:
    with pytest.raises(NotFoundError, match=rf"command\.issued event not found: {event_id}"):
        await ledger.ledger.claim(event_id, "w1")


@pytest.mark.parametrize("lately", [events.LATELY, 0])
async def test_command_that_another_process_issued_is_found_however_old_its_execution_is(
    migrated_database_url: str, ledger: LedgerHarness, monkeypatch: pytest.MonkeyPatch, lately: int
) -> None:
    monkeypatch.setattr(events, "LATELY", lately)
    async with open_ledger(migrated_database_url, machine_id=2) as other:
        await ledger.start(await ledger.register(LINEAR))
        item = await ledger.announcer.queue.get()
        assert "tool_config" in await other.claim(item)


async def test_event_of_unknown_execution_is_refused(ledger: LedgerHarness) -> None:
    with pytest.raises(NotFoundError, match="Execution not found: 12"):
        await ledger.ledger.ingest(12, [incoming("step.enter", "s", "RUNNING", {})])


async def test_repeated_event_is_stored_once_and_answered_alike(ledger: LedgerHarness) -> None:
    """I21."""
    execution = await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.claim(item)
    ids = await asyncio.gather(
        *(ledger.post(item, "command.completed", "success", {"status": "success"}, event_id=4242) for _ in range(10))
    )
    assert ids == [4242] * 10
    log = await ledger.log(execution)
    assert sum(event == "command.completed" for event, _, _ in log) == 1
    assert sum(event == "command.issued" for event, _, _ in log) == 2


async def test_another_event_under_a_taken_id_is_refused(ledger: LedgerHarness) -> None:
    await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.post(item, "command.started", "STARTED", {}, event_id=99)
    with pytest.raises(ConflictError, match="Event 99 already exists"):
        await ledger.post(item, "command.started", "STARTED", {"other": True}, event_id=99)


async def test_one_bad_operation_hurts_only_its_sender(ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/linear")
    good = [incoming("step.enter", f"s{number}", "RUNNING", {}) for number in range(5)]
    bad = incoming("step.enter", "bad", "RUNNING", {})
    bad.result = b'{"status":5}'
    outcomes = await asyncio.gather(
        *(ledger.ledger.ingest(execution, [event]) for event in [*good[:2], bad, *good[2:]]), return_exceptions=True
    )
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, False, True, False, False, False]
    assert len([node for event, node, _ in await ledger.log(execution) if event == "step.enter"]) == 5


async def test_idempotency_key_starts_one_execution(ledger: LedgerHarness) -> None:
    request = StartExecution(path="ledger/linear", idempotency_key="order-1")
    started = await asyncio.gather(*(ledger.ledger.start(request) for _ in range(8)))
    assert len({item.execution_id for item in started}) == 1
    assert len(await ledger.log(started[0].execution_id)) == 2


async def test_start_is_answered_once_although_its_first_attempt_arrives_late(
    migrated_database_url: str, ledger: LedgerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I14: the connection broke, and the statement took its lock only after the lane had looked for it."""
    store = ledger.ledger._shards[0]._store
    append = store.append
    attempts: list[tuple[Any, ...]] = []

    async def late_append(*arguments: Any) -> dict[int, int]:
        attempts.append(arguments)
        if len(attempts) == 1:
            raise ConnectionLostError("gone")
        if len(attempts) == 2:
            connection = await asyncpg.connect(migrated_database_url)
            await append(connection, *attempts[0][1:])
            await connection.close()
        return await append(*arguments)

    before = await rows(migrated_database_url, "SELECT count(*) FROM noetl.execution")
    monkeypatch.setattr(store, "append", late_append)
    execution = await ledger.start("ledger/linear")
    monkeypatch.undo()
    assert len(attempts) == 2
    assert [event for event, _, _ in await ledger.log(execution)] == ["playbook_started", "command.issued"]
    assert await rows(migrated_database_url, "SELECT count(*) FROM noetl.execution") == [(before[0][0] + 1,)]
    waiting = [item for item in await CommandStore(ledger.database).waiting(0, 100) if item.execution_id == execution]
    assert len(waiting) == 1
    view = await ledger.ledger.claim(waiting[0].event_id, "w1")
    assert view.execution_id == execution


async def test_states_are_rebuilt_a_few_at_a_time(
    migrated_database_url: str, ledger: LedgerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: a process that starts while many executions are under way."""
    executions = [await ledger.start("ledger/linear") for _ in range(30)]
    async with open_ledger(migrated_database_url, machine_id=2) as cold:
        events = cold.ledger._shards[0]._events
        page = events.page
        reading, most = 0, 0

        async def counted(*arguments: Any) -> Any:
            nonlocal reading, most
            reading += 1
            most = max(most, reading)
            try:
                return await page(*arguments)
            finally:
                reading -= 1

        monkeypatch.setattr(events, "page", counted)
        await asyncio.gather(*(cold.ledger.cancel(execution) for execution in executions))
        assert most == PARALLEL_LOADS
        assert len(cold.ledger.states) == len(executions)


async def test_cancelled_execution_issues_and_gives_out_nothing(ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.claim(item)
    assert await ledger.ledger.cancel(execution, "enough") == [execution]
    await ledger.post(item, "command.completed", "success", {"status": "success"})
    assert ledger.announcer.queue.empty()
    with pytest.raises(ConflictError, match="Execution has been cancelled"):
        await ledger.claim(item, "w2")
    with pytest.raises(UnprocessableError, match="Cannot cancel execution in CANCELLED state"):
        await ledger.ledger.cancel(execution)
    assert [status for event, _, status in await ledger.log(execution) if event.startswith("playbook_c")] == [
        "CANCELLED"
    ]


async def test_row_that_another_server_left_pending_is_closed_by_the_claim_that_comes_for_it(
    ledger: LedgerHarness,
) -> None:
    """D4: the reference never touches its rows again, so they look as if nobody had heard of them."""
    execution = await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.work(item, {"ok": True})
    await ledger.database.execute(
        "UPDATE noetl.command SET status = 'PENDING', completed_at = NULL WHERE event_id = $1", item.event_id
    )
    with pytest.raises(ConflictError, match="terminal state"):
        await ledger.claim(item, "w2")
    waiting = await CommandStore(ledger.database).waiting(0, 1_000)
    assert item.event_id not in {command.event_id for command in waiting if command.execution_id == execution}


async def test_nothing_waits_once_the_execution_has_failed(ledger: LedgerHarness) -> None:
    """D4: one iteration fails, one is being worked on, the others have not begun."""
    execution = await ledger.start("ledger/parallel", n=[1, 2, 3, 4])
    await ledger.work(await ledger.announcer.queue.get(), {"ok": True})
    items = [await ledger.announcer.queue.get() for _ in range(4)]
    await ledger.claim(items[1], "w2")
    await ledger.work(items[0], fail="broken")
    assert (await ledger.log(execution))[-1][0] == "playbook.failed"
    await ledger.post(items[1], "command.completed", "success", {"status": "success"})
    assert (await ledger.log(execution))[-1][0] == "command.completed"
    statuses = await ledger.database.fetch(
        "SELECT status FROM noetl.command WHERE execution_id = $1 ORDER BY event_id", execution
    )
    assert [row["status"] for row in statuses] == ["COMPLETED", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]
    store = CommandStore(ledger.database)
    waiting = {command.execution_id for command in await store.waiting(0, 1_000)}
    assert execution not in waiting


async def test_row_of_a_command_holds_what_its_event_holds(migrated_database_url: str, ledger: LedgerHarness) -> None:
    large = [f"{number:x}" for number in range(20_000)]
    executions = [await ledger.start("ledger/linear", large=large), await ledger.start("ledger/parallel", n=[1, 2, 3])]
    await ledger.run_workers(lambda item: {"ok": item.step})
    differing = """
        SELECT count(*), count(*) FILTER (WHERE (command.context, command.meta, command.catalog_id, command.step_name,
                command.tool_kind, command.created_at) IS DISTINCT FROM (event.context, event.meta, event.catalog_id,
                event.node_name, event.node_type, event.created_at AT TIME ZONE 'UTC')),
            max(length(event.context::text)) > 100000
        FROM noetl.event LEFT JOIN noetl.command USING (execution_id, event_id)
        WHERE event_type = 'command.issued' AND execution_id = ANY ($1::bigint[])"""
    assert await rows(migrated_database_url, differing, executions) == [(7, 0, True)]


async def test_state_is_rebuilt_after_eviction(migrated_database_url: str) -> None:
    async with open_ledger(migrated_database_url, limits=LedgerLimits(state_bytes=1)) as ledger:
        path = await ledger.register(LINEAR)
        executions = [await ledger.start(path) for _ in range(10)]
        await ledger.run_workers(lambda item: {"ok": item.step}, workers=4)
        for execution in executions:
            log = await ledger.log(execution)
            assert sum(event == "command.issued" for event, _, _ in log) == 2
            assert log[-1][0] == "playbook.completed"


async def test_silent_worker_loses_its_command_and_the_last_attempt_fails_the_run(ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.claim(item, "dead")
    assert await ledger.ledger.requeue(execution, item.event_id, "dead", 2, 60) == "requeued"
    again = await ledger.announcer.queue.get()
    assert (again.event_id, again.attempt) == (item.event_id, 2)
    assert await ledger.ledger.requeue(execution, item.event_id, "dead", 2, 60) == "moot"
    await ledger.claim(again, "dead too")
    assert await ledger.ledger.requeue(execution, item.event_id, "dead too", 2, 60) == "failed"
    log = await ledger.log(execution)
    assert [event for event, _, _ in log[-2:]] == ["command.failed", "playbook.failed"]


async def test_late_result_of_the_replaced_worker_advances_once(ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/linear")
    item = await ledger.announcer.queue.get()
    await ledger.claim(item, "slow")
    await ledger.ledger.requeue(execution, item.event_id, "slow", 3, 60)
    again = await ledger.announcer.queue.get()
    await ledger.post(item, "command.completed", "success", {"status": "success"})
    await ledger.post(again, "command.completed", "success", {"status": "success"})
    assert sum(event == "command.issued" for event, _, _ in await ledger.log(execution)) == 2


async def test_lost_connection_of_a_lane_is_replaced(migrated_database_url: str, ledger: LedgerHarness) -> None:
    execution = await ledger.start("ledger/linear")
    await rows(
        migrated_database_url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()",
    )
    await ledger.run_workers(lambda item: {"ok": item.step})
    assert (await ledger.log(execution))[-1][0] == "playbook.completed"
