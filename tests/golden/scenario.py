"""Scenarios: requests between looks at, and changes of, the server's own database; recorded and replayed alike.

A scenario is ``{"prepare", "steps", "clean"}``. A step is a request (`tests.golden.recording`), ``{"sql", "rows"}``
whose rows are compared, ``{"execute"}`` that changes the database, or ``{"look", "name"}`` that names a value.
``prepare`` and ``clean`` are SQL; all rows are under ids that no server mints.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.golden.recording import Names, ask, check_database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from tests.golden.recording import Step

Scenario = dict[str, Any]


def query(text: str) -> Step:
    """Compare the rows of a query."""
    return {"sql": f"SELECT coalesce(json_agg(to_json(seen)), '[]')::text FROM ({text}) AS seen"}


def look(name: str, text: str) -> Step:
    """Give the single value of a query its name."""
    return {"look": text, "name": name}


def scenario(steps: Sequence[Step], prepare: Sequence[str] = (), clean: Sequence[str] = ()) -> Scenario:
    """A scenario; without ``prepare`` and ``clean`` one that leaves nothing behind."""
    return {"prepare": list(prepare), "steps": list(steps), "clean": list(clean)}


async def play(
    played: Scenario, names: Names, database: Any, ask: Callable[[Step], Awaitable[Any]]
) -> AsyncGenerator[tuple[Step, Any]]:
    """Each step with what came of it: the rows of a query, or what ``ask`` returned for a request.

    ``database`` is a connection or a pool with ``execute`` and ``fetchval``.
    """
    for statement in played["prepare"]:
        await database.execute(names.fill(statement))
    try:
        for step in played["steps"]:
            if "sql" in step:
                yield step, json.loads(names.mask(await database.fetchval(names.fill(step["sql"]))))
            elif "look" in step:
                names.values[step["name"]] = str(await database.fetchval(names.fill(step["look"])))
                yield step, None
            elif "execute" in step:
                await database.execute(names.fill(step["execute"]))
                yield step, None
            else:
                yield step, await ask(step)
    finally:
        for statement in played["clean"]:
            await database.execute(names.fill(statement))


def write(folder: Path, group: str, recorded: Scenario) -> None:
    """One file per scenario, one line per step."""
    folder.mkdir(exist_ok=True)
    parts = [
        f'"{part}": [\n' + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in recorded[part]) + "\n]"
        for part in ("prepare", "steps", "clean")
    ]
    (folder / f"{group}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main(folder: Path, scenarios: Mapping[str, Callable[[], Scenario]]) -> None:
    """Record scenarios as a program: the server's URL, ``--database`` its DSN, ``--token`` its internal token."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--token", required=True)
    parser.add_argument("--database", required=True)
    given = parser.parse_args()
    asyncio.run(_record_all(folder, scenarios, given.url, given.token, given.database))


async def _record_all(
    folder: Path, scenarios: Mapping[str, Callable[[], Scenario]], url: str, token: str, dsn: str
) -> None:
    database: Any = await asyncpg.connect(dsn, server_settings={"TimeZone": "UTC"})
    try:
        await check_database(url, database)
        for group, make in scenarios.items():
            recorded, names = make(), Names(token=token, run=time.time_ns())
            recorded["steps"] = [
                {**step, "rows": outcome} if "sql" in step else step if outcome is None else {**step, "answer": outcome}
                async for step, outcome in play(
                    recorded, names, database, lambda step, names=names: asyncio.to_thread(ask, url, step, names)
                )
            ]
            write(folder, group, recorded)
    finally:
        await database.close()
