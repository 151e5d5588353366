"""Loops and long chains: exactly once with many workers, at a cost that does not grow, in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from noetl.ledger.ledger import LedgerLimits
from tests.faults.checker import query, violations
from tests.faults.wire import Client
from tests.faults.worker import Crew
from tests.faults.workflows import loop, workflow
from tests.integration.ledger_harness import incoming, open_ledger, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noetl.dev.services import EmbeddedNats
    from noetl.ledger.scope import Notification
    from tests.conftest import MakeDatabase, MakeServer
    from tests.integration.ledger_harness import LedgerHarness

AROUND = 100
"""Commands over which the cost of one is averaged."""
CALLS_PER_EVENT = 1.1
ROWS_PER_EVENT = 1.1


def many(count: int, mode: str = "parallel", name: str = "many") -> Any:
    """A loop between a first and a last step."""
    return workflow(
        f"loops/{name}/{count}",
        [
            {"step": "start", "next": "many"},
            {"step": "many", "loop": loop(count, mode), "next": "end"},
            {"step": "end"},
        ],
        {"start": 1, "many": count, "end": 1},
    )


def chain(count: int) -> Any:
    """So many steps in a row."""
    names = ["start", *(f"s{number}" for number in range(1, count))]
    steps = [{"step": name, "next": following} for name, following in pairwise(names)]
    return workflow(f"loops/chain/{count}", [*steps, {"step": names[-1]}], dict.fromkeys(names, 1))


@pytest.fixture
async def database(make_database: MakeDatabase, schema_template: str) -> str:
    return await make_database(schema_template)


async def test_800_iterations_with_32_workers_are_802_commands_and_one_end(
    make_server: MakeServer, database_url: str, nats: EmbeddedNats
) -> None:
    """I20: the reference issues 803 and ends twice."""
    server = await make_server()
    wanted = many(800)
    client = Client([server.url])
    await client.insist("POST", "/api/catalog/register", {"content": wanted.text})
    async with Crew([server.url], nats.url, slots=32) as crew:
        status, started = await client.once("POST", "/api/execute", {"path": wanted.path})
        assert status == 200
        async with asyncio.timeout(60):
            while not await query(database_url, "SELECT 1 FROM noetl.execution WHERE end_time IS NOT NULL"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert crew.done == 802
        assert set(crew.heard.values()) == {1}
        assert crew.history.refusals == []
    client.close()
    types = dict(
        await query(
            database_url,
            "SELECT event_type, count(*) FROM noetl.event WHERE execution_id = $1 GROUP BY 1",
            int(started["execution_id"]),
        )
    )
    assert types == {
        "playbook_started": 1,
        "step.enter": 2,
        "command.issued": 802,
        "command.claimed": 802,
        "command.started": 802,
        "call.done": 802,
        "command.completed": 802,
        "playbook.completed": 1,
    }
    assert await violations(database_url) == {}


async def test_sequential_loop_issues_an_iteration_when_the_one_before_has_ended(database: str) -> None:
    async with open_ledger(database) as ledger:
        path = await ledger.register(many(30, "sequential").text)
        execution = await ledger.start(path)
        await ledger.run_workers(lambda item: {"ok": item.step}, workers=8)
        log = [event for event, node, _ in await ledger.log(execution) if node == "many"]
    assert [event for event in log if event in ("command.issued", "command.completed")] == [
        "command.issued",
        "command.completed",
    ] * 30


async def complete(ledger: LedgerHarness, items: Sequence[Notification]) -> None:
    """Finish commands one after the other, each on its own."""
    for item in items:
        await ledger.post(item, "command.completed", "success", {"status": "success"})


async def complete_quickly(ledger: LedgerHarness, items: Sequence[Notification]) -> None:
    """Finish commands of one execution, many in one request."""
    for begin in range(0, len(items), 200):
        part = items[begin : begin + 200]
        events = [
            incoming("command.completed", item.step, "success", {"status": "success", "command_id": item.command_id})
            for item in part
        ]
        await ledger.ledger.ingest(part[0].execution_id, events)


async def started_loop(ledger: LedgerHarness, count: int) -> list[Notification]:
    """The commands of all iterations of a loop that has just begun."""
    path = await ledger.register(many(count).text)
    await ledger.start(path)
    await complete(ledger, [ledger.announcer.queue.get_nowait()])
    return [ledger.announcer.queue.get_nowait() for _ in range(count)]


async def calls_of(action: Callable[[], Any]) -> int:
    """Python and C functions that were called meanwhile: a measure of work without a clock."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        await action()
    finally:
        sys.setprofile(None)
    return count


async def test_work_of_an_event_does_not_grow_with_the_loop(database: str) -> None:
    """P4, in the process."""
    async with open_ledger(database) as ledger:
        items = await started_loop(ledger, 200)
        early = await calls_of(lambda: complete(ledger, items[50 : 50 + AROUND]))
        items = await started_loop(ledger, 2_000)
        await complete_quickly(ledger, items[: -AROUND - 1])
        late = await calls_of(lambda: complete(ledger, items[-AROUND - 1 : -1]))
    assert late <= CALLS_PER_EVENT * early, f"{early / AROUND:.0f} calls per event at first, then {late / AROUND:.0f}"


async def test_rows_read_for_an_event_do_not_grow_with_the_loop(database: str) -> None:
    """P4, in the database."""

    async def total() -> int:
        counted = "SELECT sum(coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0))::bigint FROM pg_stat_user_tables"
        return (await rows(database, counted))[0][0]

    async def rows_read(items: Sequence[Notification]) -> int:
        """By a process that gets to know the execution, finishes these commands and ends."""
        before = await total()
        async with open_ledger(database, machine_id=2) as other:
            await complete(other, items)
        return await total() - before  # closed connections have handed in what they counted

    async def cost(items: Sequence[Notification]) -> float:
        """Rows for each but the first two, without what it takes to get to know the execution."""
        beginning = await rows_read(items[:1])
        return (await rows_read(items[1:]) - beginning) / (len(items) - 2)

    async with open_ledger(database) as ledger:
        items = await started_loop(ledger, 200)
    early = await cost(items[:AROUND])
    async with open_ledger(database) as ledger:
        items = await started_loop(ledger, 2_000)
        await complete_quickly(ledger, items[: -AROUND - 1])
    late = await cost(items[-AROUND - 1 : -1])
    assert late <= ROWS_PER_EVENT * early + 1, f"{early:.1f} rows per event at first, then {late:.1f}"


async def test_work_of_a_step_does_not_grow_with_the_chain(database: str) -> None:
    """P4: the engine looks at the arcs of the step that ended, not at all steps."""
    async with open_ledger(database) as ledger:
        await ledger.start(await ledger.register(chain(300).text))

        async def steps(count: int) -> None:
            for _ in range(count):
                await complete(ledger, [ledger.announcer.queue.get_nowait()])

        await steps(10)
        early = await calls_of(lambda: steps(40))
        await steps(200)
        late = await calls_of(lambda: steps(40))
    assert late <= CALLS_PER_EVENT * early, f"{early / 40:.0f} calls per step at first, then {late / 40:.0f}"


async def test_states_in_memory_stay_within_their_bytes(database: str) -> None:
    """P5: and what was dropped is rebuilt from the log when it is needed again."""
    budget = 300_000
    async with open_ledger(database, limits=LedgerLimits(state_bytes=budget)) as ledger:
        path = await ledger.register(many(100).text)
        executions = [await ledger.start(path) for _ in range(20)]
        sizes: list[int] = []

        def work(item: Notification) -> dict[str, str]:
            sizes.append(ledger.ledger.states.bytes)
            return {"ok": item.step}

        done = await ledger.run_workers(work, workers=16, idle_seconds=2)
        assert done == 102 * len(executions)
        assert max(sizes) <= budget
        assert ledger.ledger.states.evictions > 100
    assert await violations(database) == {}


@pytest.mark.parametrize("shape", ["loop", "chain", "results"])
async def test_states_are_about_as_large_as_they_are_said_to_be(database: str, shape: str) -> None:
    """P5: a bound on bytes that are not there, or are there twice, is none."""
    async with open_ledger(database) as ledger:
        if shape == "chain":
            execution = await ledger.start(await ledger.register(chain(200).text))
            await ledger.run_workers(lambda item: {"text": f"{item.step:x>500}"})
        else:
            items = await started_loop(ledger, 2_000)
            execution = items[0].execution_id
            if shape == "results":
                for number, item in enumerate(items[:-1]):
                    data = {"number": number, "text": f"{number:x>500}"}
                    await ledger.post(
                        item, "call.done", "COMPLETED", {"result": {"status": "success", "context": data}}
                    )
    async with open_ledger(database) as ledger:
        await ledger.start(await ledger.register(many(1).text))  # what every process has is there
        gc.collect()
        tracemalloc.start()
        try:
            entry = await ledger.ledger._shards[0]._loader.load(execution)
            gc.collect()
            measured, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert 0.5 * measured < entry.approximate_bytes < 2 * measured, (entry.approximate_bytes, measured)


async def test_two_processes_without_memory_finish_a_loop_in_the_order_of_its_items(database: str) -> None:
    """I9: whatever is forgotten and rebuilt, the loop keeps its items, and its results keep their order."""
    limits = LedgerLimits(state_bytes=1)
    async with (
        open_ledger(database, machine_id=1, limits=limits) as first,
        open_ledger(database, machine_id=2, limits=limits, announcer=first.announcer) as second,
    ):
        path = await first.register(many(60).text)
        executions = [await first.start(path) for _ in range(2)]
        both = (first, second)

        async def serve(name: str) -> None:
            number = 0
            while True:
                try:
                    item = await asyncio.wait_for(first.announcer.queue.get(), 1)
                except TimeoutError:
                    return
                await both[number % 2].work(item, item.command_id.rpartition(":")[2], name)
                number += 1

        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(serve(f"w{number}"))
    assert await violations(database) == {}
    for execution in executions:
        context = await rows(
            database,
            "SELECT context -> 'render_context' -> 'many' FROM noetl.event"
            " WHERE execution_id = $1 AND event_type = 'command.issued' AND node_name = 'end'",
            execution,
        )
        assert [f'"i{index}"' in context[0][0] for index in range(60)] == [True] * 60
        places = [context[0][0].index(f'"i{index}"') for index in range(60)]
        assert places == sorted(places)
