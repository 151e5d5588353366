"""Lets a live reference and a live server of ours take executions over from each other, on one database and one NATS.

``python -m tests.golden.check_takeover REFERENCE_URL OUR_URL DATABASE_DSN NATS_URL`` plays each shape once for every
request that its worker sends: those before it go to one server, the others to the other, in both directions. Ours runs
with ``NOETL_LOOP_RESULTS=reference``. The log must be the recorded one each time; failed steps may be named in any
order, as the reference has them in none.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tests.golden.engine_recording import EVENT_COLUMNS, Names, event_of, load
from tests.golden.record_engine import ensure_stream, in_workflow_order
from tests.golden.scripted_worker import MAIN, Case, ScriptedWorker, Stage, load_cases, open_stage

SHAPES = (
    "linear_three_steps", "loop_parallel", "loop_sequential", "fan_in_two", "branch_inclusive_some",
    "fail_both_branches", "child_started_by_a_step", "child_fails", "pipeline",
)  # fmt: skip


class SwitchingStage:
    """Sends the first requests of a worker to one server and the rest to another."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._call = stage.call
        self._urls = ("", "")
        self._left = 0
        stage.call = self.call

    def prepare(self, first: str, second: str, requests: int) -> None:
        """From now on ``requests`` go to ``first``."""
        self._urls = (first, second)
        self._left = requests

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; registrations are not counted."""
        self._stage.url = self._urls[self._left <= 0]
        self._left -= "catalog" not in path
        return await self._call(method, path, body)


async def logs_of(stage: Stage, worker: ScriptedWorker, case: Case) -> dict[str, list[Any]]:
    """The logs as they are recorded, by name of the execution."""
    names, rows = Names(stage.url), dict[str, list[Any]]()
    for name, execution in worker.executions.items():
        prefix = "" if name == MAIN else f"{name}."
        rows[name] = await stage.database.fetch(
            f"SELECT event_id, {EVENT_COLUMNS} FROM noetl.event WHERE execution_id = $1"
            " ORDER BY log_position NULLS FIRST, event_id",
            execution.execution_id,
        )
        names.add(execution.execution_id, f"{prefix}X")
        for number, row in enumerate(rows[name], 1):
            names.add(row["event_id"], f"{prefix}E{number}")
            names.add(row["catalog_id"], f"{prefix}C")
    logs: dict[str, list[Any]] = {}
    for name, log in rows.items():
        events = [
            {key: item for key, item in event.items() if key != "catalog_id"}
            for event in names.apply([event_of(row) for row in log])
        ]
        logs[name] = in_workflow_order({"events": events}, case)["events"]
    return logs


async def main(reference: str, ours: str, database_dsn: str, nats_url: str) -> int:
    await ensure_stream(nats_url)
    differing = 0
    async with open_stage(reference, database_dsn, nats_url) as stage:
        switching = SwitchingStage(stage)
        for label, first, second in (
            ("reference, then ours", reference, ours),
            ("ours, then reference", ours, reference),
        ):
            tried = 0
            for case in load_cases():
                if case.name not in SHAPES:
                    continue
                recorded = load(case.recording)["reference"]
                expected = {MAIN: recorded["events"]}
                expected |= {name: part["events"] for name, part in recorded.get("children", {}).items()}
                for requests in range(1, len(recorded["answers"])):
                    switching.prepare(first, second, requests)
                    worker = ScriptedWorker(stage, case)
                    await worker.play()
                    tried += 1
                    if await logs_of(stage, worker, case) != expected:
                        differing += 1
                        print(f"{case.name}, {label} after {requests} requests: another log", file=sys.stderr)
            print(f"{label}: {tried} executions")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
