"""Probes, pool state and the scrape endpoint (spec 10, section 3; spec 60, sections 7 and 10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from noetl.http.application import HttpApplication
from noetl.http.health import DatabaseState, HealthRoutes, NatsState, Phase
from noetl.http.metrics import MetricsRoutes
from noetl.store.database import PoolStatistics

if TYPE_CHECKING:
    from tests.integration.http.rawhttp import RawClient, Serve


@dataclass
class State:
    """The state of a process, as a test sets it."""

    phase: Phase = Phase.RUNNING
    database: DatabaseState = DatabaseState.OK
    nats: NatsState = NatsState.CONNECTED
    pool: PoolStatistics = field(default_factory=lambda: PoolStatistics(1, 10, 4, 3, 0))
    uptime_seconds: float = 66.9
    version: str = "9.8.7"
    server_name: str = "control"


class Text:
    async def render(self) -> bytes:
        return b"noetl_up 1\n"


@pytest.fixture(scope="module")
def state() -> State:
    return State()


@pytest.fixture(scope="module")
async def connection(serve: Serve, state: State) -> RawClient:
    application = HttpApplication(max_in_flight=0)  # probes are served at any load
    HealthRoutes(state).register(application)
    MetricsRoutes(Text()).register(application)
    return await serve(application)


@pytest.fixture
def client(connection: RawClient, state: State) -> RawClient:
    vars(state).update(vars(State()))
    return connection


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_liveness_is_200_whatever_happens(client: RawClient, state: State, path: str, phase: Phase) -> None:
    state.phase, state.database, state.nats = phase, DatabaseState.UNREACHABLE, NatsState.DISCONNECTED
    assert (await client.get(path)).body == b'{"status":"ok"}'
    assert (await client.request("HEAD", path)).status == 200


async def test_health_tells_database_and_nats(client: RawClient, state: State) -> None:
    reply = await client.get("/api/health")
    assert reply.status == 200
    assert reply.body == (
        b'{"status":"ok","database":"connected","nats":"connected","uptime_seconds":66,"version":"9.8.7",'
        b'"server_name":"control"}'
    )
    for nats in NatsState:
        state.nats = nats
        reply = await client.get("/api/health")
        assert (reply.status, reply.json["nats"]) == (200, nats)


@pytest.mark.parametrize("database", [DatabaseState.UNREACHABLE, DatabaseState.TIMEOUT])
async def test_health_is_503_without_the_database(client: RawClient, state: State, database: DatabaseState) -> None:
    state.database = database
    reply = await client.get("/api/health")
    assert (reply.status, reply.json["status"], reply.json["database"]) == (503, "unhealthy", "disconnected")


@pytest.mark.parametrize(
    ("phase", "database", "nats", "status", "word", "checks"),
    [
        ("running", "ok", "connected", 200, "ready", ("ok", "ok")),
        ("running", "ok", "not_configured", 200, "ready", ("ok", "not_configured")),
        ("running", "ok", "disconnected", 503, "not_ready", ("ok", "disconnected")),
        ("running", "unreachable", "connected", 503, "not_ready", ("unreachable", "ok")),
        ("running", "timeout", "not_configured", 503, "not_ready", ("timeout", "not_configured")),
        ("running", "schema_missing", "connected", 503, "not_ready", ("schema_missing", "ok")),
        ("starting", "ok", "connected", 503, "starting", ("ok", "ok")),
        ("draining", "ok", "connected", 503, "draining", ("ok", "ok")),
        ("draining", "unreachable", "disconnected", 503, "draining", ("unreachable", "disconnected")),
    ],
)
async def test_readiness(
    client: RawClient,
    state: State,
    phase: str,
    database: str,
    nats: str,
    status: int,
    word: str,
    checks: tuple[str, str],
) -> None:
    state.phase, state.database, state.nats = Phase(phase), DatabaseState(database), NatsState(nats)
    reply = await client.get("/readyz")
    connected = "connected" if database in {"ok", "schema_missing"} else "disconnected"
    assert (reply.status, reply.json) == (
        status,
        {
            "status": word,
            "checks": {"postgres": checks[0], "nats": checks[1]},
            "database": connected,
            "nats": nats,
        },
    )


async def test_pool_status(client: RawClient, state: State) -> None:
    assert (await client.get("/api/pool/status")).body == (
        b'{"pool_min":1,"pool_max":10,"pool_size":4,"pool_available":3,"requests_waiting":0,"utilization":0.1,'
        b'"slots_available":9,"status":"ok"}'
    )
    state.pool = PoolStatistics(0, 0, 0, 0, 0)
    assert (await client.get("/api/pool/status")).json["utilization"] == 0.0


async def test_metrics_are_prometheus_text(client: RawClient) -> None:
    reply = await client.get("/metrics")
    assert (reply.status, reply.text) == (200, "noetl_up 1\n")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_that_are_not_registered_are_404(serve: Serve) -> None:
    assert (await (await serve(HttpApplication())).get("/metrics")).status == 404
