"""All metrics of the server, by name, and the calls that move them (spec 60, section 10)."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector

from noetl.observability.exposition import FamilySnapshot, merge, render, snapshot
from noetl.observability.instruments import OTHER, Counter, Family, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T", Counter, Gauge, Histogram)

REQUEST_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RESOLVE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
REMOTE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5)
LIFETIME_BUCKETS: Final = (60, 300, 900, 3600, 14400, 43200)
PHASE_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

MAXIMUM_EVENT_TYPES: Final = 200
"""Event types come from clients; after so many the rest is counted as ``other``."""
MAXIMUM_EVENT_TYPE_LENGTH: Final = 100

OUTCOMES: Final = ("ok", "error")
WRITE_ENDPOINTS: Final = (
    "catalog_register",
    "credentials_upsert",
    "keychain_set",
    "runtime_register",
    "runtime_heartbeat",
)
CALLBACK_STATES: Final = (
    "succeeded",
    "failed",
    "failed_image_pull",
    "failed_oom",
    "failed_node_lost",
    "failed_timeout",
)
RESOLVE_OUTCOMES: Final = {400: "bad_request", 404: "not_found"}
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

MERGE_RULES: Final = {
    "noetl_build_info": "max",
    "noetl_event_loop_lag_seconds": "max",
    "noetl_nats_connected": "min",
    "noetl_nats_segment_unheard": "max",
    "process_start_time_seconds": "min",
}
"""Families whose values are not added up over the processes of one server."""


class PoolStatistics(Protocol):
    """What a database pool tells about its connections."""

    @property
    def size(self) -> int: ...
    @property
    def idle(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def maximum(self) -> int: ...


class CacheStatistics(Protocol):
    """What a byte-bounded cache tells about itself."""

    bytes: int
    hits: int
    misses: int
    evictions: int

    def __len__(self) -> int: ...


class Metrics:
    """The metrics of one process. ``execution_id`` is never a label; labels that clients choose are capped.

    Families are attributes; ``family.labels(...)`` gives the child to keep. The ``observe_*`` methods are what the
    parts of the server call; each costs well under a microsecond or two.
    """

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._families: list[Family[Any]] = []
        ProcessCollector(registry=self._registry)
        self._gauge("noetl_build_info", "Version of the server.", "version").labels(version).set(1)
        self.event_loop_lag = self._gauge("noetl_event_loop_lag_seconds", "Delay of the event loop.").labels()
        self.log_lines_dropped = self._counter(
            "noetl_log_lines_dropped_total", "Log lines lost to a slow sink."
        ).labels()
        self.clock_backwards = self._counter(
            "noetl_snowflake_clock_backwards_total", "Times the clock was found behind the last id."
        ).labels()
        self._http()
        self._ingest()
        self._ledger()
        self._infrastructure()
        self._secrets()
        self._results()

    @property
    def families(self) -> tuple[Family[Any], ...]:
        """All families, those without a series too."""
        return tuple(self._families)

    def render(self) -> bytes:
        """The metrics of this process as text of `exposition.CONTENT_TYPE`."""
        return render(self.snapshot())

    def snapshot(self) -> list[FamilySnapshot]:
        """The metrics of this process, to be sent to the process that answers a scrape."""
        return snapshot(self._registry.collect())

    def render_with(self, others: Iterable[list[FamilySnapshot]]) -> bytes:
        """The metrics of this and other processes of the same server, added up."""
        return render(merge((self.snapshot(), *others), MERGE_RULES))

    def observe_request(self, method: str, route: str, status: int, seconds: float, /) -> None:
        """Count one answered request; ``route`` is the template of the route, never the path."""
        bound = self._bound_requests.get((method, route, status))
        if bound is None:
            known_method = method if method in METHODS else OTHER.upper()
            bound = self._bound_requests[known_method, route, status] = (
                self.http_requests.labels(known_method, route, str(status)),
                self.http_request_seconds.labels(route),
            )
        bound[0].inc()
        bound[1].observe(seconds)

    def observe_event(self, event_type: str, ok: bool, seconds: float, /) -> None:
        """Count one `POST /api/events` whose body was understood, with its whole time."""
        bound = self._bound_events.get(event_type)
        if bound is None:
            bound = self._bind_event_type(event_type)
        succeeded, failed, duration = bound
        (succeeded if ok else failed).inc()
        duration.observe(seconds)

    def observe_write(self, endpoint: str, ok: bool, seconds: float, /) -> None:
        """Count one call of a `WRITE_ENDPOINTS` route."""
        self.write_requests.labels(endpoint, "ok" if ok else "error").inc()
        self.write_request_seconds.labels(endpoint).observe(seconds)

    def observe_result_put(self, status: int, seconds: float, /) -> None:
        """Count one result that was stored, or not, by the HTTP status of the answer."""
        outcome = "ok" if status < 400 else "error"
        self.result_puts.labels(outcome).inc()
        self.result_put_seconds.labels(outcome).observe(seconds)

    def observe_result_resolve(self, status: int, seconds: float, /) -> None:
        """Count one result that was asked for, by the HTTP status of the answer."""
        outcome = RESOLVE_OUTCOMES.get(status, "ok" if status < 400 else "error")
        self.result_resolves.labels(outcome).inc()
        self.result_resolve_seconds.labels(outcome).observe(seconds)

    def count_audit(self, operation: str, outcome: str, status: str, /) -> None:
        """An audit record: ``status`` is ``written``, or how it was lost.

        Series with labels begin with their first record, so that no increase shows that one; hence the second counter.
        """
        self.secret_audit_writes.labels(operation, outcome, status).inc()
        if status != "written":
            self.secret_audit_lost.inc()

    def observe_batch(self, size: int) -> None:
        """Count one committed batch of a lane."""
        self._batch_size.observe(size)

    def observe_phase(self, phase: str, seconds: float) -> None:
        """Time of one batch in ``wait``, ``load``, ``decide`` or ``write``."""
        self._phases[phase].observe(seconds)

    def observe_pass(self, seconds: float) -> None:
        """The engine decided what follows from one event."""
        self.orchestrator_pass_seconds.observe(seconds)

    def observe_claim(self, outcome: str) -> None:
        """A claim ended with ``claimed``, ``conflict``, ``not_found`` or ``error``."""
        self.command_claims.labels(outcome).inc()

    def observe_announcement(self, segment: str, *, is_repeated: bool) -> None:
        """A command was issued for a pool segment, or taken back from a silent worker."""
        if is_repeated:
            self.commands_requeued.inc()
        else:
            self.commands_issued.labels(segment).inc()

    def observe_execution(self, status: str) -> None:
        """An execution ``started``, or ended ``completed``, ``failed`` or ``cancelled``."""
        if status == "started":
            self.executions_started.inc()
        else:
            self.executions_ended.labels(status).inc()

    def observe_publish(self, outcome: str, seconds: float) -> None:
        """One publish to NATS ended with ``ok`` or ``error``."""
        self.nats_publishes.labels(outcome).inc()
        self._publish_seconds.observe(seconds)

    def observe_sweep(self, sweep: str, ok: bool, seconds: float) -> None:
        """One run of periodic work ended."""
        self.sweeps.labels(sweep, "ok" if ok else "error").inc()
        self.sweep_seconds.labels(sweep).observe(seconds)

    def track_pool(self, pool: str, read: Callable[[], PoolStatistics]) -> None:
        """Show the connections of a database pool, read at every scrape."""
        self.db_pool_connections.labels(pool, "idle").track(lambda: read().idle)
        self.db_pool_connections.labels(pool, "used").track(lambda: (stat := read()).size - stat.idle)
        self.db_pool_connections.labels(pool, "waiting").track(lambda: read().waiting)
        self.db_pool_connections.labels(pool, "maximum").track(lambda: read().maximum)

    def track_state_cache(self, cache: CacheStatistics) -> None:
        """Show a cache of execution states, read at every scrape."""
        self.state_cache_entries.track(lambda: len(cache))
        self.state_cache_bytes.track(lambda: cache.bytes)
        self.state_cache_hits.track(lambda: cache.hits)
        self.state_cache_misses.track(lambda: cache.misses)
        self.state_cache_evictions.track(lambda: cache.evictions)

    async def watch_event_loop(self, interval_seconds: float = 1.0) -> None:
        """Measure until cancelled by how much the event loop wakes late: the gauge holds the last delay."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + interval_seconds
            await asyncio.sleep(interval_seconds)
            self.event_loop_lag.set(max(0.0, clock() - due))

    def _bind_event_type(self, event_type: str) -> tuple[Counter, Counter, Histogram]:
        full = len(self._bound_events) >= MAXIMUM_EVENT_TYPES and event_type != OTHER
        if full or len(event_type) > MAXIMUM_EVENT_TYPE_LENGTH:
            event_type = OTHER
        bound = self._bound_events[event_type] = self._bound_events.get(event_type) or (
            self.events_ingested.labels(event_type, "ok"),
            self.events_ingested.labels(event_type, "error"),
            self.event_ingest_seconds.labels(event_type),
        )
        return bound

    def _http(self) -> None:
        self.http_requests = self._counter(
            "noetl_http_requests_total", "Requests answered.", "method", "route", "status"
        )
        self.http_request_seconds = self._histogram(
            "noetl_http_request_duration_seconds", "Time to answer a request.", REQUEST_BUCKETS, "route"
        )
        self.http_in_flight = self._gauge("noetl_http_requests_in_flight", "Requests being handled.").labels()
        self._bound_requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.write_requests = self._counter(
            "noetl_write_requests_total",
            "Calls of write routes.",
            "endpoint",
            "status",
            known=(WRITE_ENDPOINTS, OUTCOMES),
        )
        self.write_request_seconds = self._histogram(
            "noetl_write_request_duration_seconds",
            "Time of calls of write routes.",
            REQUEST_BUCKETS,
            "endpoint",
            known=(WRITE_ENDPOINTS,),
        )

    def _ingest(self) -> None:
        self.events_ingested = self._counter(
            "noetl_events_ingested_total", "Events that clients sent one at a time.", "event_type", "status"
        )
        self.event_ingest_seconds = self._histogram(
            "noetl_event_ingest_duration_seconds", "Time to take one event in.", REQUEST_BUCKETS, "event_type"
        )
        self._bound_events: dict[str, tuple[Counter, Counter, Histogram]] = {}
        self.container_callbacks = self._counter(
            "noetl_container_callback_total", "Callbacks of container jobs.", "state", known=(CALLBACK_STATES,)
        )
        self.stale_container_callbacks = self._counter(
            "noetl_container_callback_stale_total",
            "Callbacks of container jobs of executions without events.",
            "state",
            known=(CALLBACK_STATES,),
        )

    def _ledger(self) -> None:
        self.command_claims = self._counter(
            "noetl_command_claim_total",
            "Claims of commands.",
            "outcome",
            known=(("claimed", "conflict", "not_found", "error"),),
        )
        self.commands_issued = self._counter(
            "noetl_commands_issued_total", "Commands issued.", "pool_segment", known=(("shared", "system"),)
        )
        self.commands_requeued = self._counter(
            "noetl_commands_requeued_total", "Commands taken back from silent workers."
        ).labels()
        self.executions_started = self._counter("noetl_executions_started_total", "Executions started.").labels()
        self.executions_ended = self._counter(
            "noetl_executions_ended_total", "Executions ended.", "status", known=(("completed", "failed", "cancelled"),)
        )
        self.orchestrator_pass_seconds = self._histogram(
            "noetl_orchestrator_pass_duration_seconds", "Time to decide one event.", PHASE_BUCKETS
        ).labels()
        self.lane_queue_depth = self._gauge("noetl_lane_queue_depth", "Work waiting for the lanes.")
        self._batch_size = self._histogram("noetl_lane_batch_size", "Work in one transaction.", BATCH_BUCKETS).labels()
        phases = ("wait", "load", "decide", "write")
        phase_seconds = self._histogram(
            "noetl_lane_phase_seconds", "Time of one batch in a phase.", PHASE_BUCKETS, "phase"
        )
        self._phases = {phase: phase_seconds.labels(phase) for phase in phases}
        self.state_cache_entries = self._gauge("noetl_state_cache_entries", "Execution states in memory.").labels()
        self.state_cache_bytes = self._gauge("noetl_state_cache_bytes", "Estimated size of those.").labels()
        self.state_cache_hits = self._counter("noetl_state_cache_hits_total", "States found in memory.").labels()
        self.state_cache_misses = self._counter(
            "noetl_state_cache_misses_total", "States rebuilt from the log."
        ).labels()
        self.state_cache_evictions = self._counter(
            "noetl_state_cache_evictions_total", "States dropped for room."
        ).labels()

    def _infrastructure(self) -> None:
        self.nats_publishes = self._counter(
            "noetl_nats_publish_total", "Publishes to NATS.", "outcome", known=(OUTCOMES,)
        )
        self._publish_seconds = self._histogram(
            "noetl_nats_publish_duration_seconds", "Time until NATS acknowledged.", REQUEST_BUCKETS
        ).labels()
        self.nats_connected = self._gauge("noetl_nats_connected", "Whether NATS is connected.").labels()
        self.nats_waiting = self._gauge(
            "noetl_nats_notifications_waiting", "Notifications NATS does not have."
        ).labels()
        self.nats_unheard = self._gauge(
            "noetl_nats_segment_unheard",
            "Whether commands of a pool segment wait and no consumer is there for them.",
            "pool_segment",
        )
        self.nats_reannounced = self._counter("noetl_nats_reannounced_total", "Notifications repeated.").labels()
        self.nats_reconnects = self._counter(
            "noetl_nats_reconnects_total", "Connections to NATS after the first."
        ).labels()
        self.db_pool_connections = self._gauge(
            "noetl_db_pool_connections", "Connections of a pool, and requests waiting for one.", "pool", "state"
        )
        self.db_acquire_seconds = self._histogram(
            "noetl_db_acquire_duration_seconds", "Time to get a connection.", REQUEST_BUCKETS, "pool"
        )
        self.runtime_offline = self._counter("noetl_runtime_offline_total", "Workers marked offline.").labels()
        self.sweeps = self._counter("noetl_sweeps_total", "Runs of periodic work.", "sweep", "status")
        self.sweep_seconds = self._histogram(
            "noetl_sweep_duration_seconds", "Time of periodic work.", REQUEST_BUCKETS, "sweep"
        )

    def _secrets(self) -> None:
        self.credentials_sealed = self._counter(
            "noetl_credentials_sealed_total",
            "Sealed credentials handed out.",
            "status",
            known=(
                (
                    *("ok", "ok_via_broker", "no_pubkey", "worker_not_found"),
                    *("residency_violation", "credential_error", "seal_error"),
                ),
            ),
        )
        self.secret_resolves = self._counter(
            "noetl_secret_resolve_total", "Keychain entries resolved.", "provider", "region", "status"
        )
        self.secret_resolve_seconds = self._histogram(
            "noetl_secret_resolve_duration_seconds", "Time of that.", RESOLVE_BUCKETS, "provider", "region"
        )
        self.secret_provider_builds = self._counter(
            "noetl_secret_provider_build_total", "Providers built or reused.", "provider", "region", "status"
        )
        self.secret_residency_checks = self._counter(
            "noetl_secret_residency_check_total", "Decisions on where a secret may go.", "policy", "decision"
        )
        self.secret_dynamic_ttl_seconds = self._histogram(
            "noetl_secret_dynamic_ttl_seconds", "Remaining life of resolved secrets.", LIFETIME_BUCKETS
        ).labels()
        self.secret_cache_skips = self._counter(
            "noetl_secret_cache_skip_total", "Secrets not cached.", "reason", known=(("already_expired",),)
        )
        self.secret_broker_calls = self._counter(
            "noetl_secret_broker_call_total", "Calls between regions.", "broker_region", "outcome"
        )
        self.secret_broker_call_seconds = self._histogram(
            "noetl_secret_broker_call_duration_seconds", "Time of those.", REMOTE_BUCKETS, "broker_region"
        )
        self.wallet_rotations = self._counter(
            "noetl_wallet_rotate_total",
            "Rows seen by key rotation.",
            "table",
            "status",
            known=(
                ("credential", "keychain"),
                (
                    *("skipped", "rewrapped", "failed_write", "parse_error"),
                    *("failed_unwrap", "failed_wrap", "failed"),
                ),
            ),
        )
        self.secret_audit_writes = self._counter(
            "noetl_secret_audit_writes_total", "Audit records.", "operation", "outcome", "status"
        )
        self.secret_audit_lost = self._counter(
            "noetl_secret_audit_lost_total", "Audit records that were not written."
        ).labels()
        self.secret_refreshes = self._counter(
            "noetl_secret_refresh_total",
            "Background renewals.",
            "outcome",
            known=(("triggered", "succeeded", "failed", "stampede_collapsed"),),
        )
        self.secret_refresh_seconds = self._histogram(
            "noetl_secret_refresh_duration_seconds", "Time of those.", REMOTE_BUCKETS
        ).labels()

    def _results(self) -> None:
        self.result_puts = self._counter("noetl_result_store_put_total", "Results stored.", "status", known=(OUTCOMES,))
        self.result_put_seconds = self._histogram(
            "noetl_result_store_put_duration_seconds", "Time of that.", REQUEST_BUCKETS, "status", known=(OUTCOMES,)
        )
        resolved = ("ok", "not_found", "bad_request", "error")
        self.result_resolves = self._counter(
            "noetl_result_store_resolve_total", "Results fetched.", "status", known=(resolved,)
        )
        self.result_resolve_seconds = self._histogram(
            "noetl_result_store_resolve_duration_seconds", "Time of that.", REQUEST_BUCKETS, "status", known=(resolved,)
        )

    def _counter(self, name: str, text: str, *labels: str, known: tuple[tuple[str, ...], ...] = ()) -> Family[Counter]:
        return self._add(Family(self._registry, "counter", name, text, labels, Counter), known)

    def _gauge(self, name: str, text: str, *labels: str) -> Family[Gauge]:
        return self._add(Family(self._registry, "gauge", name, text, labels, Gauge))

    def _histogram(
        self, name: str, text: str, bounds: tuple[float, ...], *labels: str, known: tuple[tuple[str, ...], ...] = ()
    ) -> Family[Histogram]:
        return self._add(Family(self._registry, "histogram", name, text, labels, lambda: Histogram(bounds)), known)

    def _add(self, family: Family[T], known: tuple[tuple[str, ...], ...] = ()) -> Family[T]:
        """Make the children of all combinations of ``known`` label values, so that their series exist at 0."""
        if known:
            for values in product(*known):
                family.labels(*values)
        self._families.append(family)
        return family
