"""A rolling upgrade and its way back under load: two versions of the server on one database.

    python -m tests.faults.upgrade --old COMMIT [--new COMMIT] [--executions 30]

The old version is taken from the history and built; the new one is this tree, or another commit. The old one makes the
schema; the first new one brings it up to date while the old one goes on. Each step waits until both versions have
decided something and executions have ended; then the rules of `tests.faults.checker` must hold for all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import tarfile
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from noetl.dev.server_process import ServerProcess
from tests.faults.checker import query, unfinished
from tests.faults.site import open_site
from tests.faults.wire import AlternatingClient
from tests.faults.worker import WILD, Crew
from tests.faults.workflows import MIXED, parallel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.faults.site import Site

ROOT: Final = Path(__file__).parents[2]
STEP_SECONDS: Final = 120.0
OPEN: Final = 6
"""Executions at a time."""
LOOP: Final = parallel("faults/seventy", 70)
"""More commands than an older version looks up one by one."""
STEPS: Final = ((1, "new", "stop"), (0, "new", "kill"), (1, "old", "kill"), (0, "old", "stop"))
"""Which server is replaced by which version, and how the former one ends: up, and back again."""
_DECIDED: Final = """
    SELECT count(DISTINCT (event_id >> 12) & 1023) FROM noetl.event
    WHERE event_type = 'command.issued' AND log_position > $1"""
_ENDED: Final = "SELECT count(*) FROM noetl.execution WHERE end_time IS NOT NULL"
_PLACE: Final = "SELECT coalesce(max(log_position), 0) FROM noetl.event"


async def roll(old: type[ServerProcess], new: type[ServerProcess], executions: int) -> str:
    """Go through the steps with at least so many executions in each, and prove; returns what was done."""
    versions = {"old": old, "new": new}
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(open_site(servers=2, server=old))
        before = await _applied(site)
        await site.register([*MIXED, LOOP])
        crew = Crew(site.urls, site.nats_url, slots=8, habits=WILD, client=AlternatingClient)
        await stack.enter_async_context(crew)
        loading = asyncio.create_task(_load(site))
        try:
            for place, version, end in STEPS:
                former = site.servers[place]
                await site.start(LOOP, f"loop-{place}-{version}")  # is under way meanwhile
                await (former.stop() if end == "stop" else former.kill())
                server = versions[version](former.data_directory, former.environment, port=former.port)
                site.servers[place] = await stack.enter_async_context(server)
                await _both_work(site, crew, executions, loading)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        await site.finished(crew)
        await site.prove(crew.history, nobody_is_late=False)
        added = sorted(await _applied(site) - before)
        rows = await query(site.database_url, f"SELECT ({_ENDED}), (SELECT count(*) FROM noetl.event)")
    ended, events = rows[0]
    return f"{len(STEPS)} steps, migrations {added} added, {ended:,} executions, {events:,} events, no violation"


async def _load(site: Site) -> None:
    """Start executions of all kinds until cancelled, as many as end."""
    number = 0
    while True:
        if await unfinished(site.database_url) < OPEN:
            await site.start(MIXED[number % len(MIXED)], f"mixed-{number}")
            number += 1
        await asyncio.sleep(0.05)


async def _both_work(site: Site, crew: Crew, executions: int, loading: asyncio.Task[None]) -> None:
    """Wait until both servers have issued commands and so many more executions have ended."""
    place, ended = (await query(site.database_url, f"SELECT ({_PLACE}), ({_ENDED})"))[0]
    deadline = asyncio.get_running_loop().time() + STEP_SECONDS
    while True:
        if loading.done():
            loading.result()
        if (failure := crew.failure()) is not None:
            raise failure
        decided = (await query(site.database_url, _DECIDED, place))[0][0]
        more = (await query(site.database_url, _ENDED))[0][0] - ended
        if decided == 2 and more >= executions:
            return
        waited = asyncio.get_running_loop().time() > deadline
        assert not waited, f"{decided} servers decided, {more} executions ended: {await site.open_commands()}"
        await asyncio.sleep(0.2)


async def _applied(site: Site) -> set[int]:
    return {version for (version,) in await query(site.database_url, "SELECT version FROM noetl.schema_migration")}


def build(commit: str, folder: Path) -> type[ServerProcess]:
    """A version from the history, as processes that run it and nothing else."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(source := folder.with_suffix(".source"), filter="data")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", folder, source], check=True)

    class BuiltServerProcess(ServerProcess):
        def _environment(self) -> Mapping[str, str]:
            return {**super()._environment(), "PYTHONPATH": str(folder)}

    environment: dict[str, Any] = {"PYTHONPATH": str(folder)}
    found = subprocess.run(
        [sys.executable, "-c", "import noetl; print(noetl.__file__)"],
        env=environment,
        cwd=folder.parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert found.startswith(str(folder)), f"{found} is not of {commit}"
    return BuiltServerProcess


def main() -> None:
    """Build what is asked for, and roll."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, help="commit")
    parser.add_argument("--new", help="commit; this tree by default")
    parser.add_argument("--executions", type=int, default=30, help="that end in each step, at least")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noetl-versions-") as folder:
        old = build(options.old, Path(folder, "old"))
        new = build(options.new, Path(folder, "new")) if options.new else ServerProcess
        print(f"{options.old} and {options.new or 'this tree'}: {uvloop.run(roll(old, new, options.executions))}")


if __name__ == "__main__":
    main()
