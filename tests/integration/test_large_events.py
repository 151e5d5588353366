"""Executions whose events are large are read with few of them in memory at a time (promise P5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from blacksheep import Request, StreamedContent

from noetl.http.executions import ExecutionRoutes
from noetl.ledger.cache import ByteBoundedCache
from noetl.ledger.loader import FIRST_PAGE_ROWS, StateLoader
from noetl.ledger.playbooks import Playbooks
from noetl.store.catalog import CatalogStore
from noetl.store.events import EventStore
from noetl.store.executions import FIRST_EVENT_ROWS, DetailPage, ExecutionStore
from noetl.store.pages import PAGE_BYTES
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.http.executions import ExecutionLedger
    from noetl.store.connection import Connection
    from noetl.store.database import Database
    from noetl.store.events import EventPage
    from tests.conftest import MakeDatabase

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: large, path: large}
workflow:
  - step: start
    tool: {kind: noop}
"""
ROWS = 100
EXECUTION = 7


@pytest.fixture
async def database(make_database: MakeDatabase, schema_template: str) -> AsyncIterator[Database]:
    """A started execution, with as many results of a quarter of a page each."""
    async with open_ledger(await make_database(schema_template)) as ledger:
        await ledger.register(PLAYBOOK)
        await ledger.database.execute(
            """INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, node_name, status, result)
                SELECT $1::bigint, number, catalog_id,
                    CASE number WHEN 0 THEN 'playbook_started' ELSE 'call.done' END, 'start', 'COMPLETED',
                    CASE WHEN number > 0 THEN
                        jsonb_build_object('status', 'success', 'context', jsonb_build_object('t', repeat('x', $3)))
                    END
                FROM noetl.catalog, generate_series(0, $2::int) AS number""",
            EXECUTION, ROWS, PAGE_BYTES // 4,
        )  # fmt: skip
        yield ledger.database


class _Pages(EventStore):
    """Keeps what was asked for and how large it was."""

    def __init__(self, schema: str) -> None:
        super().__init__(schema)
        self.read: list[tuple[int, int]] = []

    async def page(
        self, execution_id: int, after_position: int, after_event_id: int, limit: int, connection: Connection
    ) -> EventPage:
        page = await super().page(execution_id, after_position, after_event_id, limit, connection)
        self.read.append((limit, page.size))
        return page


async def test_a_state_is_rebuilt_from_pages_of_bounded_size(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = _Pages(database.quoted_schema)
    loader = StateLoader(database, pages, Playbooks(CatalogStore(database), 2**20), ByteBoundedCache(2**20))
    held: list[int] = []

    async def hold(execution_id: int, size: int) -> None:
        held.append(size)

    monkeypatch.setattr(loader._gate, "hold", hold)
    entry = await loader.load(EXECUTION)
    (first, size), *others = pages.read
    assert first == FIRST_PAGE_ROWS
    assert all(size < 2 * PAGE_BYTES for _, size in others)
    assert held[0] == size  # what is about to be folded is counted too
    assert entry.state.cursor == await database.fetchval("SELECT max(log_position) FROM noetl.event")


async def test_a_detail_is_read_in_pages_of_bounded_size(database: Database) -> None:
    store = ExecutionStore(database)
    detail = await store.detail(EXECUTION, DetailPage(limit=500, offset=0))
    assert detail is not None
    assert (detail.total, detail.order) == (ROWS + 1, list(range(ROWS, -1, -1)))
    pages = [page async for page in store.events(EXECUTION, detail)]
    assert [row.event_id for page in pages for row in page] == detail.order
    assert len(pages[0]) == FIRST_EVENT_ROWS
    assert all(sum(len(row.result or "") for row in page) < 2 * PAGE_BYTES for page in pages[1:])


async def test_a_page_of_the_detail_is_sent_while_it_is_read(database: Database) -> None:
    routes = ExecutionRoutes(ExecutionStore(database), cast("ExecutionLedger", None))
    request = Request("GET", b"/", [])
    request.scope = cast("Any", {"query_string": b"page_size=500"})
    request.route_values = {"execution_id": str(EXECUTION)}
    response = await routes.detail(request)
    assert isinstance(response.content, StreamedContent)
    answer = orjson.loads(b"".join([part async for part in response.content.get_parts()]))
    assert [event["event_id"] for event in answer["events"]] == list(range(ROWS, -1, -1))
    assert answer["pagination"]["total_events"] == ROWS + 1
