"""Records how a reference server replays event logs.

Usage: ``python tests/golden/record_replay.py http://host:port --database DSN`` writes
``tests/golden/replay/<group>.json``: a list of ``{"name", "execution_id", "events", "answers"}``, whose events are rows
of the log as the database holds them, and whose answers are ``{"query", "status", "body"}``, the body byte for byte
as it came (``text`` where it is not JSON).

The rows are written by SQL under execution ids that no server mints, and removed at the end; those of group
``executed`` come from a playbook that was run through the API. What the reference cannot replay (a NULL status, ids in
the columns ``stage_id`` and ``frame_id``) is stored for its sake in the equal form that it can: an empty status, ids
in ``meta``.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import asyncpg

from tests.golden.replay_logs import Log, event, numbered, random_log, refers, rules

FOLDER = Path(__file__).parent / "replay"
FIRST_EXECUTION_ID = 78_000_000_000_000
START = datetime(2026, 1, 1)
PATH = "golden/replay"
PLAYBOOK = f"""
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: replay, path: {PATH}}}
workload: {{items: [1, 2, 3]}}
workflow:
  - step: start
    tool: {{kind: noop}}
    next: {{arcs: [{{step: each}}]}}
  - step: each
    loop: {{in: "{{{{ workload.items }}}}", iterator: item}}
    tool: {{kind: noop, input: {{n: "{{{{ item }}}}"}}}}
    next: {{arcs: [{{step: end}}]}}
  - step: end
    tool: {{kind: noop}}
"""
STEP_BY_STEP = {"stage_life", "frame_life", "object_life", "terminal_then_terminal"}
"""Logs whose state is asked for after every event."""
COLUMNS = [
    "event_id", "event_type", "node_name", "status", "created_at", "stage_id", "frame_id", "command_id", "worker_id",
    "aggregate_type", "aggregate_id", "meta", "result",
]  # fmt: skip


class Recorder:
    """One connection to each of the reference's two doors."""

    def __init__(self, url: str, database: Any) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "", address.port or 80
        self.database = database
        self._next_execution_id = FIRST_EXECUTION_ID
        self._catalog_id = 0

    def ask(self, target: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        content = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", target, content, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.status, response.read().decode()
        connection.close()
        return answer

    def replayed(self, query: str) -> dict[str, Any]:
        status, text = self.ask(f"/api/replay/state?{query}")
        return {"query": query, "status": status, ("body" if text.startswith("{") else "text"): text}

    async def prepare(self) -> None:
        status, text = self.ask("/api/catalog/register", {"content": PLAYBOOK})
        assert status == 200, text
        self._catalog_id = int(json.loads(text)["catalog_id"])
        await self.clean()

    async def clean(self) -> None:
        await self.database.execute(
            "DELETE FROM noetl.event WHERE execution_id BETWEEN $1 AND $2",
            FIRST_EXECUTION_ID,
            FIRST_EXECUTION_ID + 9999,
        )

    async def write(self, execution_id: int, log: Log) -> None:
        for place, entry in enumerate(log):
            values = {"created_at": START + timedelta(seconds=place), **entry}
            for column in ("meta", "result"):
                if column in values:
                    values[column] = json.dumps(values[column])
            names = list(values)
            places = ", ".join(f"${number}" for number in range(3, len(names) + 3))
            await self.database.execute(
                f"INSERT INTO noetl.event (execution_id, catalog_id, {', '.join(names)}) VALUES ($1, $2, {places})",
                execution_id, self._catalog_id, *values.values(),
            )  # fmt: skip

    async def rows(self, execution_id: int) -> list[dict[str, Any]]:
        records = await self.database.fetch(
            f"SELECT {', '.join(COLUMNS)} FROM noetl.event WHERE execution_id = $1 ORDER BY event_id", execution_id
        )
        return [{name: value for name, value in record.items() if value is not None} for record in records]

    async def case(self, name: str, log: Log, queries: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        execution_id = self._next_execution_id
        self._next_execution_id += 1
        await self.write(execution_id, log)
        events = await self.rows(execution_id)
        acceptable = [acceptable_to_the_reference(entry) for entry in log]
        if acceptable != log:
            await self.database.execute("DELETE FROM noetl.event WHERE execution_id = $1", execution_id)
            await self.write(execution_id, acceptable)
        answers = [self.replayed(urlencode({"execution_id": execution_id, **query})) for query in (queries or [{}])]
        return {"name": name, "execution_id": execution_id, "events": events, "answers": answers}

    def _post(self, body: dict[str, Any]) -> None:
        status, text = self.ask("/api/events", body)
        assert status == 200, text

    def _run(self, execution_id: int, event_id: int) -> None:
        """What a worker tells about a command."""
        status, text = self.ask(f"/api/commands/{event_id}/claim", {"worker_id": "recorder"})
        assert status == 200, text
        command = json.loads(text)
        context = {"command_id": command["meta"]["command_id"], "worker_id": "recorder"}
        base = {"execution_id": execution_id, "step": command["node_name"], "worker_id": "recorder"}
        self._post({**base, "event_type": "command.started", "status": "RUNNING", "context": context})
        outcome = {**context, "status": "success", "result": {"ok": True}}
        self._post({**base, "event_type": "command.completed", "status": "success", "context": outcome})

    async def executed(self) -> list[dict[str, Any]]:
        """A playbook whose commands the recorder claims and completes, and other events that clients may post."""
        status, text = self.ask("/api/execute", {"path": PATH, "payload": {}})
        assert status == 200, text
        execution_id = int(json.loads(text)["execution_id"])
        issued = "SELECT event_id FROM noetl.event WHERE execution_id = $1 AND event_type = 'command.issued' ORDER BY 1"
        done: set[int] = set()
        while todo := {record["event_id"] for record in await self.database.fetch(issued, execution_id)} - done:
            for event_id in sorted(todo):
                self._run(execution_id, event_id)
            done |= todo
        post = {"execution_id": execution_id, "step": "each"}
        for extra in (
            {"event_type": "stage.opened", "meta": {"stage_id": "s", "kind": "fanout"}},
            {"event_type": "frame.dispatched", "meta": {"stage_id": "s", "frame_id": "f"}},
            {"event_type": "frame.committed", "meta": {"stage_id": "s", "frame_id": "f", "row_count": 3},
             "result_kind": "ref", "result_uri": "gs://bucket/rows"},
            {"event_type": "order.created", "status": "", "meta": {"business_object": {"type": "order", "id": 5}},
             "result_kind": "refs", "event_ids": [1, 2]},
        ):  # fmt: skip
            self._post({**post, **extra})
        answers = [self.replayed(f"execution_id={execution_id}")]
        return [
            {
                "name": "commands of a playbook",
                "execution_id": execution_id,
                "events": await self.rows(execution_id),
                "answers": answers,
            }
        ]


def acceptable_to_the_reference(entry: dict[str, Any]) -> dict[str, Any]:
    """The same event without what the reference answers 500 to."""
    entry = {**entry}
    if entry.get("status") is None:
        entry["status"] = ""
    for column in ("stage_id", "frame_id"):
        if (value := entry.pop(column, None)) is not None:
            entry["meta"] = {**entry.get("meta", {}), column: str(value)}
    return entry


def prefixes(log: Log) -> list[dict[str, Any]]:
    return [{}, *({"as_of_event_id": entry["event_id"]} for entry in log)]


async def cutoffs(recorder: Recorder) -> list[dict[str, Any]]:
    log = numbered([event("step.enter", node_name=f"n{index}", result=refers({"n": index})) for index in range(6)])
    log[3]["created_at"] = START + timedelta(seconds=1, microseconds=500_000)  # earlier than its predecessor
    queries: list[dict[str, Any]] = [
        {"as_of_event_id": 3}, {"as_of_position": 3}, {"as_of_event_id": 0}, {"as_of_event_id": -(2**63)},
        {"as_of_event_id": 2**63 - 1}, {"limit": 2}, {"limit": 0}, {"limit": -5}, {"limit": 100_001}, {"limit": 6},
        {"limit": 2, "as_of_event_id": 4}, {"tenant_id": "", "organization_id": "x y", "projection": "loop"},
        {"tenant_id": 'ü"\n', "resolve_payloads": "true"}, {"projection": "execution", "unknown": 1},
        *({"as_of_time": time} for time in (
            "2026-01-01T00:00:02Z", "2026-01-01T00:00:01.999999Z", "2026-01-01t00:00:02z", "2026-01-01 00:00:02 UTC",
            "2026-01-01T02:00:02+02:00", "2025-12-31T22:00:02-0200", "2026-1-1T0:00:02Z",
            " 2026-01-01T00:00:02.000000999Z",
            "2026-01-01T00:00:01.5Z", "2026-01-01T00:00:01.499999Z", "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z",
        )),
    ]  # fmt: skip
    return [await recorder.case("cutoffs", log, queries)]


def refused(recorder: Recorder) -> list[dict[str, Any]]:
    queries = [
        "", "execution_id=", "execution_id=x", "execution_id=1.0", "execution_id=9223372036854775808",
        "execution_id=1&execution_id=1", "EXECUTION_ID=1", "execution_id=1&limit=x", "execution_id=1&limit=",
        "execution_id=1&limit=9223372036854775808", "execution_id=1&as_of_event_id=x",
        "execution_id=1&as_of_position=1.5", "execution_id=1&as_of_time=2026-01-01",
        "execution_id=1&as_of_time=", "execution_id=1&as_of_time=2026-01-01T00:00:00",
        "execution_id=1&as_of_time=2026-13-01T00:00:00Z",
        "execution_id=1&as_of_time=2026-01-01T24:00:00Z", "execution_id=1&as_of_time=2026-01-01T00:00:00+02:00",
        "execution_id=1&as_of_time=2026-01-01T00:00:00Zx", "execution_id=1&as_of_time=now",
        "execution_id=1&resolve_payloads=True", "execution_id=1&resolve_payloads=1", "execution_id=1&resolve_payloads=",
        "execution_id=1&tenant_id=a&tenant_id=b", "execution_id=1&as_of_event_id=1&as_of_position=1",
        "execution_id=1&as_of_event_id=1&as_of_time=2026-01-01T00:00:00Z", "execution_id=1&projection=bogus",
        "execution_id=1&projection=", "execution_id=1&projection=All", "execution_id=1&projection=a%22b",
        "execution_id=1&projection=bogus&as_of_event_id=1&as_of_position=1",
    ]  # fmt: skip
    return [
        {"name": "refused", "execution_id": 1, "events": [], "answers": [recorder.replayed(query) for query in queries]}
    ]


def empty(recorder: Recorder) -> list[dict[str, Any]]:
    return [
        {
            "name": f"empty {execution_id}",
            "execution_id": execution_id,
            "events": [],
            "answers": [recorder.replayed(f"execution_id={execution_id}")],
        }
        for execution_id in (5555, 0, -1, -(2**63), 2**63 - 1)
    ]


def line(case: dict[str, Any]) -> str:
    """The case as one line of JSON, in which bodies and the JSON of events are as they were received."""

    def raw(members: dict[str, Any], names: tuple[str, ...]) -> str:
        texts = (
            f"{json.dumps(name)}: {value if name in names else json.dumps(value, ensure_ascii=False, default=str)}"
            for name, value in members.items()
        )
        return "{" + ", ".join(texts) + "}"

    events = ",\n  ".join(raw(entry, ("meta", "result")) for entry in case["events"])
    answers = ",\n  ".join(raw(answer, ("body",)) for answer in case["answers"])
    head = f'{{"name": {json.dumps(case["name"])}, "execution_id": {case["execution_id"]}'
    return f'{head}, "events": [\n  {events}], "answers": [\n  {answers}]}}'


async def record(url: str, dsn: str) -> None:
    database: Any = await asyncpg.connect(dsn, server_settings={"TimeZone": "UTC"})
    recorder = Recorder(url, database)
    await recorder.prepare()
    chance = random.Random(20260101)
    groups = {
        "rules": [
            await recorder.case(name, log, prefixes(log) if name in STEP_BY_STEP else None)
            for name, log in rules().items()
        ],
        "random": [await recorder.case(f"random {number}", random_log(chance, 14)) for number in range(24)],
        "cutoffs": await cutoffs(recorder),
        "refused": refused(recorder),
        "empty": empty(recorder),
        "executed": await recorder.executed(),
    }
    await recorder.clean()
    await database.close()
    FOLDER.mkdir(exist_ok=True)
    for name, cases in groups.items():
        (FOLDER / f"{name}.json").write_text("[\n" + ",\n".join(map(line, cases)) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--database", required=True)
    arguments = parser.parse_args()
    asyncio.run(record(arguments.url, arguments.database))


if __name__ == "__main__":
    main()
