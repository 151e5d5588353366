"""A fault campaign: rounds of mixed load and faults from a seeded plan; heal, wait until quiet, check, measure."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
import traceback
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import nats
from nats.errors import Error as NatsError

from tests.faults.checker import open_check, query, unfinished
from tests.faults.crew_process import CrewProcess
from tests.faults.faults import FAULTS, Place
from tests.faults.history import History
from tests.faults.quick_server import QuickServerProcess
from tests.faults.real_worker import REAL, VARIABLE, RealWorker
from tests.faults.site import Site, open_site
from tests.faults.wire import Client
from tests.faults.worker import WILD
from tests.faults.workflows import LARGE_LOOP, MIXED, random_workflow, workflow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from nats.js.api import ConsumerInfo

    from noetl.dev.server_process import ServerProcess
    from tests.faults.workflows import Workflow

LIBFAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
VOLUME_MIB: Final = 1024
ROUNDS_OF_A_SITE: Final = 50
"""After so many rounds everything begins anew, so that a check does not grow with the campaign."""
QUIET_SECONDS: Final = 180.0
TOTAL_EVERY_ROUNDS: Final = 25
HELP_AFTER_SECONDS: Final = 15.0
"""When the real worker is looked after: it can live on and do nothing (`Session._help_real_worker`)."""
HEARTBEAT_SECONDS: Final = 1.0
ACK_SECONDS: Final = 2.0
REAL_EXECUTIONS: Final = 2
CREWS: Final = 2
DEFECTS: Final = ("Unexpected error", "exception was never retrieved", "was never awaited")
"""What a server logs only when it did what nobody meant; its clients repeat a request after a 500 and do not notice."""
SLOTS: Final = 6
PROBE: Final = workflow("faults/probe", [{"step": "start"}], {"start": 1})


def impossible_faults(worker: Path | None) -> dict[str, str]:
    """Faults that cannot be made on this machine, with the reason; ``worker`` is the binary of the real one."""
    missing: dict[str, str] = {}
    if worker is None:
        missing["real-worker-kill"] = f"no binary of the real worker (--worker or {VARIABLE})"
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
    seconds: dict[str, float] = field(default_factory=dict)
    """Where the time of the rounds went."""
    rounds: int = 0
    broken: int = 0
    """Rounds with a violation."""
    killed: int = 0
    """Processes that ended by a signal 9."""
    executions: int = 0
    events: int = 0
    real_executions: int = 0
    real_endings: int = 0
    """How often the real worker ended by itself, as it does when it loses NATS or a server during a claim."""
    real_dropped: int = 0
    """How often the real worker was started again because it lived on and had dropped a command."""
    real_deaf: int = 0
    """How often it was because it did not ask for what the stream held for it."""

    @contextmanager
    def timed(self, phase: str) -> Generator[None]:
        """Add the time of a block to a phase of the rounds."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - begin

    def total(self) -> str:
        """One line that says how far it came."""
        rounds = max(1, self.rounds)
        phases = ", ".join(f"{phase} {seconds / rounds:.1f}" for phase, seconds in self.seconds.items())
        line = (
            f"{self.rounds} rounds, {sum(self.strikes.values())} strikes, {self.killed} processes killed,"
            f" {self.executions:,} executions, {self.events:,} events, {self.broken} rounds with a violation;"
            f" {sum(self.seconds.values()) / rounds:.1f} s per round ({phases})"
        )
        if self.real_executions:
            line += (
                f"; {self.real_executions} executions of the real worker, which ended {self.real_endings} times"
                f" by itself and was started again {self.real_dropped} times for a command that it had dropped"
                f" and {self.real_deaf} times because it was deaf"
            )
        return line

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
        lines.append(f"\n{self.total()}")
        return "\n".join(lines)


class Campaign:
    """Runs rounds; ``faults`` are the names to draw from, ``strikes`` how many there are in a round."""

    def __init__(
        self,
        *,
        seed: int,
        faults: Sequence[str],
        replicas: int = 2,
        executions: int = 10,
        strikes: int = 2,
        worker: Path | None = None,
    ) -> None:
        """``worker`` is the binary of the real worker, which then takes part."""
        self.seed = seed
        self.worker = worker
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
                with self.tally.timed("new sites"):
                    site = await self._open(stack)
                    session = Session(self, site, stack)
                    await session.begin()
                while batch:
                    if not await session.round(batch.pop(0)):
                        pending = batch + pending
                        break
                    if self.tally.rounds % TOTAL_EVERY_ROUNDS == 0:
                        print(f"total: {self.tally.total()}", flush=True)
                else:
                    await session.end()
        return not self.tally.violations

    async def _open(self, stack: AsyncExitStack) -> Site:
        volume = VOLUME_MIB if "postgres-full" in self.faults else 0
        clock = LIBFAKETIME if any(name.startswith("clock") for name in self.faults) else None
        return await stack.enter_async_context(
            open_site(servers=self.replicas, volume_mib=volume, clock=clock, server=QuickServerProcess)
        )


class Session:
    """The rounds on one site, and what its clients were told so far."""

    def __init__(self, campaign: Campaign, site: Site, stack: AsyncExitStack) -> None:
        self.campaign = campaign
        self.site = site
        self.stack = stack
        self.crews: list[CrewProcess] = []
        self.real_worker: RealWorker | None = None
        self.own = History()
        self.told = History()
        """What the crews wrote down so far."""
        self.told_to: dict[CrewProcess, int] = {}
        """How far that was read, in bytes."""
        self.checked: set[int] = set()
        self.logs_read: dict[ServerProcess, int] = {}
        """How far the log of each server was looked at, in characters."""

    async def begin(self) -> None:
        """Register the playbooks and start the crews."""
        await self.site.register([*MIXED, LARGE_LOOP, PROBE])
        if self.campaign.worker is not None:
            await self.site.register(REAL)
            folder = self.site.folder / "real-worker"
            worker = RealWorker(folder, self.campaign.worker, self.site.urls[0], self.site.nats_url)
            self.real_worker = await self.stack.enter_async_context(worker)
            supervisor = asyncio.create_task(worker.supervise())
            self.stack.push_async_callback(_end, supervisor)
        for number in range(CREWS):
            options = {
                "server_urls": self.site.urls,
                "nats_url": self.site.nats_url,
                "slots": SLOTS,
                "habits": asdict(WILD),
                "name": f"crew{number}",
                "pool": "crew",
                "heartbeat_seconds": HEARTBEAT_SECONDS,
                "ack_seconds": ACK_SECONDS,
                "seed": self.campaign.seed + number,
            }
            crew = CrewProcess(self.site.folder / f"crew{number}", options)
            self.crews.append(await self.stack.enter_async_context(crew))

    async def round(self, number: int) -> bool:
        """One round; False when something is wrong, and the site is not to be trusted any more."""
        campaign, site, tally = self.campaign, self.site, self.campaign.tally
        chance = random.Random(f"{campaign.seed}/{number}")
        plan = [
            (chance.choice(campaign.faults), Place(site, self.crews, chance, self.real_worker))
            for _ in range(campaign.strikes)
        ]
        pauses = [chance.uniform(0.05, 0.6) for _ in plan]
        workflows = [random_workflow(chance, f"faults/random/{number}/{place}") for place in range(3)]
        load = [chance.choice([*MIXED, *workflows]) for _ in range(campaign.executions)]
        if number % 10 == 0:
            load[0] = LARGE_LOOP
        if self.real_worker is not None:
            load += chance.sample(REAL, REAL_EXECUTIONS)
        print(f"round {number}: " + "; ".join(f"{name} ({place})" for name, place in plan), flush=True)
        names = {name for name, _ in plan}
        began = datetime.now(UTC)
        loading: asyncio.Task[None] | None = None
        try:
            with tally.timed("strikes"):
                await site.register(workflows)
                loading = asyncio.create_task(self._load(load, number, random.Random(f"{campaign.seed}/{number}/load")))
                for strike, ((name, place), pause) in enumerate(zip(plan, pauses, strict=True)):
                    await asyncio.sleep(pause)
                    await FAULTS[name](place)
                    tally.killed += place.killed
                    await self._recovery(name, place, f"{number}-{strike}")
                await loading
            with tally.timed("until quiet"):
                broken = await self._until_quiet()
            if not broken:
                with tally.timed("check"):
                    broken = await self._check() | self._defects()
                    await self._measure_returns(names, began)
        except Exception:  # whatever it was, the round has not shown what it should, and the others go on
            broken = {"a round that broke off": traceback.format_exc().splitlines()}
        finally:
            if loading is not None:
                loading.cancel()
                await asyncio.gather(loading, return_exceptions=True)
        tally.rounds += 1
        if broken:
            tally.broken += 1
            for name in names:
                tally.violations[name] = tally.violations.get(name, 0) + 1
            print(f"VIOLATION in round {number} of seed {campaign.seed}:", flush=True)
            for rule, rows in broken.items():
                print(f"  {rule}: {rows}", flush=True)
            self._show_logs()
            await self._show_executions(broken)
        return not broken

    async def end(self) -> None:
        """Once more everything, with what was told after its round."""
        async with open_check(self.site.database_url) as check:
            await check.history(self._told())
        if check.broken:
            self.campaign.tally.broken += 1
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

    async def _until_quiet(self) -> dict[str, list[Any]]:
        """Wait until everything has ended; the rule that is broken if it does not."""
        site = self.site
        began = time.monotonic()
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                while await unfinished(site.database_url):
                    if dead := [crew.name for crew in self.crews if crew.exit_code is not None]:
                        return {"a crew that ended": [*dead, *(crew.log_end() for crew in self.crews)]}
                    if self.real_worker is not None and time.monotonic() > began + HELP_AFTER_SECONDS:
                        began = time.monotonic()
                        await self._help_real_worker(self.real_worker)
                    await asyncio.sleep(0.1)
        except TimeoutError:
            return {"an execution that does not end": [*await site.open_commands(), *await self._consumers()]}
        return {}

    async def _help_real_worker(self, worker: RealWorker) -> None:
        """Start it again where all but it have done their part, as somebody in charge of a cluster would.

        It drops a command whose events it could not deliver within 3.5 s. One whose NATS is killed while it waits for
        an answer waits for ever, while its heart beats and its consumer has something for it.
        """
        held = await query(
            self.site.database_url,
            "SELECT FROM noetl.command WHERE worker_id = $1 AND status IN ('CLAIMED', 'RUNNING')"
            " AND claimed_at < now() - make_interval(secs => $2)",
            worker.worker_id,
            HELP_AFTER_SECONDS,
        )
        if held:
            self.campaign.tally.real_dropped += 1
        elif any(consumer.name == worker.consumer and consumer.num_pending for consumer in await self._consumers()):
            self.campaign.tally.real_deaf += 1
        else:
            return
        await worker.crash(0)

    async def _consumers(self) -> list[ConsumerInfo]:
        """Of all streams."""
        client = await nats.connect(self.site.nats.url)
        try:
            manager = client.jetstream()
            names = [stream.config.name or "" for stream in await manager.streams_info()]
            return [consumer for name in names for consumer in await manager.consumers_info(name)]
        finally:
            await client.close()

    async def _check(self) -> dict[str, list[Any]]:
        site, tally = self.site, self.campaign.tally
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
        tally.real_executions += sum(site.plans[id] in REAL for id in new if id in site.plans)
        if self.real_worker is not None:
            tally.real_endings += self.real_worker.endings
            self.real_worker.endings = 0
        tally.events += rows[0][0]
        return check.broken

    def _told(self, only: set[int] | None = None) -> History:
        """What all clients were told, of some executions."""
        everything = self.told
        for crew in self.crews:
            self.told_to[crew] = everything.read(crew.history_path, self.told_to.get(crew, 0))
        told = History()
        told.refusals = everything.refusals + self.own.refusals
        told.starts = {item for item in everything.starts | self.own.starts if only is None or item[1] in only}
        told.events = {item for item in everything.events if only is None or item[0] in only}
        told.claims = {item for item in everything.claims if only is None or item[0] in only}
        told.cancels = {item for item in self.own.cancels if only is None or item in only}
        return told

    def _defects(self) -> dict[str, list[Any]]:
        """What the servers have logged of defects since the last round."""
        found: list[str] = []
        for server in self.site.servers:
            text = server.log_text()
            new = text[self.logs_read.get(server, 0) :]
            self.logs_read[server] = len(text)
            found += defects(new)
        return {"a server that met a defect": found[:5]} if found else {}

    def _show_logs(self) -> None:
        """The complaints of the servers, for whoever looks into a violation."""
        for server in self.site.servers:
            lines = [line for line in server.log_text().splitlines() if '"ERROR"' in line]
            print(f"  errors of {server.data_directory.name}:", *lines[-5:], sep="\n    ", file=sys.stderr, flush=True)

    async def _show_executions(self, broken: dict[str, list[Any]]) -> None:
        """What happened to the first execution that each rule names, and through whom."""
        for execution_id in {rows[0][0] for rows in broken.values() if rows and isinstance(rows[0], tuple)}:
            with suppress(asyncpg.PostgresError, OSError, TimeoutError):
                for line in await query(
                    self.site.database_url,
                    "SELECT log_position, event_id, event_type, node_name, worker_id, ingest_time::text, meta::text"
                    " FROM noetl.event WHERE execution_id = $1 ORDER BY log_position",
                    int(execution_id),
                ):
                    print("  ", *line, flush=True)

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


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def defects(log: str) -> list[str]:
    """The lines that tell of a defect of the server, not of what it lives with."""
    return [line for line in log.splitlines() if any(sign in line for sign in DEFECTS)]


def percentiles(seconds: list[float]) -> str:
    """Median and 99th percentile."""
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{p50:.2f} s / {p99:.2f} s"
