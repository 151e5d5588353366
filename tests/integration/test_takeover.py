"""Executions that the reference began and this server ends: the log is the one that the reference would have written.

The first events of a recorded log are put into the database as the reference leaves them, its command rows PENDING;
the worker then goes on with ours where it stopped with the other. Every place where it can stop is tried for the shapes
that a workflow is made of, and the middle for all other recordings.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from noetl.engine.events import issued_event_id
from tests.golden.engine_recording import EVENT_COLUMNS, Names, event_of, load
from tests.golden.scripted_worker import Case, Stage, load_cases, open_stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.services import EmbeddedNats
    from tests.conftest import MakeServer

SHAPES: Final = (
    "linear_three_steps", "loop_parallel", "loop_sequential", "fan_in_two", "branch_inclusive_some",
    "fail_both_branches", "child_started_by_a_step", "child_fails", "pipeline",
)  # fmt: skip
_PLAIN: Final = ("complete", "fail", "serve", "claim")
_NAME: Final = re.compile(r"[$#]((?:child\.)?(?:X|C|E\d+))(?!\w)")
_COUNTER: Final = itertools.count()
_HOUR_AGO: Final = (time_ns() // 1_000_000 - 1_704_067_200_000 - 3_600_000) << 22


def _is_plain(case: Case) -> bool:
    """Whether a worker could send everything again from what the log says."""
    recorded = load(case.recording)
    return (
        "events" in recorded["reference"]
        and not (case.ours or case.begin or case.children)
        and all(isinstance(action, str) or next(iter(action)) in _PLAIN for action in case.worker)
    )


CASES: Final = {case.name: case for case in load_cases()}
OTHERS: Final = [case for case in CASES.values() if case.name not in SHAPES and _is_plain(case)]


class Log(NamedTuple):
    """The recorded log of one execution of a case, and the prefix of its names: empty, or that of the child."""

    prefix: str
    events: list[dict[str, Any]]

    @property
    def stops(self) -> list[int]:
        """Numbers of events after which it is the worker's turn."""
        own = range(1, len(self.events))
        return [number for number in own if "parent_event_id" not in self.events[number]]


class Takeover:
    """One execution of a case, with its child if it has one, from the place where the reference stopped."""

    def __init__(self, stage: Stage, case: Case) -> None:
        recorded = load(case.recording)["reference"]
        children: dict[str, Any] = recorded.get("children", {})
        self._stage = stage
        self._case = case
        self.logs = [Log(f"{name}.", part["events"]) for name, part in children.items()]
        self.logs.append(Log("", recorded["events"]))
        self._ids: dict[str, int] = {}

    async def register(self) -> None:
        """Register the playbooks, as the reference did."""
        for name, text in {"": self._case.playbook, **self._case.children}.items():
            status, answer = await self._stage.call("POST", "/api/catalog/register", {"content": text})
            assert status == 200, answer
            self._ids[f"{name}.C" if name else "C"] = int(answer["catalog_id"])

    async def insert(self, log: Log, stop: int) -> None:
        """What the reference has written so far; the first half before this server was ever there."""
        self._ids[f"{log.prefix}X"] = _HOUR_AGO + next(_COUNTER)
        for number in range(1, stop + 1):
            self._ids[f"{log.prefix}E{number}"] = _HOUR_AGO + next(_COUNTER)
        for number, recorded in enumerate(log.events[:stop], 1):
            event = self._resolved(recorded)
            row = {
                "execution_id": self._ids[f"{log.prefix}X"],
                "event_id": self._ids[f"{log.prefix}E{number}"],
                "catalog_id": self._ids[f"{log.prefix}C"],
                **{key: json.dumps(value) if isinstance(value, dict) else value for key, value in event.items()},
            }
            if number <= stop // 2:
                row["log_position"] = None
            await self._insert("event", row)
            if event["event_type"] == "command.issued":
                columns = ("execution_id", "event_id", "catalog_id", "context", "meta", "status")
                own = {"step_name": row["node_name"], "tool_kind": row["node_type"], "command_id": next(_COUNTER)}
                await self._insert("command", {**{key: row[key] for key in columns}, **own})

    async def go_on(self, log: Log, stop: int) -> None:
        """Send what the worker sent after the stop, and look each time at what the server wrote."""
        for number in range(stop + 1, len(log.events) + 1):
            recorded = log.events[number - 1]
            if "parent_event_id" in recorded:
                continue
            event = self._resolved(recorded)
            if event["event_type"] == "command.claimed":
                event_id = issued_event_id(event["meta"]["command_id"])
                path, body = f"/api/commands/{event_id}/claim", {"worker_id": event["worker_id"]}
            else:
                meta = event["meta"]
                path, body = "/api/events", {
                    "execution_id": self._ids[f"{log.prefix}X"],
                    "step": event["node_name"],
                    "event_type": event["event_type"],
                    "status": event["status"],
                    "payload": event["result"]["context"],
                    "worker_id": meta["worker_id"],
                    "meta": {"attempts": meta["attempts"]},
                }  # fmt: skip
            status, answer = await self._stage.call("POST", path, body)
            assert status == 200, (number, recorded, answer)
            for place, row in enumerate(await self._rows(log), 1):
                self._ids.setdefault(f"{log.prefix}E{place}", row["event_id"])

    async def written(self, log: Log) -> list[dict[str, Any]]:
        """The log as it is recorded."""
        names = Names(self._stage.url)
        for name, identity in self._ids.items():
            names.add(identity, name)
        found = [names.apply(event_of(row)) for row in await self._rows(log)]
        return [{key: value for key, value in event.items() if key != "catalog_id"} for event in found]

    async def _rows(self, log: Log) -> list[Any]:
        return await self._stage.database.fetch(
            f"SELECT event_id, {EVENT_COLUMNS} FROM noetl.event WHERE execution_id = $1"
            " ORDER BY log_position NULLS FIRST, event_id",
            self._ids[f"{log.prefix}X"],
        )

    async def _insert(self, table: str, row: dict[str, Any]) -> None:
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await self._stage.database.execute(
            f"INSERT INTO noetl.{table} ({', '.join(row)}) VALUES ({places})", *row.values()
        )

    def _resolved(self, value: Any) -> Any:
        """A recorded value with ids for names."""
        if isinstance(value, dict):
            return {self._resolved(key): self._resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolved(item) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith("#") and _NAME.fullmatch(value):
            return self._ids[value[1:]]
        named = _NAME.sub(lambda found: str(self._ids[found[1]]) if found[0][0] == "$" else found[0], value)
        return named.replace("$url", self._stage.url).replace("$time", "2026-11-24T00:00:00.000000000+00:00")


async def take_over(stage: Stage, case: Case, stops: dict[str, int]) -> None:
    """Let the reference stop after so many events of each execution, and ours end them."""
    run = Takeover(stage, case)
    await run.register()
    for log in reversed(run.logs):
        await run.insert(log, stops[log.prefix])
    for log in run.logs:
        await run.go_on(log, stops[log.prefix])
    for log in run.logs:
        assert await run.written(log) == log.events, f"{case.name}, stopped after {stops}"


@pytest.fixture(scope="module")
async def stage(make_server: MakeServer, database_url: str, nats: EmbeddedNats) -> AsyncIterator[Stage]:
    server = await make_server({"NOETL_LOOP_RESULTS": "reference", "NOETL_SERVER_MACHINE_ID": "7"})
    async with open_stage(server.url, database_url, nats.url) as opened:
        yield opened


@pytest.mark.parametrize("name", SHAPES)
async def test_execution_is_taken_over_wherever_the_reference_stopped(stage: Stage, name: str) -> None:
    case = CASES[name]
    logs = Takeover(stage, case).logs
    ends = {log.prefix: log.stops[-1] for log in logs}
    # The other execution of a pair is always found at its last stop.
    stops = [{**ends, log.prefix: stop} for log in logs for stop in log.stops]
    await asyncio.gather(*(take_over(stage, case, each) for each in stops))


async def test_every_recorded_execution_is_taken_over_in_its_middle(stage: Stage) -> None:
    assert len(OTHERS) >= 70
    logs = [(case, Takeover(stage, case).logs[0].stops) for case in OTHERS]
    await asyncio.gather(*(take_over(stage, case, {"": stops[len(stops) // 2]}) for case, stops in logs if stops))
