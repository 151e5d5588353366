"""The gate of the rebuilds: so many at once, and in so many bytes."""

from __future__ import annotations

import asyncio

from noetl.ledger.load_gate import LoadGate


async def test_only_the_oldest_reads_on_while_all_hold_too_much() -> None:
    gate = LoadGate(parallel=3, budget=100)
    order: list[str] = []
    may_end = asyncio.Event()

    async def load(number: int, size: int) -> None:
        async with gate.enter(number):
            await gate.hold(number, size)
            order.append(f"{number} reads on")
            if number == 1:
                await may_end.wait()
        order.append(f"{number} ends")

    async with asyncio.TaskGroup() as tasks:
        for number, size in ((1, 80), (2, 80), (3, 10), (4, 10)):
            tasks.create_task(load(number, size))
        for _ in range(20):
            await asyncio.sleep(0)
        assert order == ["1 reads on"]
        may_end.set()
    assert order[1] == "1 ends"
    assert sorted(order[2:]) == sorted(f"{number} {what}" for number in (2, 3, 4) for what in ("reads on", "ends"))


async def test_a_cancelled_load_gives_back_its_place_and_its_bytes() -> None:
    gate = LoadGate(parallel=1, budget=10)

    async def load(number: int) -> None:
        async with gate.enter(number):
            await gate.hold(number, 100)
            await asyncio.Event().wait()

    first = asyncio.create_task(load(1))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    async with asyncio.timeout(1), gate.enter(2):
        await gate.hold(2, 100)
