"""The hot routes without a socket and without a ledger: decoding, redacting, shaping, encoding, and the whole way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from blacksheep import Content, Request

from noetl.http.application import HttpApplication
from noetl.http.commands import CommandRoutes
from noetl.http.events import EventRoutes
from noetl.http.executions_start import ExecuteRoutes
from noetl.ledger.items import CommandView, StartedExecution
from noetl.observability.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from benchmarks.conftest import Measure
    from noetl.ledger.items import IncomingEvent, StartExecution

pytestmark = pytest.mark.benchmark(group="requests")

EXECUTION_ID = 383267245008121856
EVENT_ID = 383267245050064896
COMMAND_ID = f"{EXECUTION_ID}:start:{EVENT_ID}"
ROWS = [{"id": number, "name": f"row {number}", "city": "Zürich", "note": "line\nbreak"} for number in range(20)]
COMPLETED = {
    "step": "start",
    "name": "call.done",
    "payload": {
        "command_id": COMMAND_ID,
        "call_index": 0,
        "result": {"status": "success", "context": {"rows": ROWS, "password": "x"}},
    },
    "meta": {"attempts": 1, "source": "worker"},
    "worker_id": "worker-7d9c6b5f4d",
}
BODIES: dict[str, Any] = {
    "events": {"execution_id": str(EXECUTION_ID), **COMPLETED},
    "batch": {
        "execution_id": str(EXECUTION_ID),
        "worker_id": "worker-7d9c6b5f4d",
        "events": [{key: value for key, value in COMPLETED.items() if key != "worker_id"}] * 10,
    },
    "claim": {"worker_id": "worker-7d9c6b5f4d"},
    "execute": {"path": "bench/chain5", "payload": {"n": 5, "rows": ROWS}},
}
VIEW = CommandView(
    EXECUTION_ID,
    EVENT_ID,
    "start",
    "python",
    orjson.dumps({"tool_config": {"kind": "noop"}, "args": {}, "render_context": {"workload": {"rows": ROWS}}}),
    orjson.dumps({"command_id": COMMAND_ID, "attempt": 1}),
)


class InstantLedger:
    """Has done everything already."""

    async def ingest(self, execution_id: int, events: list[IncomingEvent]) -> list[int]:
        """One id for each event."""
        return [EVENT_ID] * len(events)

    async def claim(self, event_id: int, worker_id: str) -> CommandView:
        """The same command for everybody."""
        return VIEW

    command = claim

    async def start(self, start: StartExecution) -> StartedExecution:
        """The same execution for everybody."""
        return StartedExecution(EXECUTION_ID, 1)


def routes() -> dict[str, Callable[[Request], Awaitable[Any]]]:
    """The handlers by the name of their body."""
    ledger: Any = InstantLedger()
    events = EventRoutes(ledger)
    return {
        "events": events.ingest,
        "batch": events.ingest_batch,
        "claim": CommandRoutes(ledger).claim,
        "execute": ExecuteRoutes(ledger).execute,
    }


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


@pytest.mark.parametrize("route", BODIES)
def test_decode_and_encode(measure: Measure, route: str) -> None:
    handler: Any = routes()[route]
    request = Request("POST", b"/", [(b"content-type", b"application/json")])
    request.content = Content(b"application/json", orjson.dumps(BODIES[route]))
    request.route_values = {"event_id": str(EVENT_ID)}  # type: ignore[assignment]
    assert measure(lambda: finish(handler(request))).status == 200


def test_whole_application(measure: Measure) -> None:
    """Routing, request id, limits, body, handler, headers, metrics, answer."""
    application = HttpApplication(observer=Metrics("1"))
    EventRoutes(InstantLedger()).register(application)
    body = orjson.dumps(BODIES["events"])
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/events",
        "raw_path": b"/api/events",
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1:8082"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    measure(lambda: finish(application(scope, receive, send)))
    assert set(statuses) == {200}
