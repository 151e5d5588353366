"""The ledger without HTTP on a real PostgreSQL: what our process spends on starts, claims and events.

The gate counts the CPU time of this thread alone, so what PostgreSQL does and how long a commit takes is not in it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from benchmarks.gate import TOLERANCE_OF_BATCHES
from benchmarks.load.playbooks import LOOP, chain, playbook
from noetl.dev.services import EmbeddedPostgres
from noetl.store.migrations import upgrade_url
from tests.integration.ledger_harness import LedgerHarness, incoming, open_ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from benchmarks.conftest import Measure

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

pytestmark = pytest.mark.benchmark(group="ledger")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs coroutines on one event loop, which stands still in between."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.get_loop().run_until_complete


@pytest.fixture(scope="module")
def ledger(run: Run) -> Iterator[LedgerHarness]:
    """A ledger with two playbooks."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-benchmark-"))
    folder.chmod(0o755)  # under root PostgreSQL runs as another user
    stack = AsyncExitStack()

    async def begin() -> LedgerHarness:
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder / "postgres", settings={"fsync": "off"}))
        await upgrade_url(postgres.dsn)
        harness = await stack.enter_async_context(open_ledger(postgres.dsn))
        await harness.register(playbook("bench/chain", chain(5)))
        await harness.register(playbook("bench/loop", LOOP))
        return harness

    try:
        yield run(begin())
        run(stack.aclose())
    finally:
        shutil.rmtree(folder)


def test_chain_of_five_steps(measure: Measure, run: Run, ledger: LedgerHarness) -> None:
    """One client, one thing after the other: the cost of operations that share nothing."""

    async def once() -> None:
        await ledger.start("bench/chain")
        for _ in range(5):
            await ledger.work(await ledger.announcer.queue.get(), {"rows": [1, 2, 3]})

    measure(lambda: run(once()), calls=10, tolerance=TOLERANCE_OF_BATCHES)


def test_parallel_loop_of_fifty(measure: Measure, run: Run, ledger: LedgerHarness) -> None:
    """Sixteen workers at once: the cost of operations that share batches."""

    async def worker() -> None:
        while (item := await ledger.announcer.queue.get()) is not None:
            await ledger.work(item, {"rows": [1, 2, 3]})
            if item.step == "end":
                for _ in range(16):
                    ledger.announcer.queue.put_nowait(None)  # type: ignore[arg-type]

    async def once() -> None:
        await ledger.start("bench/loop", n=50)
        await asyncio.gather(*(worker() for _ in range(16)))

    measure(lambda: run(once()), calls=2, tolerance=TOLERANCE_OF_BATCHES)


def test_a_hundred_events_at_once(measure: Measure, run: Run, ledger: LedgerHarness) -> None:
    """Events that decide nothing, as the published claim sends them."""
    execution_id = run(ledger.start("bench/chain"))
    ledger.announcer.queue.get_nowait()

    async def once() -> None:
        event = [incoming("step.enter", "load_smoke", "ENTERED", {"status": "OK"})]
        await asyncio.gather(*(ledger.ledger.ingest(execution_id, event) for _ in range(100)))

    measure(lambda: run(once()), calls=5, tolerance=TOLERANCE_OF_BATCHES)
