"""A fault campaign: rounds of mixed load and faults from a seeded plan; heal, wait until quiet, check, measure."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats
from nats.errors import Error as NatsError

from tests.faults.checker import open_check, query, unfinished
from tests.faults.crew_process import CrewProcess
from tests.faults.faults import FAULTS, Place
from tests.faults.history import History
from tests.faults.site import Site, open_site
from tests.faults.wire import Client
from tests.faults.worker import WILD
from tests.faults.workflows import LARGE_LOOP, MIXED, random_workflow, workflow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.faults.workflows import Workflow

LIBFAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
VOLUME_MIB: Final = 1024
ROUNDS_OF_A_SITE: Final = 50
"""After so many rounds everything begins anew, so that a check does not grow with the campaign."""
QUIET_SECONDS: Final = 180.0
CREWS: Final = 2
SLOTS: Final = 6
PROBE: Final = workflow("faults/probe", [{"step": "start"}], {"start": 1})


def impossible_faults() -> dict[str, str]:
    """Faults that cannot be made on this machine, with the reason."""
    missing: dict[str, str] = {}
    if os.geteuid() != 0:
        missing["postgres-full"] = "a small file system needs root"
    if not LIBFAKETIME.exists():
        missing |= dict.fromkeys(("clock-ahead", "clock-back"), "libfaketime is not installed")
    return missing


@dataclass
class Tally:
    """What became of the rounds: per fault its strikes and recovery times in seconds, and every violation."""

    strikes: dict[str, int] = field(default_factory=dict)
    commits: dict[str, list[float]] = field(default_factory=dict)
    announcements: dict[str, list[float]] = field(default_factory=dict)
    returns: dict[str, list[float]] = field(default_factory=dict)
    violations: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    executions: int = 0
    events: int = 0

    def table(self) -> str:
        """One line per fault: strikes, violations in its rounds, recovery p50 and p99."""
        lines = [
            "| Fault | Strikes | Rounds with a violation | First commit p50 / p99 | First announcement p50 / p99 |"
            " Last command back p50 / p99 |",
            "|---|---|---|---|---|---|",
        ]
        for name in sorted(self.strikes):
            cells = (self.commits, self.announcements, self.returns)
            times = " | ".join(percentiles(cell.get(name, [])) for cell in cells)
            lines.append(f"| {name} | {self.strikes[name]} | {self.violations.get(name, 0)} | {times} |")
        lines.append(f"\n{self.rounds} rounds, {self.executions:,} executions, {self.events:,} events")
        return "\n".join(lines)


class Campaign:
    """Runs rounds; ``faults`` are the names to draw from, ``strikes`` how many there are in a round."""

    def __init__(
        self, *, seed: int, faults: Sequence[str], replicas: int = 2, executions: int = 10, strikes: int = 2
    ) -> None:
        self.seed = seed
        self.faults = list(faults)
        self.replicas = replicas
        self.executions = executions
        self.strikes = strikes
        self.tally = Tally()

    async def run(self, rounds: Iterable[int]) -> bool:
        """Run these rounds, on a new site after some of them or after a violation; True without a violation."""
        pending = list(rounds)
        while pending:
            batch, pending = pending[:ROUNDS_OF_A_SITE], pending[ROUNDS_OF_A_SITE:]
            async with AsyncExitStack() as stack:
                site = await self._open(stack)
                session = Session(self, site, stack)
                await session.begin()
                while batch:
                    if not await session.round(batch.pop(0)):
                        pending = batch + pending
                        break
                else:
                    await session.end()
        return not self.tally.violations

    async def _open(self, stack: AsyncExitStack) -> Site:
        volume = VOLUME_MIB if "postgres-full" in self.faults else 0
        clock = LIBFAKETIME if any(name.startswith("clock") for name in self.faults) else None
        return await stack.enter_async_context(open_site(servers=self.replicas, volume_mib=volume, clock=clock))


class Session:
    """The rounds on one site, and what its clients were told so far."""

    def __init__(self, campaign: Campaign, site: Site, stack: AsyncExitStack) -> None:
        self.campaign = campaign
        self.site = site
        self.stack = stack
        self.crews: list[CrewProcess] = []
        self.own = History()
        self.checked: set[int] = set()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def begin(self) -> None:
        """Register the playbooks and start the crews."""
        await self.site.register([*MIXED, LARGE_LOOP, PROBE])
        for number in range(CREWS):
            options = {
                "server_urls": self.site.urls,
                "nats_url": self.site.nats_url,
                "slots": SLOTS,
                "habits": asdict(WILD),
                "name": f"crew{number}",
                "pool": "crew",
                "seed": self.campaign.seed + number,
            }
            crew = CrewProcess(self.site.folder / f"crew{number}", options)
            self.crews.append(await self.stack.enter_async_context(crew))

    async def round(self, number: int) -> bool:
        """One round; False when something is wrong, and the site is not to be trusted any more."""
        campaign, site, tally = self.campaign, self.site, self.campaign.tally
        chance = random.Random(f"{campaign.seed}/{number}")
        plan = [(chance.choice(campaign.faults), Place(site, self.crews, chance)) for _ in range(campaign.strikes)]
        pauses = [chance.uniform(0.05, 0.6) for _ in plan]
        workflows = [random_workflow(chance, f"faults/random/{number}/{place}") for place in range(3)]
        load = [chance.choice([*MIXED, *workflows]) for _ in range(campaign.executions)]
        if number % 10 == 0:
            load[0] = LARGE_LOOP
        print(f"round {number}: " + "; ".join(f"{name} ({place})" for name, place in plan), flush=True)
        names = {name for name, _ in plan}
        began = datetime.now(UTC)
        await site.register(workflows)
        loading = asyncio.create_task(self._load(load, number, random.Random(f"{campaign.seed}/{number}/load")))
        try:
            for strike, ((name, place), pause) in enumerate(zip(plan, pauses, strict=True)):
                await asyncio.sleep(pause)
                await FAULTS[name](place)
                await self._recovery(name, place, f"{number}-{strike}")
            await loading
            broken = await self._quiet_and_check()
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        await self._measure_returns(names, began)
        tally.rounds += 1
        if broken:
            for name in names:
                tally.violations[name] = tally.violations.get(name, 0) + 1
            print(f"VIOLATION in round {number} of seed {campaign.seed}:", flush=True)
            for rule, rows in broken.items():
                print(f"  {rule}: {rows}", flush=True)
            self._show_logs()
        return not broken

    async def end(self) -> None:
        """Once more everything, with what was told after its round."""
        async with open_check(self.site.database_url) as check:
            await check.history(self._told())
        if check.broken:
            self.campaign.tally.violations["late answers"] = 1
            print(f"VIOLATION at the end of a site: {check.broken}", flush=True)

    # -- load ------------------------------------------------------------------------------------------------------

    async def _load(self, load: Sequence[Workflow], number: int, chance: random.Random) -> None:
        async with asyncio.TaskGroup() as group:
            for place, one in enumerate(load):
                group.create_task(self._start(one, f"{number}-{place}", chance))
                await asyncio.sleep(0.05)

    async def _start(self, one: Workflow, key: str, chance: random.Random) -> None:
        """Start an execution; sometimes the client hangs up first, and sometimes it changes its mind."""
        hangs_up, cancels, pause = chance.random() < 0.2, chance.random() < 0.1, chance.uniform(0, 0.5)
        if hangs_up:
            client = Client(self.site.urls)
            await client.hang_up("POST", "/api/execute", {"path": one.path, "payload": {}, "idempotency_key": key})
        execution_id = await self.site.start(one, key)
        self.own.started(key, execution_id)
        if cancels:
            await asyncio.sleep(pause)
            await self._cancel(execution_id)

    async def _cancel(self, execution_id: int) -> None:
        client = Client(self.site.urls)
        try:
            status, answer = await client.insist("POST", f"/api/executions/{execution_id}/cancel", {})
        finally:
            client.close()
        if status == 200 or "CANCELLED" in str(answer):  # cancelled by a request whose answer was lost
            self.own.cancelled(execution_id)
        elif status != 422:
            self.own.refused(status, "cancel", answer)

    # -- checks ----------------------------------------------------------------------------------------------------

    async def _quiet_and_check(self) -> dict[str, list[Any]]:
        site, tally = self.site, self.campaign.tally
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                while await unfinished(site.database_url):
                    if dead := [crew.name for crew in self.crews if crew.exit_code is not None]:
                        return {"a crew that ended": [*dead, *(crew.log_end() for crew in self.crews)]}
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return {"an execution that does not end": await site.open_commands()}
        known = {row[0] for row in await query(site.database_url, "SELECT execution_id FROM noetl.execution")}
        new = known - self.checked
        self.checked |= new
        told = self._told(new)
        async with open_check(site.database_url, new) as check:
            await check.log(nobody_is_late=False)
            await check.models({id: plan for id, plan in site.plans.items() if id in new}, told.cancels)
            await check.history(told)
        rows = await query(
            site.database_url, "SELECT count(*) FROM noetl.event WHERE execution_id = ANY ($1::bigint[])", list(new)
        )
        tally.executions += len(new)
        tally.events += rows[0][0]
        return check.broken

    def _told(self, only: set[int] | None = None) -> History:
        """What all clients were told, of some executions."""
        everything = History()
        for crew in self.crews:
            if crew.history_path.exists():
                everything.read(crew.history_path)
        told = History()
        told.refusals = everything.refusals + self.own.refusals
        told.starts = {item for item in everything.starts | self.own.starts if only is None or item[1] in only}
        told.events = {item for item in everything.events if only is None or item[0] in only}
        told.claims = {item for item in everything.claims if only is None or item[0] in only}
        told.cancels = {item for item in self.own.cancels if only is None or item in only}
        return told

    def _show_logs(self) -> None:
        """The complaints of the servers, for whoever looks into a violation."""
        for server in self.site.servers:
            lines = [line for line in server.log_text().splitlines() if '"ERROR"' in line]
            print(f"  errors of {server.data_directory.name}:", *lines[-5:], sep="\n    ", file=sys.stderr, flush=True)

    # -- recovery --------------------------------------------------------------------------------------------------

    async def _recovery(self, fault: str, place: Place, key: str) -> None:
        """From the healing: until the server that was hit has begun an execution, and until workers can hear of it."""
        tally = self.campaign.tally
        tally.strikes[fault] = tally.strikes.get(fault, 0) + 1
        begin = place.healing_since or time.monotonic()
        heard: asyncio.Queue[str] = asyncio.Queue()
        listener = asyncio.create_task(_listen(self.site.nats.url, heard, ready := asyncio.Event()))
        client = Client([self.site.urls[place.server_number]], patience_seconds=5)
        try:
            await ready.wait()
            body = {"path": PROBE.path, "payload": {}, "idempotency_key": f"probe-{key}"}
            status, answer = 0, None
            while status != 200:
                status, answer = await client.once("POST", "/api/execute", body)
                if status != 200:
                    await asyncio.sleep(0.01)
            tally.commits.setdefault(fault, []).append(time.monotonic() - begin)
            execution_id = answer["execution_id"]
            self.site.plans[int(execution_id)] = PROBE
            self.own.started(f"probe-{key}", int(execution_id))
            async with asyncio.timeout(30):
                while await heard.get() != str(execution_id):
                    pass
            tally.announcements.setdefault(fault, []).append(time.monotonic() - begin)
        except TimeoutError:
            tally.announcements.setdefault(fault, []).append(30.0)
        finally:
            client.close()
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _measure_returns(self, faults: set[str], since: datetime) -> None:
        """How long the commands of dead workers took to come back, in a round with one kind of fault."""
        if len(faults) == 1:
            rows = await query(
                self.site.database_url,
                "SELECT extract(epoch FROM max(ingest_time) - $1)::float8 FROM noetl.event"
                " WHERE event_type = 'command.requeued' AND ingest_time > $1",
                since,
            )
            if rows[0][0] is not None:
                self.campaign.tally.returns.setdefault(next(iter(faults)), []).append(rows[0][0])


async def _listen(url: str, heard: asyncio.Queue[str], ready: asyncio.Event) -> None:
    """Names the executions whose commands are announced."""

    async def take(message: Any) -> None:
        heard.put_nowait(message.subject.rpartition(".")[2])

    while True:
        try:
            client = await nats.connect(url, allow_reconnect=False, connect_timeout=1)
            break
        except (NatsError, OSError, TimeoutError):
            await asyncio.sleep(0.02)
    try:
        await client.subscribe("noetl.commands.>", cb=take)
        await client.flush()
        ready.set()
        await asyncio.Event().wait()
    finally:
        await client.close()


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{p50:.2f} s / {p99:.2f} s"
