"""The faults: each breaks something of a site for a while, and has healed it when it returns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import psutil

from tests.faults.checker import connect
from tests.faults.site import set_clock

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Sequence

    from noetl.dev.services import EmbeddedService
    from tests.faults.crew_process import CrewProcess
    from tests.faults.real_worker import RealWorker
    from tests.faults.site import Site

    Fault = Callable[["Place"], Awaitable[None]]

LEASE_SECONDS: Final = 6.0
"""Of the servers' periodic work (`noetl.server`); stopped ones stay stopped for longer."""
CLOCK_SECONDS: Final = 90


class Place:
    """Where a fault strikes: everything there is, one server and one crew by lot, and for how long."""

    def __init__(
        self,
        site: Site,
        crews: Sequence[CrewProcess],
        chance: random.Random,
        real_worker: RealWorker | None = None,
    ) -> None:
        self.site = site
        self.real_worker = real_worker
        self.server_number = chance.randrange(len(site.servers))
        self.server = site.servers[self.server_number]
        self.crew = chance.choice(crews)
        self.seconds = chance.uniform(0.1, 1.0)
        """How long something is away or wrong."""
        self.link = site.links[chance.choice(sorted(site.links))]
        self.times = chance.randrange(1, 4)
        self.healing_since: float | None = None
        """When that which was away began to come back (monotonic), where it takes time to come back."""
        self.killed = 0
        """Processes that a signal 9 has ended; PostgreSQL counts as one, whatever backends it had."""

    def __str__(self) -> str:
        crew = self.crew.data_directory.name
        return f"server {self.server_number}, {crew}, link {self.link.name}, {self.seconds:.2f} s"


async def _again(service: EmbeddedService, place: Place) -> None:
    await asyncio.sleep(place.seconds)
    place.healing_since = time.monotonic()
    await service.start()


async def _kill(service: EmbeddedService, place: Place) -> None:
    await service.kill()
    place.killed += 1
    await _again(service, place)


async def _terminate(service: EmbeddedService, place: Place) -> None:
    await service.stop()
    await _again(service, place)


async def _freeze(service: EmbeddedService, seconds: float) -> None:
    """SIGSTOP of the process and its children."""
    top = psutil.Process(service.pid)
    processes = [top, *top.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    await asyncio.sleep(seconds)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


async def kill_server(place: Place) -> None:
    """`kill -9` of a server."""
    await _kill(place.server, place)


async def terminate_server(place: Place) -> None:
    """SIGTERM of a server."""
    await _terminate(place.server, place)


async def stop_server(place: Place) -> None:
    """SIGSTOP of a server for longer than its leases."""
    await _freeze(place.server, LEASE_SECONDS + place.seconds)


async def kill_crew(place: Place) -> None:
    """`kill -9` of workers, which come back under their names."""
    await _kill(place.crew, place)


async def terminate_crew(place: Place) -> None:
    """SIGTERM of workers."""
    await _terminate(place.crew, place)


async def stop_crew(place: Place) -> None:
    """SIGSTOP of workers for longer than a claim lasts; they go on as if nothing had happened."""
    await _freeze(place.crew, LEASE_SECONDS + place.seconds)


async def kill_nats(place: Place) -> None:
    """`kill -9` of NATS, which comes back with its streams."""
    await _kill(place.site.nats, place)


async def terminate_nats(place: Place) -> None:
    """SIGTERM of NATS."""
    await _terminate(place.site.nats, place)


async def stop_nats(place: Place) -> None:
    """SIGSTOP of NATS."""
    await _freeze(place.site.nats, LEASE_SECONDS + place.seconds)


async def empty_nats(place: Place) -> None:
    """NATS comes back with nothing: no stream, no consumer, no message."""
    await place.site.nats.kill()
    shutil.rmtree(place.site.nats.data_directory / "jetstream")
    await _again(place.site.nats, place)


async def kill_postgres(place: Place) -> None:
    """`kill -9` of PostgreSQL."""
    await _kill(place.site.postgres, place)


async def terminate_postgres(place: Place) -> None:
    """A fast shutdown of PostgreSQL."""
    await _terminate(place.site.postgres, place)


async def restart_postgres(place: Place) -> None:
    """An immediate shutdown of PostgreSQL: backends are cut, the log is replayed."""
    os.kill(place.site.postgres.pid, signal.SIGQUIT)
    await _ended(place.site.postgres)
    await _again(place.site.postgres, place)


async def stop_postgres(place: Place) -> None:
    """SIGSTOP of PostgreSQL with all its backends."""
    await _freeze(place.site.postgres, LEASE_SECONDS + place.seconds)


async def terminate_backends(place: Place) -> None:
    """Some connections to PostgreSQL are terminated, again and again."""
    for _ in range(place.times):
        await _administer(
            place,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'faults'"
            " AND pid <> pg_backend_pid()",
        )
        await asyncio.sleep(place.seconds / 4)


async def kill_backend(place: Place) -> None:
    """`kill -9` of one backend: PostgreSQL ends all others, which is waited for, and recovers by itself."""
    ended = asyncio.Event()
    connection = await connect(place.site.postgres.dsn)
    connection.add_termination_listener(lambda _connection: ended.set())
    pid = await connection.fetchval("SELECT pid FROM pg_stat_activity WHERE datname = 'faults' ORDER BY pid LIMIT 1")
    if pid is None:
        await connection.close()
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        place.killed += 1
        async with asyncio.timeout(30):
            await ended.wait()


async def read_only_postgres(place: Place) -> None:
    """Transactions may not write for a while."""
    await _administer(place, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    await asyncio.sleep(1 + place.seconds)
    await _administer(
        place,
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    )


async def fill_disk(place: Place) -> None:
    """The disk of PostgreSQL is full for a while; it may or may not survive that."""
    site = place.site
    assert site.volume is not None, "needs a volume of PostgreSQL's own"
    filler = site.volume / "filler"
    deadline = asyncio.get_running_loop().time() + 3 + place.seconds
    with filler.open("ab", buffering=0) as file:
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.to_thread(_fill, file)
            await asyncio.sleep(0.02)
    filler.unlink()
    if site.postgres.exit_code is not None:
        await site.postgres.kill()
        await site.postgres.start()
    while True:
        try:
            await _administer(place, "CHECKPOINT")
            return
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.05)


async def kill_real_worker(place: Place) -> None:
    """`kill -9` of the real worker."""
    assert place.real_worker is not None, "needs the real worker"
    await place.real_worker.crash(place.seconds)
    place.killed += 1


async def kill_everything(place: Place) -> None:
    """As a power cut of the whole site, without the crews."""
    site = place.site
    services = (*site.servers, site.nats, site.postgres)
    await asyncio.gather(*(service.kill() for service in services))
    place.killed += len(services)
    await asyncio.sleep(place.seconds)
    place.healing_since = time.monotonic()
    await asyncio.gather(site.nats.start(), site.postgres.start())
    await asyncio.gather(*(server.start() for server in site.servers))


async def cut_link(place: Place) -> None:
    """All connections of a link are reset, several times."""
    for _ in range(place.times):
        place.link.cut()
        await asyncio.sleep(place.seconds / 4)


async def half_close_link(place: Place) -> None:
    """One end of all connections of a link says that it is done."""
    place.link.half_close()
    await asyncio.sleep(place.seconds)


async def delay_link(place: Place) -> None:
    """Everything over a link comes late."""
    place.link.delay_seconds = place.seconds / 2
    await asyncio.sleep(2)
    place.link.heal()


async def swallow_link(place: Place) -> None:
    """Nothing comes over a link, and nobody says so."""
    place.link.swallow()
    await asyncio.sleep(3 * place.seconds + 1)
    place.link.heal()


async def swallow_link_for_long(place: Place) -> None:
    """A black hole that outlasts leases and time limits, and whose connections are reset at its end."""
    place.link.swallow()
    await asyncio.sleep(LEASE_SECONDS + 5 + place.seconds)
    place.link.cut()
    place.link.heal()


async def clock_ahead(place: Place) -> None:
    """The clock of the last server jumps ahead, and back again."""
    await _turn_clock(place, CLOCK_SECONDS)


async def clock_back(place: Place) -> None:
    """The clock of the last server jumps back, and ahead again."""
    await _turn_clock(place, -CLOCK_SECONDS)


FAULTS: Final[dict[str, Fault]] = {
    "server-kill": kill_server,
    "server-term": terminate_server,
    "server-stop": stop_server,
    "crew-kill": kill_crew,
    "crew-term": terminate_crew,
    "crew-stop": stop_crew,
    "nats-kill": kill_nats,
    "nats-term": terminate_nats,
    "nats-stop": stop_nats,
    "nats-empty": empty_nats,
    "postgres-kill": kill_postgres,
    "postgres-term": terminate_postgres,
    "postgres-immediate": restart_postgres,
    "postgres-stop": stop_postgres,
    "postgres-backends": terminate_backends,
    "postgres-backend-kill": kill_backend,
    "postgres-read-only": read_only_postgres,
    "postgres-full": fill_disk,
    "everything-kill": kill_everything,
    "real-worker-kill": kill_real_worker,
    "link-cut": cut_link,
    "link-half-close": half_close_link,
    "link-delay": delay_link,
    "link-hole": swallow_link,
    "link-long-hole": swallow_link_for_long,
    "clock-ahead": clock_ahead,
    "clock-back": clock_back,
}


async def _turn_clock(place: Place, seconds: int) -> None:
    set_clock(place.site.folder, seconds)
    await asyncio.sleep(2 + place.seconds)
    set_clock(place.site.folder, 0)
    await asyncio.sleep(1)  # until the library reads it


async def _administer(place: Place, *statements: str) -> list[Any]:
    connection = await connect(place.site.postgres.dsn)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


async def _ended(service: EmbeddedService) -> None:
    async with asyncio.timeout(30):
        while service.exit_code is None:  # noqa: ASYNC110 (a process that is not asyncio's)
            await asyncio.sleep(0.01)
    await service.stop()


def _fill(file: Any) -> None:
    """Write until nothing more fits."""
    piece = bytes(1 << 20)
    while piece:
        try:
            file.write(piece)
        except OSError:
            piece = piece[: len(piece) // 2]
