"""One server process: every part built from the settings and wired, started and stopped in order (spec 60, 3 and 5)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from typing import TYPE_CHECKING, Final, Protocol

import uvicorn

import noetl
from noetl._fast.snowflake import SnowflakeGenerator
from noetl.engine.template import Limits
from noetl.errors import NoetlError
from noetl.http.application import HttpApplication
from noetl.http.catalog import CatalogRoutes
from noetl.http.client_routes import client_routes
from noetl.http.commands import CommandRoutes
from noetl.http.container_callback import ContainerCallbackRoutes
from noetl.http.credential_reading import CredentialReader
from noetl.http.credentials import CredentialRoutes
from noetl.http.cross_region import CrossRegionRoutes
from noetl.http.events import EventRoutes
from noetl.http.executions import ExecutionRoutes
from noetl.http.executions_start import ExecuteRoutes
from noetl.http.health import HealthRoutes, Phase
from noetl.http.ids import JsonIds
from noetl.http.internal_auth import InternalGuard, InternalToken
from noetl.http.keychain import KeychainRoutes
from noetl.http.metrics import MetricsRoutes
from noetl.http.openapi.routes import OpenApiRoutes
from noetl.http.outbox import OutboxRoutes
from noetl.http.projection import ProjectionRoutes
from noetl.http.replay import ReplayRoutes
from noetl.http.runtime import RuntimeRoutes
from noetl.http.secret_audit import SecretAuditRoutes
from noetl.http.server import server_configuration
from noetl.http.tls import ServerTls
from noetl.http.wallet import WalletRoutes
from noetl.ledger.ledger import Ledger, LedgerLimits
from noetl.ledger.playbooks import Playbooks
from noetl.messaging.announcer import NatsAnnouncer, SilentAnnouncer
from noetl.messaging.connection import NatsConnection
from noetl.observability.logging import JsonHandler
from noetl.observability.metrics import Metrics
from noetl.observability.tracing import start_tracing
from noetl.process_health import ProcessHealth
from noetl.runtime.ending import end_tasks
from noetl.runtime.leases import Lease
from noetl.runtime.periodic import Job, PeriodicJobs
from noetl.runtime.processes import outlive_parent_never
from noetl.runtime.scrape import SharedMetrics
from noetl.runtime.shard_work import ShardWork
from noetl.secrets.assembly import Resolution
from noetl.secrets.audit import SecretAudit
from noetl.secrets.rotation import Rotation
from noetl.secrets.wallet import NO_KEY, make_wallet
from noetl.secrets.web import HttpClient
from noetl.store.catalog import CatalogStore
from noetl.store.commands import CommandStore
from noetl.store.container_callbacks import ContainerCallbackStore
from noetl.store.credentials import CredentialStore
from noetl.store.executions import ExecutionStore
from noetl.store.keychain import KeychainStore
from noetl.store.leases import LeaseStore
from noetl.store.migrations import upgrade
from noetl.store.outbox import OutboxStore
from noetl.store.projection import ProjectionStore
from noetl.store.replay import ReplayStore
from noetl.store.runtime import Registration, RuntimeStore
from noetl.store.secret_audit import SecretAuditStore
from noetl.store.sharded_executions import ShardedExecutions
from noetl.store.shards import Shards
from noetl.store.worker_keys import WorkerKeyStore

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    from noetl.config import Settings
    from noetl.runtime.processes import ProcessPlace
    from noetl.store.sharded_executions import Executions
    from noetl.store.shards import Databases

log = logging.getLogger("noetl.app")

PLAYBOOK_CACHE_BYTES: Final = 16 * 2**20
SCHEMA_RETRY_SECONDS: Final = 5.0
GC_THRESHOLDS: Final = (20_000, 10, 10)
"""Thousands of requests in flight are live objects: collected every 700 allocations, they cost an eighth of the CPU."""
LEASE_SECONDS: Final = 6.0
IDEMPOTENCY_SECONDS: Final = 3600.0
NATS_FLUSH_SECONDS: Final = 2.0
AUDIT_FLUSH_SECONDS: Final = 2.0
TRACES_FLUSH_SECONDS: Final = 2.0
KEYCHAIN_SECONDS: Final = 600.0
AUDIT_RETENTION_SECONDS: Final = 3600.0


class Routes(Protocol):
    """A group of routes."""

    def register(self, application: HttpApplication) -> None:
        """Add the routes to the application."""
        ...


class _HttpServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: `Server` decides when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Server:
    """Everything of one server process, wired. Build it with `Server.compose`, then `run` it."""

    def __init__(self, settings: Settings, databases: Databases, *, place: ProcessPlace | None = None) -> None:
        """``place`` says which of several processes of one server this is; None when it is the only one."""
        self._settings = settings
        self._place = place
        stripe, stripes = (0, 1) if place is None else (place.number, place.stripes)
        self._own_name = f"{settings.identity.server_name}-{settings.identity.host_name}"
        if place is not None:
            self._own_name += f"-{place.number}"
        self._databases = databases
        self._database = database = databases.cluster
        self.metrics = Metrics(noetl.__version__)
        self._shared_metrics = SharedMetrics(self.metrics, place)
        self._tracing = start_tracing(settings.tracing, version=noetl.__version__, instance=self._own_name)
        self._tracer = None if self._tracing is None else self._tracing.tracer
        identity = settings.identity
        minter = SnowflakeGenerator(identity.machine_id, stripe, stripes)
        self._minter = minter
        catalog = CatalogStore(database)
        executions = ShardedExecutions(databases) if isinstance(databases, Shards) else ExecutionStore(database)
        self._runtime = RuntimeStore(database)
        self._playbooks = Playbooks(
            catalog,
            PLAYBOOK_CACHE_BYTES,
            Limits(fuel=settings.ledger.template_fuel, size=settings.ledger.template_max_bytes),
        )
        self._nats = self._make_nats()
        self._announcer = (
            SilentAnnouncer()
            if self._nats is None
            else NatsAnnouncer(self._nats, settings.http.public_server_url, self.metrics, self._tracer)
        )
        self.health = ProcessHealth(
            databases.named, self._nats, version=noetl.__version__, server_name=identity.server_name
        )
        self.ledger = Ledger(
            databases,
            catalog,
            executions,
            CommandStore(database),
            self._playbooks,
            minter,
            self._announcer,
            self.metrics,
            LedgerLimits(
                lanes=settings.ledger.lanes,
                queue=settings.ledger.lane_queue,
                queue_seconds=settings.ledger.lane_queue_seconds,
                batch=settings.ledger.batch_max,
                state_bytes=settings.ledger.state_cache_bytes,
                claim_lease_seconds=settings.commands.claim_lease_seconds,
                worker_silent_seconds=settings.commands.worker_heartbeat_stale_seconds,
                unknown_worker_seconds=settings.commands.healthy_worker_hard_timeout_seconds,
                repair_loop_results=settings.ledger.loop_results == "repaired",
            ),
            can_judge=self.health.could_hear_for,
            tracer=self._tracer,
            is_reachable=self.health.is_reachable,
        )
        for name, one in databases.named.items():
            self.metrics.track_pool(name, one.statistics)
            one.on_acquire = self.metrics.db_acquire_seconds.labels(name).observe
        self.metrics.track_state_cache(self.ledger.states)
        self._track()
        self._keychain = KeychainStore(database)
        self._secret_audit_store = SecretAuditStore(database)
        self._secret_audit = SecretAudit(
            self._secret_audit_store,
            minter.mint,
            server_region=identity.server_region,
            enabled=settings.secrets.audit_enabled,
            required=settings.secrets.audit_required,
            count=self.metrics.count_audit,
        )
        outgoing = HttpClient(settings.secrets.proxies)
        self._wallet = make_wallet(settings.security, outgoing, settings.secrets.gcp.metadata_token_url)
        self._resolution = (
            None
            if self._wallet is None
            else Resolution(
                settings, databases, self._wallet, self._playbooks, self._secret_audit, self.metrics, outgoing
            )
        )
        self._jobs = self._make_jobs(executions, self._own_name)
        tls = settings.tls
        self._tls = ServerTls(tls.certificate, tls.key, tls.client_ca) if tls.certificate and tls.key else None
        self._traced = None
        if self._tracer is not None:
            from noetl.http.traced import TracedRequests

            self._traced = TracedRequests(self._tracer, self.metrics)
        self.application = HttpApplication(
            observer=self._traced or self.metrics,
            max_in_flight=settings.http.max_requests_in_flight,
            room=lambda: self.ledger.room,
            body_limit=settings.http.max_body_bytes,
            body_timeout_seconds=settings.http.request_timeout_seconds,
            debug=settings.http.debug,
        )
        self.metrics.http_in_flight.track(lambda: self.application.in_flight)
        self.application.hold()  # until the schema is what the statements expect
        self._register_routes(catalog, executions)

    async def run(self, listener: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Serve until ``stop`` is set, then drain and return; ``ready`` is called when requests are welcome."""
        settings = self._settings.http
        server = _HttpServer(
            server_configuration(
                self.application if self._traced is None else self._traced.around(self.application),
                refusal=self.application.refusal,
                keep_alive_seconds=settings.keep_alive_seconds,
                head_timeout_seconds=settings.request_timeout_seconds,
                shutdown_timeout_seconds=settings.shutdown_timeout_seconds,
                tls=None if self._tls is None else self._tls.context,
            )
        )
        async with asyncio.TaskGroup() as background:
            lanes = background.create_task(self.ledger.run(), name="ledger")
            services = [
                background.create_task(task, name=name)
                for name, task in {
                    "health": self.health.run(),
                    "event-loop-watch": self.metrics.watch_event_loop(),
                    "schema": self._prepare(ready),
                    "metrics": self._shared_metrics.run(),
                    "secret-audit": self._secret_audit.run(),
                    **({} if self._resolution is None else {"secret-refresh": self._resolution.refresher.run()}),
                    **({} if self._place is None else {"parent": outlive_parent_never(self._place, stop)}),
                    **({} if self._tls is None else {"tls": self._tls.watch()}),
                    **({} if self._nats is None else {"nats": self._nats.run()}),
                    **({"announcer": self._announcer.run()} if isinstance(self._announcer, NatsAnnouncer) else {}),
                }.items()
            ]
            http = background.create_task(server.serve(sockets=[listener]), name="http")
            await stop.wait()
            await self._stop(server, http, lanes, services)

    async def _stop(
        self,
        server: _HttpServer,
        http: asyncio.Task[None],
        lanes: asyncio.Task[None],
        services: list[asyncio.Task[None]],
    ) -> None:
        log.info("Shutting down")
        self.health.phase = Phase.DRAINING
        self.application.begin_drain()
        await asyncio.sleep(self._settings.http.shutdown_delay_seconds)
        server.should_exit = True
        await http
        try:
            async with asyncio.timeout(self._settings.http.shutdown_timeout_seconds):
                await self.ledger.close()
                await lanes
        except TimeoutError:
            log.warning("Operations cut at shutdown", extra={"count": self.ledger.waiting})
            lanes.cancel()
        if isinstance(self._announcer, NatsAnnouncer):
            await self._announcer.flush(NATS_FLUSH_SECONDS)
        await end_tasks(services)
        await self._secret_audit.flush(AUDIT_FLUSH_SECONDS)
        await self._mark_own_row_offline()
        if self._tracing is not None:
            await self._tracing.close(TRACES_FLUSH_SECONDS)

    async def _prepare(self, ready: Callable[[], None]) -> None:
        """Bring the schema up to date, then run the periodic work for the rest of the process's life."""
        while True:
            try:
                for database in self._databases.named.values():
                    await upgrade(database)
                break
            except NoetlError as error:
                self.health.schema_missing = True
                log.error(
                    "The database schema cannot be brought up to date; trying again",
                    extra={"error": error.message, "detail": error.detail or ""},
                )
                await asyncio.sleep(SCHEMA_RETRY_SECONDS)
        self.health.schema_missing = False
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self.health.phase = Phase.RUNNING
        self.application.open()
        ready()
        await self._jobs.run()

    def _track(self) -> None:
        """Let the scrape read what changes by itself."""
        metrics = self.metrics
        metrics.clock_backwards.track(lambda: self._minter.clock_backwards)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, JsonHandler) and (writer := handler.writer) is not None:
                metrics.log_lines_dropped.track(lambda writer=writer: writer.dropped)
        metrics.lane_queue_depth.labels().track(lambda: self.ledger.waiting)
        nats, announcer = self._nats, self._announcer
        if nats is not None:
            metrics.nats_connected.track(lambda: float(nats.state == "connected"))
            metrics.nats_reconnects.track(lambda: nats.reconnects)
        if isinstance(announcer, NatsAnnouncer):
            metrics.nats_waiting.track(lambda: announcer.waiting)

    def _make_nats(self) -> NatsConnection | None:
        nats = self._settings.nats
        if not nats.configured:
            log.info("NATS not configured, running without messaging")
            return None
        return NatsConnection(
            nats.servers,
            client_name=self._settings.identity.server_name,
            user=nats.user,
            password=None if nats.password is None else nats.password.reveal(),
            token=None if nats.token is None else nats.token.reveal(),
            stream=nats.stream,
            subject=nats.subject,
        )

    def _make_jobs(self, executions: Executions, holder: str) -> PeriodicJobs:
        sweeps = self._settings.sweeps
        jobs = [
            Job("runtime", sweeps.runtime_interval_seconds, self._sweep_runtime),
            Job("keychain", KEYCHAIN_SECONDS, self._keychain.delete_expired),
            Job("idempotency-keys", IDEMPOTENCY_SECONDS, self.ledger.forget_keys),
        ]
        if (resolution := self._resolution) is not None:
            jobs.append(Job("keychain-renewal", resolution.renewal_seconds, resolution.renewal.sweep))
        if sweeps.auto_recreate_runtime:
            interval = sweeps.runtime_interval_seconds or 30.0
            jobs.append(Job("registration", interval, self._register_itself, everywhere=True))
        if days := self._settings.secrets.audit_retention_days:
            audit = self._secret_audit_store
            jobs.append(Job("secret-audit", AUDIT_RETENTION_SECONDS, lambda: audit.delete_older(days)))
        work = ShardWork(
            self._database, self.ledger, self._playbooks, self.health, self.metrics, self._settings.commands
        )
        announcer = self._announcer if isinstance(self._announcer, NatsAnnouncer) else None
        stores = executions.stores if isinstance(executions, ShardedExecutions) else {self._database: executions}
        for shard, store in stores.items():
            jobs += work.jobs(shard, store, self._nats, announcer)
        if announcer is not None:
            work.track()
        periodic = PeriodicJobs(
            jobs,
            Lease(LeaseStore(self._database), "periodic-work", holder, LEASE_SECONDS),
            self.metrics,
            tracer=self._tracer,
        )
        if self._nats is not None:
            self._nats.on_connect = periodic.wake
        return periodic

    async def _sweep_runtime(self) -> None:
        if not self.health.could_hear_for(self._settings.sweeps.runtime_offline_seconds):
            return
        names = await self._runtime.mark_offline(self._settings.sweeps.runtime_offline_seconds)
        self.metrics.runtime_offline.inc(len(names))
        for name in names:
            log.warning("Worker is offline", extra={"worker_id": name})

    async def _register_itself(self) -> None:
        await self._runtime.upsert(
            self._minter.mint(),
            Registration(
                name=self._own_name,
                kind="server_api",
                uri=self._settings.http.public_server_url,
                status="ready",
            ),
        )

    async def _mark_own_row_offline(self) -> None:
        if not self._settings.sweeps.auto_recreate_runtime:
            return
        try:
            async with asyncio.timeout(1):
                await self._runtime.set_status("server_api", self._own_name, "offline")
        except (NoetlError, TimeoutError) as error:
            log.info("Own runtime row not marked offline", extra={"error": repr(error)})

    def _secret_routes(self) -> list[Routes]:
        """Credentials, keychain, rotation and audit; without a key those that need one answer 500."""
        metrics, wallet, resolution = self.metrics, self._wallet, self._resolution
        if wallet is None:
            log.error(NO_KEY)
        credentials = CredentialStore(self._database)
        tables = {"credential": credentials, "keychain": self._keychain}
        reader = rotation = None
        if wallet is not None:
            resolver = None if resolution is None else resolution.resolver
            reader = CredentialReader(credentials, wallet, self._secret_audit, resolver)
            rotation = Rotation(
                wallet, tables, lambda table, status: metrics.wallet_rotations.labels(table, status).inc()
            )
        return [
            CredentialRoutes(
                credentials,
                WorkerKeyStore(self._database),
                wallet,
                reader,
                self._secret_audit,
                broker=None if resolution is None else resolution.broker,
                observer=metrics,
                count_sealed=lambda status: metrics.credentials_sealed.labels(status).inc(),
            ),
            KeychainRoutes(self._keychain, wallet, self._secret_audit, metrics),
            WalletRoutes(rotation, tables),
            SecretAuditRoutes(self._secret_audit_store),
            CrossRegionRoutes(
                reader,
                self._secret_audit,
                self._settings.identity.server_region,
                lambda region, outcome: metrics.secret_broker_calls.labels(region, outcome).inc(),
            ),
        ]

    def _register_routes(self, catalog: CatalogStore, executions: Executions) -> None:
        settings = self._settings
        routes: list[Routes] = [
            HealthRoutes(self.health),
            CatalogRoutes(catalog, self.metrics),
            ExecuteRoutes(self.ledger),
            EventRoutes(self.ledger, self.metrics),
            CommandRoutes(self.ledger),
            ExecutionRoutes(executions, self.ledger, JsonIds(settings.http.json_ids)),
            RuntimeRoutes(
                self._runtime,
                self._minter.mint,
                shard_index=settings.identity.shard_index,
                shard_count=settings.identity.shard_count,
                observer=self.metrics,
            ),
        ]
        routes += [
            OutboxRoutes(OutboxStore(self._database, settings.sweeps.outbox_lock_timeout_seconds)),
            ProjectionRoutes(ProjectionStore(self._databases)),
            ReplayRoutes(ReplayStore(self._databases)),
            ContainerCallbackRoutes(self.ledger, ContainerCallbackStore(self._databases), self.metrics),
        ]
        routes += self._secret_routes()
        routes += client_routes(
            self._databases,
            catalog,
            executions,
            self._minter.mint,
            ids=JsonIds(settings.http.json_ids),
            sql_api=settings.security.sql_api,
            token=InternalToken(settings.security.internal_api_token),
            largest_result=settings.http.max_result_bytes,
            observer=self.metrics,
        )
        if not settings.http.disable_metrics:
            routes.append(MetricsRoutes(self._shared_metrics))
        routes.append(OpenApiRoutes(noetl.__version__))
        # The last of all: it puts the token in front of every route below its prefix that is there by then.
        routes.append(InternalGuard(InternalToken(settings.security.internal_api_token)))
        for group in routes:
            group.register(self.application)
