"""What this process knows about itself and its services, kept fresh by a probe of its own."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final

from noetl.errors import NoetlError
from noetl.http.health import DatabaseState, NatsState, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from noetl.messaging.connection import NatsConnection
    from noetl.store.connection import Connection
    from noetl.store.database import Database, PoolStatistics

log = logging.getLogger("noetl.runtime")

PROBE_SECONDS: Final = 1.0
PROBE_TIMEOUT_SECONDS: Final = 1.0


class ProcessHealth:
    """Implements `noetl.http.health.HealthSource`."""

    def __init__(
        self, databases: Sequence[Database], nats: NatsConnection | None, *, version: str, server_name: str
    ) -> None:
        """``databases``: the cluster database first; all must answer."""
        self._databases = list(databases)
        self._nats = nats
        self._started_at = monotonic()
        self._states = [DatabaseState.OK for _ in databases]
        self._reachable_since = monotonic()
        self.phase = Phase.STARTING
        self.schema_missing = False
        self.version = version
        self.server_name = server_name

    @property
    def database(self) -> DatabaseState:
        """The worst state of all databases."""
        for state in (DatabaseState.UNREACHABLE, DatabaseState.TIMEOUT):
            if state in self._states:
                return state
        return DatabaseState.SCHEMA_MISSING if self.schema_missing else DatabaseState.OK

    @property
    def nats(self) -> NatsState:
        """Live state of NATS."""
        return NatsState.NOT_CONFIGURED if self._nats is None else NatsState(self._nats.state)

    @property
    def pool(self) -> PoolStatistics:
        """Use of the cluster database's pool."""
        return self._databases[0].statistics()

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the process was composed."""
        return monotonic() - self._started_at

    def could_hear_for(self, seconds: float) -> bool:
        """Whether heartbeats could be stored through this process for the last so many seconds."""
        return self.database is DatabaseState.OK and monotonic() - self._reachable_since >= seconds

    async def run(self) -> None:
        """Probe all databases until cancelled, each over a connection that requests cannot exhaust."""
        async with asyncio.TaskGroup() as probes:
            for index in range(len(self._databases)):
                probes.create_task(self._probe_for_ever(index))

    async def _probe_for_ever(self, index: int) -> None:
        connection: Connection | None = None
        try:
            while True:
                state, connection = await self._probe(index, connection)
                if state is not self._states[index]:
                    log.warning("Database state changed", extra={"database": index, "state": state.value})
                    self._states[index] = state
                    self._reachable_since = monotonic()
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            if connection is not None:
                connection.terminate()

    async def _probe(
        self, index: int, connection: Connection | None
    ) -> tuple[DatabaseState, Connection | None]:  # fmt: skip
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                if connection is None or connection.is_closed():
                    connection = await self._databases[index].connect_dedicated()
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
