"""Liveness, readiness and pool state (spec 10, section 3; spec 60, section 7).

No route here does I/O: the states come from a background probe behind :class:`HealthSource`, so that probes answer at
once however busy the database is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from noetl.http.responses import json_bytes_response, json_response

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.database import PoolStatistics


class Phase(StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


class DatabaseState(StrEnum):
    """What the last probe of the database found; with shards, of the cluster database."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    SCHEMA_MISSING = "schema_missing"


class NatsState(StrEnum):
    """The live state of the NATS connection."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    NOT_CONFIGURED = "not_configured"


class HealthSource(Protocol):
    """What the composition root knows about the process; every member is read without waiting."""

    @property
    def phase(self) -> Phase: ...
    @property
    def database(self) -> DatabaseState: ...
    @property
    def nats(self) -> NatsState: ...
    @property
    def pool(self) -> PoolStatistics: ...
    @property
    def uptime_seconds(self) -> float: ...
    @property
    def version(self) -> str: ...
    @property
    def server_name(self) -> str: ...


class HealthRoutes:
    """The routes that probes call; they are served even when the limit of requests in flight is reached."""

    def __init__(self, source: HealthSource) -> None:
        self._source = source

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``."""
        for path, handler in (
            ("/health", self.alive),
            ("/healthz", self.alive),
            ("/api/health", self.health),
            ("/readyz", self.ready),
            ("/api/pool/status", self.pool_status),
        ):
            application.add_route("GET", path, handler, quiet=True, always=True)

    async def alive(self, _request: Request) -> Response:
        """200 while the process serves."""
        return json_bytes_response(b'{"status":"ok"}')

    async def health(self, _request: Request) -> Response:
        """State of the database and of NATS; 503 when the database does not answer. NATS never changes the status."""
        source = self._source
        reachable = source.database in {DatabaseState.OK, DatabaseState.SCHEMA_MISSING}
        return json_response(
            {
                "status": "ok" if reachable else "unhealthy",
                "database": "connected" if reachable else "disconnected",
                "nats": source.nats,
                "uptime_seconds": int(source.uptime_seconds),
                "version": source.version,
                "server_name": source.server_name,
            },
            200 if reachable else 503,
        )

    async def ready(self, _request: Request) -> Response:
        """200 when the process may get traffic: started, not draining, database and (if configured) NATS there.

        The members ``database`` and ``nats`` repeat ``checks`` in the words of `/api/health`.
        """
        source = self._source
        database, nats = source.database, source.nats
        ready = source.phase is Phase.RUNNING and database is DatabaseState.OK and nats is not NatsState.DISCONNECTED
        status = "ready" if ready else "not_ready" if source.phase is Phase.RUNNING else source.phase.value
        reachable = database in {DatabaseState.OK, DatabaseState.SCHEMA_MISSING}
        return json_response(
            {
                "status": status,
                "checks": {"postgres": database, "nats": "ok" if nats is NatsState.CONNECTED else nats},
                "database": "connected" if reachable else "disconnected",
                "nats": nats,
            },
            200 if ready else 503,
        )

    async def pool_status(self, _request: Request) -> Response:
        """Use of the connection pool; ``utilization`` is the used part of the maximum, 0 to 1."""
        pool = self._source.pool
        used = pool.size - pool.idle
        return json_response(
            {
                "pool_min": pool.minimum,
                "pool_max": pool.maximum,
                "pool_size": pool.size,
                "pool_available": pool.idle,
                "requests_waiting": pool.waiting,
                "utilization": used / pool.maximum if pool.maximum else 0.0,
                "slots_available": pool.maximum - used,
                "status": "ok",
            }
        )
