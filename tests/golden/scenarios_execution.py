"""Executions that are read, cancelled and finalised, whose logs are written into the database (spec 10, section 6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.golden.recording import call
from tests.golden.scenario import query, scenario

if TYPE_CHECKING:
    from tests.golden.recording import Deviation, Step
    from tests.golden.scenario import Scenario

ONE, TWO = 77_100_001, 77_100_002
FIRST = 77_100_000_000_000
RUNNING, COMPLETED, FAILED, CANCELLED, STEPS, ERROR, BARE, CHILD, TIES, TWICE, FRESH, LATER, OTHER = (
    FIRST + number for number in range(13)
)
LIST = "/api/executions"
MISSING = 5555
CONTENT = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: golden, path: golden/reads/one}\nworkflow:\n" + (
    "  - step: start\n    tool: {kind: noop}\n    next: [{step: end}]\n  - step: end\n    tool: {kind: noop}\n"
)
CLEAN = [
    *(
        f"DELETE FROM noetl.{table} WHERE execution_id BETWEEN {FIRST} AND {FIRST + 99}"
        for table in ("command", "event", "execution")
    ),
    f"DELETE FROM noetl.catalog WHERE catalog_id IN ({ONE}, {TWO})",
]


def prepared(*events: str) -> list[str]:
    """What is there before a scenario: two catalog entries and some events."""
    literal = CONTENT.replace("'", "''")
    return [
        *CLEAN,
        "INSERT INTO noetl.catalog (catalog_id, path, version, kind, content) VALUES"
        f" ({ONE}, 'golden/reads/One', 3, 'playbook', '{literal}'),"
        f" ({TWO}, 'golden/reads/two%', 1, 'playbook', '{literal}')",
        *events,
    ]


def event(execution: int, number: int, event_type: str, node: str, status: str | None, **more: Any) -> str:
    """SQL of one event; the number is its id and the second of its time, in a year that is always the newest."""
    columns: dict[str, Any] = {
        "execution_id": execution, "event_id": number, "catalog_id": ONE, "event_type": event_type, "node_id": node,
        "node_name": node, "status": status, "created_at": f"2099-01-01 00:00:{execution % 100:02}.{number:03}", **more,
    }  # fmt: skip
    values = ", ".join("NULL" if value is None else _literal(value) for value in columns.values())
    return f"INSERT INTO noetl.event ({', '.join(columns)}) VALUES ({values})"


def _literal(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "'" + text.replace("'", "''") + "'"


def started(execution: int, **more: Any) -> str:
    return event(execution, 1, "playbook_started", "playbook", "STARTED", **more)


LOGS = [
    started(RUNNING, context={"workload": {"b": 1.50, "a": [2, None]}, "path": "golden"}),
    event(RUNNING, 2, "step.enter", "start", "ENTERED"),
    event(RUNNING, 3, "command.started", "start", "RUNNING"),
    started(COMPLETED, parent_execution_id=77),
    event(COMPLETED, 2, "step.enter", "start", "ENTERED"),
    event(COMPLETED, 3, "command.claimed", "start", "RUNNING"),
    event(COMPLETED, 4, "command.completed", "start", "success", result={"status": "success", "context": {"z": 1}}),
    event(COMPLETED, 5, "step.exit", "start", "COMPLETED"),
    event(COMPLETED, 6, "playbook.completed", "playbook", "COMPLETED"),
    started(FAILED, catalog_id=TWO),
    event(FAILED, 2, "command.failed", "start", "FAILED", error="boom \"é\""),
    event(FAILED, 3, "playbook.failed", "playbook", "FAILED", error="Failed steps: start"),
    started(CANCELLED, catalog_id=TWO),
    event(CANCELLED, 2, "playbook_cancelled", "playbook", "CANCELLED"),
    started(STEPS),
    *(event(STEPS, 2 + number, "step.enter", f"s{number % 3}", "ENTERED") for number in range(5)),
    event(STEPS, 8, "step.exit", "s1", "completed"),
    event(STEPS, 9, "step.exit", "s0", "success"),
    event(STEPS, 10, "command.completed", "s1", "success"),
    event(STEPS, 11, "command.completed", "s2", "error"),
    event(STEPS, 12, "command.claimed", "s2", "STARTED"),
    event(STEPS, 13, "command.claimed", "s9", "other"),
    started(ERROR),
    event(ERROR, 2, "call.error", "start", "failed", error="lower case"),
    event(BARE, 1, "step.enter", "alone", None),
    started(CHILD, parent_execution_id=RUNNING),
    started(TIES),
    event(TIES, 3, "a", "n", None, created_at="2098-01-01 00:00:00"),
    event(TIES, 2, "b", "n", "", created_at="2098-01-01 00:00:01.5"),
    event(TIES, 4, "c", "n", "x", created_at="2098-01-01 00:00:02.123456"),
    event(TWICE, 1, "playbook.initialized", "playbook", "STARTED"),
    event(TWICE, 2, "playbook.completed", "playbook", "COMPLETED"),
    event(TWICE, 3, "playbook_completed", "playbook", "COMPLETED"),
]  # fmt: skip


def bad_ids(tail: str, method: str = "GET", body: str | None = None) -> list[Step]:
    texts = ("abc", "1.5", "%20", "9223372036854775808", "1_0", "%D9%A1", "%ff")
    return [call(method, f"{LIST}/{text}{tail}", body) for text in texts]


def get(target: str, deviation: Deviation | None = None) -> Step:
    return call("GET", target, superset=True, deviation=deviation)


def lists() -> list[Step]:
    negative = (400, "bounds below zero are refused")
    exact = (200, "filters hold for all executions, not only for the newest")
    one = f"catalog_id={ONE}"
    return [
        *(
            get(f"{LIST}?{query}")
            for query in (
                "limit=3", "limit=3&offset=2", "limit=0", "limit=1&offset=1", f"{one}&limit=100", f"{one}&limit=101",
                f"{one}&limit=2&offset=1", f"{one}&offset=100", f"catalog_id={TWO}", "catalog_id=-1", "catalog_id=1",
                f"{one}&status=RUNNING", f"{one}&status=COMPLETED", f"catalog_id={TWO}&status=FAILED",
                f"catalog_id={TWO}&status=CANCELLED", f"{one}&status=completed", f"{one}&status=", "status=bogus",
                f"{one}&path=READS", f"{one}&path=reads/one", f"{one}&path=nope", f"catalog_id={TWO}&path=two%25",
                f"catalog_id={TWO}&path=tw_", f"{one}&path=", "path=golden/reads&limit=4",
                f"{one}&path=one&status=COMPLETED", "%26other=1&limit=1", "LIMIT=0&limit=1", "limit=%2B1", "&&limit=1",
            )
        ),
        *(get(f"{LIST}?{query}", negative) for query in ("limit=-1", "offset=-1", "limit=-2147483648")),
        get(f"{LIST}?limit=1&offset=0&path=two", exact),
        *(
            call("GET", f"{LIST}?{query}")
            for query in (
                "limit=", "limit", "limit=x", "limit=1.0", "limit=+1", "limit=2147483648", "limit=-2147483649",
                "offset=x", "offset=2147483648", "catalog_id=x", "catalog_id=9223372036854775808", "limit=1&limit=2",
                "status=a&status=b", "path=a&path=b", "limit=x&offset=y",
            )
        ),
        *(call(method, LIST) for method in ("POST", "DELETE", "PUT")),
        call("HEAD", f"{LIST}?limit=1"),
        call("GET", f"{LIST}/"),
        call("GET", f"{LIST}/cleanup"),
    ]  # fmt: skip


def one_by_one() -> list[Step]:
    one_rule = (200, "one derivation of the status: only a terminal event ends an execution")
    return [
        *(get(f"{LIST}/{execution}{tail}") for execution in (RUNNING, COMPLETED, CANCELLED, CHILD, TIES, TWICE)
          for tail in ("", "/status", "/cancellation-check")),
        get(f"{LIST}/{FAILED}"),
        get(f"{LIST}/{FAILED}/status"),
        get(f"{LIST}/{FAILED}/cancellation-check"),
        get(f"{LIST}/{STEPS}"),
        get(f"{LIST}/{STEPS}/status"),
        get(f"{LIST}/{ERROR}"),
        get(f"{LIST}/{ERROR}/status"),
        get(f"{LIST}/{BARE}"),
        get(f"{LIST}/{BARE}/status", one_rule),
        *(get(f"{LIST}/{MISSING}{tail}") for tail in ("", "/status", "/cancellation-check")),
        *(get(f"{LIST}/{text}/status") for text in ("+5555", "-1", "0", "007", "%31", "9223372036854775807")),
        get(f"{LIST}/%2B{RUNNING}/cancellation-check"),
        get(f"{LIST}/{RUNNING}?unknown=1"),
        *(step for tail in ("", "/status", "/cancellation-check") for step in bad_ids(tail)),
        *(call("POST", f"{LIST}/{RUNNING}{tail}") for tail in ("", "/status", "/cancellation-check")),
        *(call("HEAD", f"{LIST}/{RUNNING}{tail}") for tail in ("/status", "/cancellation-check")),
        *(call("GET", f"{LIST}/{RUNNING}{tail}") for tail in ("/", "/status/", "/nope", "/cancel", "/finalize")),
    ]  # fmt: skip


def reading() -> Scenario:
    return scenario([*lists(), *one_by_one()], prepared(*LOGS), CLEAN)


def cancelling() -> Scenario:
    rows = query(
        "SELECT execution_id, event_type, node_id, node_name, status, error, catalog_id FROM noetl.event"
        f" WHERE execution_id BETWEEN {FIRST} AND {FIRST + 99}"
        " AND event_type IN ('playbook_cancelled', 'playbook_completed', 'playbook_failed')"
        " ORDER BY execution_id, event_type"
    )
    again = (200, "the same end again is no second row")
    contrary = (422, "an execution ends once")
    cancel = f"{LIST}/%s/cancel"
    finalize = f"{LIST}/%s/finalize"

    def post(target: str, body: str | None = None, deviation: Deviation | None = None) -> Step:
        return call("POST", target, body, superset=True, deviation=deviation)

    return scenario(
        [
            post(cancel % RUNNING),
            get(f"{LIST}/{RUNNING}/status"),
            get(f"{LIST}/{RUNNING}/cancellation-check"),
            post(cancel % RUNNING),
            *(post(cancel % execution) for execution in (COMPLETED, FAILED, CANCELLED, TWICE, MISSING, -1)),
            post(cancel % CHILD, '{"reason":"x","cascade":false}'),
            post(cancel % STEPS, "garbage"),
            call("POST", cancel % FRESH, "[]", content_type="text/plain", superset=True),
            *bad_ids("/cancel", "POST"),
            call("GET", cancel % RUNNING),
            call("DELETE", cancel % RUNNING),
            post(finalize % LATER, '{"status":"COMPLETED"}'),
            get(f"{LIST}/{LATER}/status"),
            post(finalize % OTHER, '{"status":"FAILED","error":"by hand é"}'),
            get(f"{LIST}/{OTHER}/status"),
            rows,
            post(finalize % LATER, '{"status":"COMPLETED","error":null}', again),
            post(finalize % LATER, '{"status":"FAILED"}', contrary),
            post(finalize % CANCELLED, '{"status":"COMPLETED"}', contrary),
            *(
                post(finalize % MISSING, body)
                for body in (
                    '{"status":"COMPLETED"}', '{"status":"completed"}', '{"status":"CANCELLED"}', '{"status":""}', "{}",
                    '{"status":null}', '{"status":5}', '{"status":"FAILED","error":5}', "", "null",
                    '{"status":"FAILED"', '{"status":"FAILED","unknown":1}', '{"error":"x"}',
                )
            ),
            call("POST", finalize % MISSING, "{}", content_type="text/plain"),
            call("POST", finalize % MISSING, '["FAILED"]', deviation=(422, "an array is not taken for an object")),
            *bad_ids("/finalize", "POST", "{}"),
            call("GET", finalize % RUNNING),
        ],
        prepared(*LOGS, started(FRESH), started(LATER), started(OTHER)),
        CLEAN,
    )  # fmt: skip
