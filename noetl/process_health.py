"""What this process knows about itself and its services, kept fresh by a probe of its own."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from noetl.errors import NoetlError
from noetl.http.health import DatabaseState, NatsState, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noetl.messaging.connection import NatsConnection
    from noetl.store.connection import Connection
    from noetl.store.database import Database, PoolStatistics

log = logging.getLogger("noetl.runtime")

PROBE_SECONDS: Final = 1.0
PROBE_TIMEOUT_SECONDS: Final = 1.0


class ProcessHealth:
    """Implements `noetl.http.health.HealthSource`."""

    def __init__(
        self, databases: Mapping[str, Database], nats: NatsConnection | None, *, version: str, server_name: str
    ) -> None:
        """``databases`` by name, the cluster database first. A shard that is away does not make the process unready.

        Its executions wait; taking the process out of traffic would stop those of all others.
        """
        self._databases = dict(databases)
        self._cluster = next(iter(databases.values()))
        self._nats = nats
        self._started_at = monotonic()
        self._states = dict.fromkeys(databases.values(), DatabaseState.OK)
        self._reachable_since = dict.fromkeys(databases.values(), monotonic())
        self.phase = Phase.STARTING
        self.schema_missing = False
        self.version = version
        self.server_name = server_name

    @property
    def database(self) -> DatabaseState:
        """The state of the cluster database."""
        state = self._states[self._cluster]
        return DatabaseState.SCHEMA_MISSING if state is DatabaseState.OK and self.schema_missing else state

    @property
    def nats(self) -> NatsState:
        """Live state of NATS."""
        return NatsState.NOT_CONFIGURED if self._nats is None else NatsState(self._nats.state)

    @property
    def pool(self) -> PoolStatistics:
        """Use of the cluster database's pool."""
        return self._cluster.statistics()

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the process was composed."""
        return monotonic() - self._started_at

    def is_reachable(self, database: Database) -> bool:
        """Whether the last probe of a database was answered."""
        return self._states[database] is DatabaseState.OK

    def could_hear_for(self, seconds: float, database: Database | None = None) -> bool:
        """Whether heartbeats could be stored through this process for the last so many seconds.

        Those of workers are in the cluster database, those of commands in ``database``.
        """
        since = monotonic() - seconds
        return self.database is DatabaseState.OK and all(
            self.is_reachable(one) and self._reachable_since[one] <= since
            for one in (self._cluster, database or self._cluster)
        )

    async def run(self) -> None:
        """Probe all databases until cancelled, each over a connection that requests cannot exhaust."""
        async with asyncio.TaskGroup() as probes:
            for name, database in self._databases.items():
                probes.create_task(self._probe_for_ever(name, database))

    async def _probe_for_ever(self, name: str, database: Database) -> None:
        connection: Connection | None = None
        try:
            while True:
                state, connection = await _probe(database, connection)
                if state is not self._states[database]:
                    log.warning("Database state changed", extra={"database": name, "state": state.value})
                    self._states[database] = state
                    self._reachable_since[database] = monotonic()
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            if connection is not None:
                connection.terminate()


async def _probe(database: Database, connection: Connection | None) -> tuple[DatabaseState, Connection | None]:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            if connection is None or connection.is_closed():
                connection = await database.connect_dedicated()
            await connection.fetchval("SELECT 1")
    except TimeoutError:
        state = DatabaseState.TIMEOUT
    except NoetlError:
        state = DatabaseState.UNREACHABLE
    except Exception as error:  # whatever the driver says: the database does not answer
        log.debug("Database probe failed", extra={"error": repr(error)})
        state = DatabaseState.UNREACHABLE
    else:
        return DatabaseState.OK, connection
    if connection is not None:
        connection.terminate()
    return state, None
