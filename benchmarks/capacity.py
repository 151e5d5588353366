"""Predicts what replicas carry from measured costs: a discrete simulation of lanes, PostgreSQL and its log.

    python -m benchmarks.capacity                                   # 1, 10 and 100 replicas
    python -m benchmarks.capacity --replicas 1,2 --shared-cores 2   # everything on one machine, as in a test

Clients send one event each, wait for the answer, and send the next. A process computes one thing at a time; it has one
transaction under way and takes all that has arrived into the next (`noetl.ledger.queue`). PostgreSQL works on its cores
and flushes its log once for all that commit at that moment. Locks, network, memory and NATS are not in the model.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Action = Callable[[], None]


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU, and what the disk of PostgreSQL does; docs/scaling.md says how the defaults were measured."""

    server_event: float = 60e-6
    server_batch: float = 520e-6
    database_event: float = 30e-6
    database_batch: float = 505e-6
    client_event: float = 30e-6
    flush: float = 1e-3
    log_bytes: int = 1400
    log_bandwidth: float = 400e6


@dataclass(frozen=True)
class Site:
    """What runs where; with ``shared_cores`` everything, clients too, on one machine of so many cores."""

    replicas: int
    clients: int = 64
    database_cores: int = 8
    databases: int = 1
    batch: int = 256
    shared_cores: int | None = None


@dataclass(frozen=True)
class Result:
    """Events per second, latencies in seconds, events per transaction, and the part of the time each resource works."""

    rate: float
    p50: float
    p95: float
    batch: float
    server: float
    database: float
    log: float

    @property
    def limit(self) -> str:
        """What is busy most."""
        uses = {"server CPU": self.server, "database CPU": self.database, "database log": self.log}
        return max(uses, key=uses.__getitem__)


class Clock:
    """Things that happen later, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = itertools.count()
        self._later: list[tuple[float, int, Action]] = []

    def after(self, seconds: float, do: Action) -> None:
        heapq.heappush(self._later, (self.now + seconds, next(self._order), do))

    def run(self, until: float) -> None:
        while self._later and self._later[0][0] <= until:
            self.now, _, do = heapq.heappop(self._later)
            do()


@dataclass
class Cores:
    """CPUs that are taken and given back, first come first served."""

    free: int
    waiting: deque[Action] = field(default_factory=deque["Action"])

    def take(self, go: Action) -> None:
        if self.free:
            self.free -= 1
            go()
        else:
            self.waiting.append(go)

    def give(self) -> None:
        if self.waiting:
            self.waiting.popleft()()
        else:
            self.free += 1


@dataclass(frozen=True)
class Item:
    """So many events, and what happens when they are done."""

    events: int
    done: Action


class Collector:
    """Begins whenever it is free and something waits: the queue of a process, or the log of PostgreSQL.

    ``handle`` gets two functions: the first takes all that waits by then, up to a limit, the second ends it.
    """

    def __init__(self, handle: Callable[[Callable[[], list[Item]], Action], None], limit: int) -> None:
        self._handle, self._limit = handle, limit
        self._waiting: list[Item] = []
        self._idle = True

    def add(self, item: Item) -> None:
        self._waiting.append(item)
        if self._idle:
            self._next()

    def _next(self) -> None:
        self._idle = not self._waiting
        if self._waiting:
            self._handle(self._take, self._next)

    def _take(self) -> list[Item]:
        taken, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
        return taken


class Simulation:
    """One site under closed-loop load."""

    def __init__(self, site: Site, costs: Costs, seed: int = 1) -> None:
        self._site, self._costs = site, costs
        self._random = random.Random(seed)
        self._clock = Clock()
        shared = Cores(site.shared_cores) if site.shared_cores else None
        self._server_cores = shared or Cores(site.replicas)
        self._client_cores = shared or Cores(site.replicas * site.clients)
        self._database_cores = [shared or Cores(site.database_cores) for _ in range(site.databases)]
        self._reset()
        logs = [Collector(self._flush, site.replicas) for _ in range(site.databases)]
        for number in range(site.replicas):
            process, database = Cores(1), number % site.databases
            transact = self._transaction(process, self._database_cores[database], logs[database])
            queue = Collector(transact, site.batch)
            for _ in range(site.clients):
                self._clock.after(self._random.random() * 0.01, self._client(process, queue))

    def run(self, seconds: float = 1.0, warm_up: float = 0.3) -> Result:
        """Simulate; what happens in the warm-up does not count."""
        self._clock.run(warm_up)
        self._reset()
        self._clock.run(warm_up + seconds)
        site = self._site
        cuts = statistics.quantiles(self._latencies, n=100)
        return Result(
            rate=len(self._latencies) / seconds,
            p50=cuts[49],
            p95=cuts[94],
            batch=len(self._latencies) / self._batches,
            server=self._busy["server"] / seconds / site.replicas,
            database=self._busy["database"] / seconds / (site.shared_cores or site.database_cores * site.databases),
            log=self._busy["log"] / seconds / site.databases,
        )

    def _reset(self) -> None:
        self._latencies: list[float] = []
        self._batches = 0
        self._busy = {"client": 0.0, "server": 0.0, "database": 0.0, "log": 0.0}

    def _compute(self, who: str, seconds: float, then: Action, cores: Cores, owner: Cores | None = None) -> None:
        """Work so long on one of the cores, and for a process on nothing else at the same time."""

        def end() -> None:
            self._busy[who] += seconds
            cores.give()
            if owner is not None:
                owner.give()
            then()

        def begin() -> None:
            cores.take(lambda: self._clock.after(seconds, end))

        if owner is None:
            begin()
        else:
            owner.take(begin)

    def _client(self, process: Cores, queue: Collector) -> Action:
        def send() -> None:
            self._compute("client", self._costs.client_event, receive, self._client_cores)

        def receive() -> None:
            begin = self._clock.now

            def answered() -> None:
                self._latencies.append(self._clock.now - begin)
                send()

            item = Item(1, answered)
            self._compute("server", self._costs.server_event, lambda: queue.add(item), self._server_cores, process)

        return send

    def _transaction(
        self, process: Cores, database: Cores, log: Collector
    ) -> Callable[[Callable[[], list[Item]], Action], None]:
        costs = self._costs

        def transact(take: Callable[[], list[Item]], then: Action) -> None:
            def query() -> None:
                items = take()  # the requests that the process had before it came to this are among them
                seconds = costs.database_batch + costs.database_event * len(items)

                def committed() -> None:
                    self._batches += 1
                    for item in items:
                        item.done()
                    then()

                self._compute("database", seconds, lambda: log.add(Item(len(items), committed)), database)

            self._compute("server", costs.server_batch, query, self._server_cores, process)

        return transact

    def _flush(self, take: Callable[[], list[Item]], then: Action) -> None:
        commits = take()
        writing = sum(commit.events for commit in commits) * self._costs.log_bytes / self._costs.log_bandwidth

        def done() -> None:
            self._busy["log"] += writing  # the flush itself is shared by however many commit: it is no limit
            for commit in commits:
                commit.done()
            then()

        self._clock.after(self._costs.flush + writing, done)


def line(site: Site, result: Result) -> str:
    """The prediction for people."""
    return (
        f"{site.replicas:>8} {result.rate:>9.0f} {result.p50 * 1e3:>8.1f} {result.p95 * 1e3:>8.1f} {result.batch:>7.1f}"
        f" {result.server:>7.0%} {result.database:>9.0%} {result.log:>6.0%}  {result.limit}"
    )


def main() -> None:
    """Parse the command line and print one line per number of replicas."""
    parser = argparse.ArgumentParser(description="Predicts events per second of several replicas.")
    parser.add_argument("--replicas", default="1,10,100")
    for name, default in vars(Site(1)).items():
        if name != "replicas":
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    for name, default in vars(Costs()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int if isinstance(default, int) else float, default=default
        )
    parser.add_argument("--seconds", type=float, default=1.0)
    chosen = vars(parser.parse_args())
    costs = Costs(**{name: chosen[name] for name in vars(Costs())})
    print("replicas  events/s  p50 (ms)  p95 (ms)  batch  server  database    log  busiest")
    for replicas in map(int, chosen["replicas"].split(",")):
        site = Site(replicas, **{name: chosen[name] for name in vars(Site(1)) if name != "replicas"})
        print(line(site, Simulation(site, costs).run(chosen["seconds"])))


if __name__ == "__main__":
    main()
