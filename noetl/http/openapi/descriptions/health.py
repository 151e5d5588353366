"""Describes the routes of `noetl.http.health` and `noetl.http.metrics`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from noetl.http.health import DatabaseState, Phase
from noetl.http.openapi.description import Answer, Count, Operation, Tag

NatsWord = Literal["connected", "disconnected", "not_configured"]
DatabaseWord = Literal["connected", "disconnected"]


class Alive(Struct):
    """The process serves."""

    status: Literal["ok"]


class Health(Struct):
    """What the last probes of database and NATS found."""

    status: Literal["ok", "unhealthy"]
    database: DatabaseWord
    nats: NatsWord
    uptime_seconds: Count
    version: str
    server_name: str


class Checks(Struct):
    """The checks of readiness."""

    postgres: DatabaseState
    nats: Literal["ok", "disconnected", "not_configured"]


class Readiness(Struct):
    """Whether the process may get traffic."""

    status: Literal["ready", "not_ready", "starting", "draining"]
    checks: Checks
    database: DatabaseWord
    nats: NatsWord


class PoolStatus(Struct):
    """Use of the connections to the database."""

    pool_min: Count
    pool_max: Count
    pool_size: Count
    pool_available: Count
    requests_waiting: Count
    utilization: Annotated[float, Meta(ge=0, le=1, description="Used part of the maximum")]
    slots_available: int
    status: Literal["ok"]


assert {*Phase} == {"starting", "running", "draining"}, "Readiness.status tells them"

HEALTH = Tag(
    "Health",
    "What probes, autoscalers and Prometheus ask. None of these routes waits for the database.",
    (
        Operation(
            method="GET",
            route="/health",
            summary="Is the process alive",
            text="200 as long as the process serves.",
            answers=(Answer(Alive, "It is"),),
            database=False,
            probe=True,
        ),
        Operation(
            method="GET",
            route="/healthz",
            summary="Liveness probe",
            text="As `/health`.",
            answers=(Answer(Alive, "The process serves"),),
            database=False,
            probe=True,
        ),
        Operation(
            method="GET",
            route="/api/health",
            summary="Health of the server",
            text="State of the database and of NATS. NATS never changes the status.",
            answers=(
                Answer(Health, "The database answers"),
                Answer(
                    Health,
                    "The database does not answer",
                    503,
                    example={
                        "status": "unhealthy",
                        "database": "disconnected",
                        "nats": "connected",
                        "uptime_seconds": 66,
                        "version": "0.1.0",
                        "server_name": "noetl-control-plane",
                    },
                ),
            ),
            database=False,
            probe=True,
        ),
        Operation(
            method="GET",
            route="/readyz",
            summary="Readiness probe",
            text="Whether the process may get traffic: it has started, does not drain, and reaches its database and, "
            "if one is configured, NATS.",
            answers=(
                Answer(Readiness, "Ready"),
                Answer(
                    Readiness,
                    "Not ready",
                    503,
                    example={
                        "status": "not_ready",
                        "checks": {"postgres": "unreachable", "nats": "ok"},
                        "database": "disconnected",
                        "nats": "connected",
                    },
                ),
            ),
            database=False,
            probe=True,
        ),
        Operation(
            method="GET",
            route="/api/pool/status",
            summary="Connection pool",
            answers=(Answer(PoolStatus, "The pool"),),
            database=False,
            probe=True,
        ),
        Operation(
            method="GET",
            route="/metrics",
            summary="Prometheus metrics",
            text="All metric families of all processes of this server. 404 with `NOETL_DISABLE_METRICS`.",
            answers=(
                Answer(
                    str,
                    "Exposition format 0.0.4",
                    media="text/plain; version=0.0.4; charset=utf-8",
                    example="# HELP noetl_events_ingested_total Events that clients sent one at a time.\n"
                    "# TYPE noetl_events_ingested_total counter\n"
                    'noetl_events_ingested_total{event_type="call.done",status="ok"} 1\n',
                ),
            ),
            database=False,
            probe=True,
        ),
    ),
)
