"""The checker finds each kind of broken history, and nothing in a good one."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from noetl.errors import DatabaseError, DatabaseUnavailableError
from noetl.http.middleware import ErrorResponses
from noetl.ledger.items import StartExecution
from tests.faults.campaign import defects
from tests.faults.checker import HISTORY_RULES, MODEL_RULES, PUNCTUAL_RULES, RULES, check_on
from tests.faults.history import History
from tests.faults.workflows import MIXED
from tests.integration.ledger_harness import open_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase
    from tests.faults.workflows import Workflow
    from tests.integration.ledger_harness import LedgerHarness

ANOTHER = 1_000_000
"""Added to the id of a row that is there twice."""
COLUMNS = (
    "catalog_id, node_name, node_type, status, context, result, meta, error, worker_id, created_at, ingest_time,"
    " parent_execution_id"
)


@dataclass
class Play:
    """Two executions, one of them the other's child, as they must be, and what their clients were told."""

    url: str
    parent: int
    child: int
    plans: dict[int, Workflow]
    history: History


@pytest.fixture(scope="module")
async def play(make_database: MakeDatabase, schema_template: str) -> Play:
    url = await make_database(schema_template)
    by_path = {workflow.path: workflow for workflow in MIXED}
    history = History()
    async with open_ledger(url) as ledger:
        for path in ("faults/chain", "faults/parent"):
            await ledger.register(by_path[path].text)
        parent = await _start(ledger, history, "faults/parent", None)
        waiting = ledger.announcer.queue.get_nowait()
        await ledger.claim(waiting)
        child = await _start(ledger, history, "faults/chain", parent)
        await _play(ledger, history)
        history.stored(parent, await ledger.post(waiting, "command.completed", "success", {"status": "success"}, 77))
        await _play(ledger, history)
    plans = {parent: by_path["faults/parent"], child: by_path["faults/chain"]}
    return Play(url, parent, child, plans, history)


async def _start(ledger: LedgerHarness, history: History, path: str, parent: int | None) -> int:
    request = StartExecution(path=path, parent_execution_id=parent, idempotency_key=path)
    execution_id = (await ledger.ledger.start(request)).execution_id
    history.started(path, execution_id)
    return execution_id


async def _play(ledger: LedgerHarness, history: History) -> None:
    while not ledger.announcer.queue.empty():
        item = ledger.announcer.queue.get_nowait()
        context = await ledger.claim(item)
        history.claimed(item.execution_id, item.event_id, "w1")
        data = {"status": "success", "data": {"n": (context["tool_config"].get("args", {}).get("n") or 0) + 1}}
        result = {"status": "success", "context": data}
        await ledger.post(item, "call.done", "COMPLETED", {"call_index": 0, "result": result})
        await ledger.post(item, "command.completed", "success", {"status": "success"})


@pytest.fixture
async def database(play: Play) -> AsyncIterator[Any]:
    """The good database, inside a transaction that is rolled back."""
    connection: Any = await asyncpg.connect(play.url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def broken_rules(database: Any, play: Play, history: History) -> dict[str, list[Any]]:
    check = await check_on(database, [play.parent, play.child])
    await check.log()
    await check.models(play.plans, history.cancels)
    await check.history(history)
    return check.broken


def repeated(event: str, condition: str, *, worker: str = "", later: bool = False) -> str:
    """SQL that writes an event of the child once more, perhaps by another worker or behind all others."""
    place = "nextval('noetl.event_log_position_seq')" if later else "log_position"
    columns = COLUMNS.replace("worker_id", f"'{worker}'") if worker else COLUMNS
    return (
        f"INSERT INTO noetl.event (execution_id, event_id, event_type, log_position, {COLUMNS})"
        f" SELECT execution_id, event_id + {ANOTHER}, event_type, {place}, {columns} FROM noetl.event"
        f" WHERE event_type = '{event}' AND execution_id = $1 {condition}"
    )


BREAKAGES = {
    "an execution without exactly one terminal event": repeated("playbook.completed", "", later=True),
    "a decision after the terminal event": repeated("step.enter", "AND node_name = 'a'", later=True),
    "a step or iteration that was issued twice": repeated("command.issued", "AND node_name = 'b'"),
    "a step that was entered twice": repeated("step.enter", "AND node_name = 'b'"),
    "a command that a worker completed more often than it was given it": repeated(
        "command.completed", "AND node_name = 'b'"
    ),
    "a command that was given away while its owner had it": (
        repeated("command.claimed", "AND node_name = 'b'", worker="w2", later=True)
    ),
    "a command that is still open": (
        "UPDATE noetl.command SET status = 'RUNNING' WHERE execution_id = $1 AND step_name = 'c'"
    ),
    "a command without its event, or an event without its command": (
        "DELETE FROM noetl.command WHERE execution_id = $1 AND step_name = 'c'"
    ),
    "an execution whose row disagrees with its log": (
        "UPDATE noetl.execution SET status = 'FAILED' WHERE execution_id = $1"
    ),
    "a parent that went on before its child had ended": (
        "UPDATE noetl.event SET log_position = -1 WHERE event_type = 'step.enter' AND execution_id <> $1"
    ),
    "two executions under one idempotency key": (
        "ALTER TABLE noetl.execute_idempotency DROP CONSTRAINT execute_idempotency_pkey;"
        " INSERT INTO noetl.execute_idempotency VALUES ('faults/chain', 1, 1)"
    ),
    "two events at one place of a log": (
        "UPDATE noetl.event SET log_position = (SELECT min(log_position) FROM noetl.event WHERE execution_id = $1)"
        " WHERE execution_id = $1 AND event_type = 'call.done' AND node_name = 'a'"
    ),
    "a command that was completed twice by its own events": (
        repeated("command.completed", "AND node_name = 'b'", worker="w2")
    ),
    "an execution whose last event is not its end": repeated("call.done", "AND node_name = 'a'", later=True),
    "an acknowledged event that is not stored exactly once": "DELETE FROM noetl.event WHERE event_id = 77",
    "an acknowledged claim that is not in the log": (
        "DELETE FROM noetl.event WHERE execution_id = $1 AND event_type = 'command.claimed' AND node_name = 'a'"
    ),
    "an acknowledged start that began no execution, or not only one": (
        "DELETE FROM noetl.execution WHERE execution_id = $1"
    ),
    "a step that was not given the commands of its workflow": (
        "UPDATE noetl.event SET node_name = 'x' WHERE execution_id = $1 AND node_name = 'b'"
    ),
    "a step that is not of its workflow": (
        "UPDATE noetl.event SET node_name = 'x' WHERE execution_id = $1 AND node_name = 'b'"
    ),
    "a step that was given other values": (
        "UPDATE noetl.command SET context = jsonb_set(context, '{tool_config,args,n}', '5')"
        " WHERE execution_id = $1 AND step_name = 'end'"
    ),
    "an execution that ended otherwise": "UPDATE noetl.execution SET status = 'FAILED' WHERE execution_id = $1",
    "a parent that did not start exactly one child": (
        "UPDATE noetl.execution SET parent_execution_id = NULL WHERE execution_id = $1"
    ),
}
"""How each rule is broken, in a database where all hold; $1 is the child."""
TOLD = {
    "an acknowledged cancel of an execution that did not end by it": ("cancelled",),
    "a client that was refused": ("refused", 409, "POST /api/events"),
}
"""Rules that are broken by what a client says it was told."""


async def test_good_history_breaks_no_rule(database: Any, play: Play) -> None:
    assert await broken_rules(database, play, play.history) == {}


@pytest.mark.parametrize("rule", BREAKAGES)
async def test_broken_log_is_found(database: Any, play: Play, rule: str) -> None:
    for statement in BREAKAGES[rule].split(";"):
        await database.execute(statement, *([play.child] if "$1" in statement else []))
    assert rule in await broken_rules(database, play, play.history)


@pytest.mark.parametrize("rule", TOLD)
async def test_broken_promise_is_found(database: Any, play: Play, rule: str) -> None:
    history = copy.deepcopy(play.history)
    method, *arguments = TOLD[rule]
    getattr(history, method)(*arguments, play.child)
    assert rule in await broken_rules(database, play, history)


def test_every_rule_is_broken_here() -> None:
    rules = {*RULES, *PUNCTUAL_RULES, *HISTORY_RULES, *MODEL_RULES, "a client that was refused"}
    assert {*BREAKAGES, *TOLD} == rules


def test_defect_of_a_server_is_found_in_its_log(caplog: pytest.LogCaptureFixture) -> None:
    errors = ErrorResponses(debug=False)
    errors.of(DatabaseUnavailableError("Database error: the database is unreachable"), {}, "GET", "/")
    errors.of(DatabaseError("Database error"), {}, "GET", "/")
    assert caplog.records, "an outage is logged, and is none"
    assert defects(caplog.text) == []
    errors.of(ZeroDivisionError(), {}, "GET", "/")
    assert len(defects(caplog.text)) == 1
