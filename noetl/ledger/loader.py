"""Rebuilding an execution's state from the log, in pages, once for all who wait for it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from noetl.engine.state import ExecutionState
from noetl.errors import NotFoundError
from noetl.ledger.cache import ByteBoundedCache, ExecutionEntry
from noetl.ledger.load_gate import LoadGate
from noetl.store.pages import rows_of_next_page

if TYPE_CHECKING:
    from noetl.ledger.playbooks import Playbooks
    from noetl.store.database import Database
    from noetl.store.events import EventStore

FIRST_PAGE_ROWS: Final = 64
HIGHEST_PAGE_ROWS: Final = 2_000
"""Events read and folded between two chances for other work on the loop."""
PARALLEL_LOADS: Final = 4
"""States that are rebuilt at once; more would only take the connections and the loop from those who are served."""
_SMALLEST_ID: Final = -(2**63)


class StateLoader:
    """Fills the cache of execution states."""

    def __init__(
        self,
        database: Database,
        event_store: EventStore,
        playbooks: Playbooks,
        cache: ByteBoundedCache[int, ExecutionEntry],
        *,
        load_bytes: int | None = None,
        repair_loop_results: bool = True,
    ) -> None:
        """``load_bytes`` bounds what loads hold together, as much as the cache does by default.

        ``repair_loop_results`` False keeps loop results as the reference does (NOETL_LOOP_RESULTS).
        """
        self._database = database
        self._event_store = event_store
        self._playbooks = playbooks
        self._cache = cache
        self._repair_loop_results = repair_loop_results
        self._loading: dict[int, asyncio.Task[ExecutionEntry]] = {}
        self._gate = LoadGate(PARALLEL_LOADS, load_bytes or cache.budget)

    async def load(self, execution_id: int) -> ExecutionEntry:
        """The execution's entry, from the cache or the log.

        Raises:
            NotFoundError: it has no events.
            DatabaseUnavailableError: the log cannot be read now.
        """
        entry = self._cache.peek(execution_id)
        if entry is not None:
            return entry
        task = self._loading.get(execution_id)
        if task is None:
            task = asyncio.create_task(self._load(execution_id))
            self._loading[execution_id] = task
            task.add_done_callback(lambda _: self._loading.pop(execution_id, None))
        # One waiter that gives up must not take the load away from the others.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the loads that are under way."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _load(self, execution_id: int) -> ExecutionEntry:
        async with self._gate.enter(execution_id):
            return await self._rebuild(execution_id)

    async def _rebuild(self, execution_id: int) -> ExecutionEntry:
        state: ExecutionState | None = None
        position, event_id, rows = 0, _SMALLEST_ID, FIRST_PAGE_ROWS
        while True:
            page = await self._database.read_one(
                partial(self._event_store.page, execution_id, position, event_id, rows)
            )
            await self._gate.hold(execution_id, page.size + (0 if state is None else state.approximate_bytes))
            for event in page:
                if state is None:
                    state = ExecutionState(
                        execution_id, event.catalog_id or 0, repair_loop_results=self._repair_loop_results
                    )
                state.apply(event)
                state.cursor = max(state.cursor, event.log_position)
                position, event_id = event.log_position, event.event_id
            if state is None or len(page) < rows:
                break
            rows = rows_of_next_page(len(page), page.size, HIGHEST_PAGE_ROWS)
            del page  # the next one is read without this one in memory
            await self._gate.hold(execution_id, state.approximate_bytes)
        if state is None:
            raise NotFoundError(f"Execution not found: {execution_id}")
        playbook = await self._playbooks.get(state.catalog_id)
        present = self._cache.peek(execution_id)
        if present is not None:
            return present
        entry = ExecutionEntry(state, playbook)
        self._cache.put(execution_id, entry, entry.approximate_bytes, is_spent=entry.is_spent)
        return entry
