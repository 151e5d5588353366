"""Records how a reference server answers on `/api/internal/*`: refusals, the outbox, the projection of events.

Usage: ``python -m tests.golden.record_internal http://host:port --token TOKEN --database DSN`` writes
``tests/golden/internal/<scenario>.json`` (`tests.golden.scenario`). ``{token}`` stands for the token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden import recording
from tests.golden.scenario import main, query, scenario

if TYPE_CHECKING:
    from tests.golden.recording import Deviation, Step
    from tests.golden.scenario import Scenario

FOLDER = Path(__file__).parent / "internal"
BEARER = "Bearer {token}"
OUTBOX = "/api/internal/outbox"
PROJECT = "/api/internal/events/project"
CALLBACK = "/api/internal/container-callback"
CATALOG_ID = 77_000_001
EXECUTION_ID = 77_000_000_000_001
OTHER_EXECUTION_ID = 77_000_000_000_002
ROW = 9_100_000_000


def call(
    target: str,
    body: str | None = None,
    *,
    method: str = "POST",
    authorization: str | None = BEARER,
    deviation: Deviation | None = None,
) -> Step:
    """One request with the token."""
    return recording.call(method, target, body, authorization=authorization, deviation=deviation)


def authentication() -> list[Step]:
    headers = [
        None, "", "Bearer", "Bearer ", "Basic {token}", "{token}", "Bearer\t{token}", "Bearer x {token}", "Bearer x",
        "Bearer {token}x", "Token {token}", "Bearer caf\u00e9",
    ]  # fmt: skip
    welcome = ["bearer {token}", "BEARER {token}", "Bearer   {token}  ", "  Bearer {token}"]
    return [
        *(call(f"{OUTBOX}/claim", "{", authorization=header) for header in headers),
        *(call(f"{OUTBOX}/claim", "{", authorization=header) for header in welcome),
        *(
            call(target, "{", authorization=None)
            for target in (f"{OUTBOX}/mark-published", f"{OUTBOX}/mark-failed", PROJECT, f"{CALLBACK}/5/a")
        ),
        call(f"{OUTBOX}/pending-count", method="GET", authorization=None),
        call(f"{OUTBOX}/claim", method="GET"),
        call("/api/internal/nope", method="GET"),
        call("/api/internal/outbox/claim/", "{}"),
        call(f"{CALLBACK}/5/", "{}"),
        call(f"{CALLBACK}/5/a/b", "{}"),
    ]


def outbox_refusals() -> list[Step]:
    no_array = (422, "an array is not taken for an object")
    wrap = (200, "no overflow; a row that does not exist is not marked", {"marked": False, "available_at_in": 1})

    def unknown(delay: int) -> Deviation:
        return (200, "a row that does not exist is not marked", {"marked": False, "available_at_in": delay})

    failed = '{"outbox_id":1,"error":"x"%s}'
    return [
        *(
            call(f"{OUTBOX}/claim", body)
            for body in (
                "", "null", '{"limit":null}', '{"limit":"5"}', '{"limit":1.5}', '{"limit":9223372036854775808}',
            )
        ),
        call(f"{OUTBOX}/claim", "[]", deviation=no_array),
        *(
            call(f"{OUTBOX}/mark-published", body)
            for body in (
                "", "{}", '{"outbox_ids":[]}', '{"outbox_ids":null}', '{"outbox_ids":["5"]}', '{"outbox_ids":[1.0]}',
                '{"outbox_ids":[9223372036854775808]}', '{"outbox_ids":[5,5]}',
            )
        ),
        *(
            call(f"{OUTBOX}/mark-failed", body)
            for body in (
                "{}", '{"outbox_id":1}', '{"outbox_id":1,"error":""}', '{"outbox_id":"1","error":"x"}',
                '{"outbox_id":1,"error":null}', failed % ',"attempts":null', failed % ',"attempts":2147483648',
                failed % ',"max_delay_seconds":null', failed % ',"max_delay_seconds":1.5',
                failed % ',"max_delay_seconds":2147483648',
            )
        ),
        *(
            call(f"{OUTBOX}/mark-failed", failed % members, deviation=unknown(delay))
            for members, delay in (
                ("", 1), (',"attempts":-4', 1), (',"attempts":0', 1), (',"attempts":2', 2), (',"attempts":5', 16),
                (',"attempts":9', 256), (',"attempts":20', 256), (',"attempts":20,"max_delay_seconds":60', 60),
                (',"attempts":5,"max_delay_seconds":-7', -7),
            )
        ),
        call(f"{OUTBOX}/mark-failed", failed % ',"attempts":-2147483648', deviation=wrap),
    ]  # fmt: skip


def projection_refusals() -> list[Step]:
    lookup = (422, "the catalog id is looked up, and an event without one is named")
    named = (422, "an event that cannot be stored is named")
    syntactic = [
        "", "{}", '{"events":[]}', '{"events":null}', '{"events":{}}', '{"events":[5]}', '{"events":[{}]}',
    ]  # fmt: skip
    typed = [
        '"event_id":"5"', '"event_id":null', '"event_id":1,"execution_id":"5"', '"event_id":1,"duration":"5"',
        '"event_id":1,"event_type":5', '"event_id":1,"timestamp":"2026-11-23T14:47:12"', '"event_id":1,"timestamp":5',
        '"event_id":1,"trace_component":{}', '"event_id":1,"parent_event_id":"7"',
    ]  # fmt: skip
    invalid = [
        '"catalog_id":"x"', '"catalog_id":1.5', '"catalog_id":true', '"created_at":5', '"created_at":"garbage"',
        '"catalog_id":1', '"result":5', '"result":[]', '"result":{}', '"result":{"status":5}',
        '"result":{"status":"a","other":1}', '"result":{"status":"a","context":[]}',
        '"result":{"status":"a","reference":null}',
    ]  # fmt: skip
    return [
        *(call(PROJECT, body) for body in syntactic),
        *(call(PROJECT, f'{{"events":[{{{members}}}]}}') for members in typed),
        *(call(PROJECT, f'{{"events":[{{"event_id":1,{members}}}]}}', deviation=named) for members in invalid),
        *(
            call(PROJECT, f'{{"events":[{{"event_id":1{members}}}]}}', deviation=lookup)
            for members in ("", ',"catalog_id":null', ',"catalog_id":""', ',"created_at":"","timestamp":null')
        ),
    ]


def callback_refusals() -> list[Step]:
    body = '{"state":"failed","job_name":"j"%s}'
    wrong_type = (422, "null is JSON of a wrong type, not wrong JSON")
    no_map = (422, "a state is a string")
    return [
        *(
            call(f"{CALLBACK}/5/a", text)
            for text in (
                "", "{}", '{"state":"x","job_name":"j"}', '{"state":"Failed","job_name":"j"}', '{"state":"failed"}',
                '{"state":"failed","job_name":null}', body % ',"completed_at":"x"', body % ',"exit_code":2147483648',
                body % ',"exit_code":"1"', body % ',"reason":5', body % "",
                body % ',"completed_at":null,"exit_code":null,"reason":null,"job_uid":null',
                '{"state":"failed_oom","job_name":""}',
            )
        ),
        call(f"{CALLBACK}/5/a", '{"state":null,"job_name":"j"}', deviation=wrong_type),
        call(f"{CALLBACK}/5/a", '{"state":{"failed":null},"job_name":"j"}', deviation=no_map),
        *(
            call(f"{CALLBACK}/{path}", body % "")
            for path in ("abc/a", "5/%20", "%20/%20", "5/a%2Fb", "+5/a", "9223372036854775808/a", "%205/a", "%ff/a")
        ),
        call(f"{CALLBACK}/abc/%20", "{}"),
    ]  # fmt: skip


def outbox() -> Scenario:
    table = "noetl.outbox"
    mine = f"outbox_id > {ROW}"
    state = query(
        "SELECT outbox_id, status, attempts, locked_at IS NULL AS never_locked, length(last_error) AS error_length,"
        " published_at IS NULL AS never_published,"
        " CASE status WHEN 'FAILED' THEN extract(epoch FROM available_at - updated_at)::float END AS pause"
        f" FROM {table} WHERE {mine} ORDER BY outbox_id"
    )
    kept = (200, "a published row stays published", {"marked": False, "available_at_in": 1})
    return {
        "prepare": [
            f"INSERT INTO {table}"
            " (outbox_id, execution_id, event_id, subject, payload, status, available_at, attempts) VALUES"
            f""" ({ROW + 1}, NULL, 1, NULL, '{{"z": [1.0, 1e3, null], "a": "\u00e9"}}', 'PENDING', now(), 0),"""
            f" ({ROW + 2}, 5, 2, 'noetl.events.t', 'null', 'FAILED', now(), 3),"
            f" ({ROW + 3}, 5, 3, '', '\"text\"', 'PENDING', now() + interval '1 hour', 0),"
            f" ({ROW + 4}, 5, 4, 's', '[]', 'PUBLISHED', now(), 1),"
            f" ({ROW + 5}, 5, 5, 's', '5', 'PENDING', now(), 0)"
        ],
        "steps": [
            call(f"{OUTBOX}/pending-count", method="GET"),
            call(f"{OUTBOX}/claim", '{"limit":-3}'),
            call(f"{OUTBOX}/claim", '{"limit":100000,"other":1}'),
            call(f"{OUTBOX}/claim", "{}"),
            call(f"{OUTBOX}/pending-count", method="GET"),
            state,
            call(f"{OUTBOX}/mark-failed", json.dumps({"outbox_id": ROW + 1, "error": "\u00e9" * 2001, "attempts": 3})),
            call(f"{OUTBOX}/mark-published", json.dumps({"outbox_ids": [ROW + 2, ROW + 2, ROW + 3, ROW + 99]})),
            call(f"{OUTBOX}/mark-published", json.dumps({"outbox_ids": [ROW + 2]})),
            state,
            {"execute": f"UPDATE {table} SET available_at = now() WHERE outbox_id = {ROW + 1}"},
            call(f"{OUTBOX}/claim", "{}"),
            call(f"{OUTBOX}/mark-published", json.dumps({"outbox_ids": [ROW + 1]})),
            state,
            call(f"{OUTBOX}/mark-failed", json.dumps({"outbox_id": ROW + 4, "error": "late"}), deviation=kept),
        ],
        "clean": [f"DELETE FROM {table} WHERE {mine}"],
    }


def projection() -> Scenario:
    full = {
        "event_id": 11, "execution_id": EXECUTION_ID, "catalog_id": str(CATALOG_ID), "parent_event_id": 10,
        "event_type": "call.done", "node_id": "n", "node_name": "step", "node_type": "python", "status": "COMPLETED",
        "duration": 3, "context": {"password": "kept"}, "result": {"status": "a", "context": {"token": "kept"}},
        "meta": [1, "two"], "error": "e", "stack_trace": "t", "timestamp": "2026-11-23T14:47:12.123456+02:00",
        "created_at": "2020-01-01T00:00:00", "tenant_id": "acme", "organization_id": "", "trace_component": "x",
        "unknown": {"a": 1},
    }  # fmt: skip
    minimal = {
        "event_id": 12, "execution_id": EXECUTION_ID, "catalog_id": CATALOG_ID, "created_at": "2026-11-23 14:47:12.5",
    }  # fmt: skip
    nulls = {
        **dict.fromkeys(full), "event_id": 13, "execution_id": EXECUTION_ID, "catalog_id": CATALOG_ID,
        "created_at": "2026-11-23",
    }  # fmt: skip
    other = {**minimal, "execution_id": OTHER_EXECUTION_ID}
    broken = {**minimal, "event_id": 15, "result": {"other": 1}}
    clean = [
        f"DELETE FROM noetl.event WHERE execution_id IN ({EXECUTION_ID}, {OTHER_EXECUTION_ID})",
        f"DELETE FROM noetl.catalog WHERE catalog_id = {CATALOG_ID}",
    ]
    return {
        "prepare": [
            "INSERT INTO noetl.catalog (catalog_id, path, version, kind)"
            f" VALUES ({CATALOG_ID}, 'golden/internal', 1, 'playbook')"
        ],
        "steps": [
            call(PROJECT, json.dumps({"events": [full, minimal, minimal, nulls]})),
            call(PROJECT, json.dumps({"events": [{**full, "status": "changed"}, other]})),
            call(
                PROJECT,
                json.dumps({"events": [{**minimal, "event_id": 14}, broken]}),
                deviation=(422, "an event that cannot be stored is named"),
            ),
            query(
                "SELECT execution_id, event_id, catalog_id, parent_event_id, event_type, node_id, node_name, node_type,"
                " status, duration, context, result, meta, error, stack_trace, created_at, tenant_id, organization_id"
                f" FROM noetl.event WHERE execution_id IN ({EXECUTION_ID}, {OTHER_EXECUTION_ID}) ORDER BY 1, 2"
            ),
        ],
        "clean": clean,
    }


SCENARIOS = {
    "authentication": lambda: scenario(authentication()),
    "refusals": lambda: scenario([*outbox_refusals(), *projection_refusals(), *callback_refusals()]),
    "outbox": outbox,
    "projection": projection,
}


if __name__ == "__main__":
    main(FOLDER, SCENARIOS)
