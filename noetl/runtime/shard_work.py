"""The periodic work on the executions of one shard: settling, partitions, recovery, announcing again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from noetl.messaging.reannouncer import Reannouncer
from noetl.messaging.streams import SEGMENTS
from noetl.runtime.partitions import make_partitions
from noetl.runtime.periodic import Job
from noetl.runtime.recovery import CommandRecovery
from noetl.store.commands import CommandStore
from noetl.store.partitions import PartitionStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from noetl.config.settings import CommandSettings
    from noetl.ledger.playbooks import Playbooks
    from noetl.messaging.announcer import NatsAnnouncer
    from noetl.messaging.connection import NatsConnection
    from noetl.observability.metrics import Metrics
    from noetl.runtime.recovery import RequeueLedger
    from noetl.store.database import Database
    from noetl.store.executions import ExecutionStore

SETTLEMENT_SECONDS: Final = 30.0
"""Between two searches for executions that other servers on the same database started or ended."""
PARTITION_SECONDS: Final = 86_400.0
REANNOUNCE_SECONDS: Final = 2.0


class ShardHealth(Protocol):
    """What is known about the databases."""

    def is_reachable(self, database: Database) -> bool:
        """Whether it answers."""
        ...

    def could_hear_for(self, seconds: float, database: Database | None = None) -> bool:
        """Whether heartbeats could be stored in it for so long."""
        ...


class ShardWork:
    """Makes the jobs of each shard. One that is away is passed over, so that it does not hold up the others."""

    def __init__(
        self,
        cluster: Database,
        ledger: RequeueLedger,
        playbooks: Playbooks,
        health: ShardHealth,
        metrics: Metrics,
        limits: CommandSettings,
    ) -> None:
        self._cluster = cluster
        self._ledger = ledger
        self._playbooks = playbooks
        self._health = health
        self._metrics = metrics
        self._limits = limits
        self._reannouncers: list[Reannouncer] = []

    def jobs(
        self,
        shard: Database,
        executions: ExecutionStore,
        nats: NatsConnection | None,
        announcer: NatsAnnouncer | None,
    ) -> list[Job]:
        """The jobs of one shard; nothing is announced without ``nats`` and ``announcer``."""
        limits = self._limits
        commands = CommandStore(shard, self._cluster)

        def here(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
            async def run_if_reachable() -> None:
                if self._health.is_reachable(shard):
                    await run()

            return run_if_reachable

        jobs = [
            Job("settlement", SETTLEMENT_SECONDS, here(executions.settlement.sweep)),
            Job("partitions", PARTITION_SECONDS, here(lambda: make_partitions(PartitionStore(shard)))),
        ]
        if limits.reaper_enabled:
            recovery = CommandRecovery(
                commands,
                self._ledger,
                silent_seconds=limits.reaper_worker_stale_seconds,
                unknown_worker_seconds=limits.reaper_healthy_hard_timeout_seconds,
                claim_lease_seconds=limits.claim_lease_seconds,
                max_attempts=limits.max_attempts,
                limit=limits.reaper_max_per_run,
                can_judge=lambda seconds: self._health.could_hear_for(seconds, shard),
            )
            jobs.append(Job("recovery", limits.reaper_interval_seconds, recovery.sweep))
        if nats is not None and announcer is not None:
            reannouncer = Reannouncer(
                commands,
                nats,
                announcer,
                self._playbooks,
                after_seconds=limits.announce_after_seconds,
                first_pause_seconds=limits.reaper_pending_retry_seconds,
                per_second=limits.announce_rate,
            )
            self._reannouncers.append(reannouncer)

            async def reannounce() -> None:
                self._metrics.nats_reannounced.inc(await reannouncer.sweep())

            jobs.append(Job("reannounce", REANNOUNCE_SECONDS, here(reannounce)))
        return jobs

    def track(self) -> None:
        """Show for which pools commands wait while nobody listens, on any shard."""
        for segment in SEGMENTS:
            self._metrics.nats_unheard.labels(segment).track(
                lambda segment=segment: float(any(one.is_unheard(segment) for one in self._reannouncers))
            )
