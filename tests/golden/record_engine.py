"""Records how a reference server runs the cases of ``tests/golden/engine/cases``, and what ours does differently.

``python -m tests.golden.record_engine reference URL NATS_URL DATABASE_DSN [case ...]`` plays every case three times on
a reference server without workers and writes ``reference`` of ``tests/golden/engine/recorded/<case>.json``; a case that
does not give the same three times is refused. ``... ours URL NATS_URL DATABASE_DSN [case ...]`` plays the cases that
name a deviation on a server of ours whose ``NOETL_LOOP_RESULTS`` is ``--loop-results``, and writes ``ours``, if the log
is the one that the case asks for. Look at what changed before committing it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import nats
import yaml
from nats.js.errors import NotFoundError

from tests.golden.engine_recording import Recording, difference, engine_lines, in_reference_terms, load, record, save
from tests.golden.scripted_worker import Case, ScriptedWorker, Stage, load_cases, open_stage

REPETITIONS = 3


async def ensure_stream(nats_url: str) -> None:
    """What a worker of the reference does at its start."""
    client = await nats.connect(nats_url)
    try:
        stream = client.jetstream()
        try:
            await stream.stream_info("noetl_commands")
        except NotFoundError:
            await stream.add_stream(name="noetl_commands", subjects=["noetl.commands", "noetl.commands.>"])
    finally:
        await client.close()


async def play(stage: Stage, case: Case, order: str) -> Recording:
    """One run of a case."""
    worker = ScriptedWorker(stage, case)
    await worker.play()
    return await record(stage, case, worker, order=order)


async def record_reference(stage: Stage, case: Case) -> None:
    """Write what the reference does; raises ValueError if that changes from run to run."""
    first, *others = [in_workflow_order(await play(stage, case, "event_id"), case) for _ in range(REPETITIONS)]
    for other in others:
        if other != first:
            raise ValueError(f"not the same each time: {difference(first, other)}"[:2000])
    content = load(case.recording) if case.recording.exists() else {}
    save(case.recording, {**content, "reference": first})


def in_workflow_order(recording: Recording, case: Case) -> Recording:
    """The same with failed steps in the order of the playbook; the reference has them in no order."""
    for event in recording.get("events", []):
        meta = event.get("meta") or {}
        if len(meta.get("failed_steps", ())) > 1:
            order = [step["step"] for step in yaml.safe_load(case.playbook)["workflow"]]
            meta["failed_steps"].sort(key=order.index)
            meta["error"] = f"Failed steps: {', '.join(meta['failed_steps'])}"
    return recording


async def record_ours(stage: Stage, case: Case) -> None:
    """Write what ours does differently; raises ValueError if that is not what the case says."""
    if not case.recording.exists():
        raise ValueError("the reference comes first")
    content = load(case.recording)
    content.pop("ours", None)
    if case.ours:
        ours = in_reference_terms(await play(stage, case, "log_position"))
        wanted = case.ours["log"].splitlines() if "log" in case.ours else engine_lines(content["reference"])
        if engine_lines(ours) != wanted:
            raise ValueError("the log is\n  " + "\n  ".join(engine_lines(ours)))
        content["ours"] = difference(content["reference"], ours)
    save(case.recording, content)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whose", choices=["reference", "ours"])
    parser.add_argument("url")
    parser.add_argument("nats_url")
    parser.add_argument("database_dsn")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--loop-results", choices=["reference", "repaired"], default="reference")
    options = parser.parse_args()
    record_case = record_reference if options.whose == "reference" else record_ours
    if options.whose == "reference":
        await ensure_stream(options.nats_url)
    failed = 0
    async with open_stage(options.url, options.database_dsn, options.nats_url) as stage:
        for case in load_cases():
            if options.cases and case.name not in options.cases:
                continue
            if options.whose == "ours" and case.loop_results != options.loop_results:
                continue
            try:
                await record_case(stage, case)
            except (ValueError, AssertionError) as error:
                failed += 1
                print(f"{case.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
