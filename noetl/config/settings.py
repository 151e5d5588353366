"""The settings of the server, one struct per part of the program; every field is declared once, with its variable.

`noetl.config.load` fills them; `app.py` hands each struct to the part that it is for.
"""

from __future__ import annotations

from typing import Final

import msgspec

from noetl.config import addresses, values
from noetl.config.log_filter import LogFilter, parse_log_filter
from noetl.config.problems import Notice
from noetl.config.provider_settings import SecretSettings
from noetl.config.secret import Secret
from noetl.config.tracing_settings import TracingSettings
from noetl.config.variable import setting

MAXIMUM_WORKERS: Final = 16
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_positive = values.integer(1, 1_000_000_000)


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP server"""

    host: str = setting("NOETL_HOST", values.host, "0.0.0.0", "127.0.0.1", "Address or name the server binds to.")  # noqa: S104
    port: int = setting(
        "NOETL_PORT", values.integer(0, 65535), 8082, "8082",
        "Port of API, metrics and health; 0 takes a free one. A Kubernetes service link (`tcp://...`) counts as unset.",
        service_link=True,
    )  # fmt: skip
    workers: int = setting(
        "NOETL_WORKERS", values.integer(1, MAXIMUM_WORKERS), 1, "1",
        "Server processes behind the one port; each is one event loop on one core.",
        default_text="CPU limit of the container, else CPU count (at most 16)",
    )  # fmt: skip
    debug: bool = setting(
        "NOETL_DEBUG", values.boolean, False, "false",
        "Logs at debug level and puts error details into responses; never in production.",
    )  # fmt: skip
    public_server_url: str = setting(
        "NOETL_PUBLIC_SERVER_URL", values.http_url, "", "http://noetl.noetl.svc.cluster.local:8082",
        "Address that workers call back on; copied verbatim into every command notification.",
        default_text="`http://localhost:<port>`",
    )  # fmt: skip
    disable_metrics: bool = setting("NOETL_DISABLE_METRICS", values.boolean, False, "false", "Answers 404 on /metrics.")
    json_ids: str = setting(
        "NOETL_JSON_IDS", values.choice("number", "string"), "number", "string",
        "Form of 64-bit ids in answers: JSON numbers, or strings for clients that round numbers.",
    )  # fmt: skip
    max_body_bytes: int = setting(
        "NOETL_MAX_BODY_BYTES",
        values.size(1024, _GIB),
        2 * _MIB,
        "8MiB",
        "Largest request body; a larger one gets 413.",
    )
    max_result_bytes: int = setting(
        "NOETL_RESULT_MAX_BYTES", values.size(1024, _GIB), 64 * _MIB, "64MiB",
        "Largest body of PUT /api/result/{id}.",
    )  # fmt: skip
    max_requests_in_flight: int = setting(
        "NOETL_MAX_REQUESTS_IN_FLIGHT", _positive, 2000, "2000",
        "Requests handled at once per process, three quarters of them for all but what workers report. More get 503"
        " with Retry-After instead of memory.",
    )  # fmt: skip
    keep_alive_seconds: float = setting(
        "NOETL_KEEP_ALIVE_SECONDS", values.seconds(1), 120.0, "120",
        "Idle time of a connection; longer than the 90 s that workers keep theirs, or a claim meets a closed socket.",
    )  # fmt: skip
    request_timeout_seconds: float = setting(
        "NOETL_REQUEST_READ_TIMEOUT_SECONDS", values.seconds(1), 30.0, "30",
        "Time in which head and body of a request must arrive.",
    )  # fmt: skip
    shutdown_delay_seconds: float = setting(
        "NOETL_SHUTDOWN_DELAY_SECONDS", values.seconds(0), 5.0, "5",
        "After SIGTERM: not ready but still serving for so long, until endpoints have propagated.",
    )  # fmt: skip
    shutdown_timeout_seconds: float = setting(
        "NOETL_SHUTDOWN_TIMEOUT_SECONDS", values.seconds(0), 20.0, "20",
        "Then requests in flight have so long to finish before they are cancelled.",
    )  # fmt: skip


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """TLS"""

    certificate: str | None = setting(
        "NOETL_TLS_CERT",
        values.text,
        None,
        "/etc/noetl/tls.crt",
        "PEM chain, leaf first; with the key it turns on HTTPS.",
    )
    key: str | None = setting("NOETL_TLS_KEY", values.text, None, "/etc/noetl/tls.key", "PEM key of the certificate.")
    client_ca: str | None = setting(
        "NOETL_TLS_CLIENT_CA", values.text, None, "/etc/noetl/ca.crt",
        "PEM bundle; clients must show a certificate signed by it for all but probes. Only with HTTPS.",
    )  # fmt: skip


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Database"""

    host: str = setting(
        "POSTGRES_HOST", values.database_host, "localhost", "postgres.noetl.svc",
        "PostgreSQL host, or the directory of its socket (starting with /).",
    )  # fmt: skip
    port: int = setting(
        "POSTGRES_PORT", values.integer(1, 65535), 5432, "5432",
        "PostgreSQL port. A Kubernetes service link (`tcp://...`) counts as unset.", service_link=True,
    )  # fmt: skip
    user: str = setting("POSTGRES_USER", values.text, "noetl", "noetl", "PostgreSQL role.")
    password: Secret[str] = setting(
        "POSTGRES_PASSWORD", values.secret_text, Secret(""), "...", "Its password.", secret=True, default_text="empty"
    )
    database: str = setting("POSTGRES_DATABASE", values.text, "noetl", "noetl", "Database name.")
    schema: str = setting(
        "NOETL_SCHEMA",
        values.identifier,
        "noetl",
        "noetl",
        "Schema of all tables; several deployments can share a database.",
    )
    max_connections: int = setting(
        "POSTGRES_MAX_CONNECTIONS", values.integer(1, 10_000), 10, "10",
        "Largest pool per process and database; replicas x processes x this must fit the server's max_connections.",
    )  # fmt: skip
    min_connections: int = setting(
        "POSTGRES_MIN_CONNECTIONS", values.integer(0, 10_000), 1, "1",
        "Connections kept open when idle; the maximum wins when it is smaller.",
    )  # fmt: skip
    acquire_timeout_seconds: float = setting(
        "POSTGRES_ACQUIRE_TIMEOUT", values.seconds(0.001, 86_400), 30.0, "30",
        "Wait for a free connection, and at start for the database itself.",
    )  # fmt: skip
    statement_cache_capacity: int = setting(
        ("NOETL_PG_STATEMENT_CACHE_CAPACITY", "NOETL_PG_STATEMENT_CACHE_SIZE"), values.integer(0, 100_000), 100, "0",
        "Prepared statements kept per connection; a pooler is noticed, and behind one it is 0.",
    )  # fmt: skip
    ssl_mode: str = setting(
        "PGSSLMODE", addresses.ssl_mode, "prefer", "verify-full", "TLS to PostgreSQL, with libpq's meaning."
    )
    ssl_root_certificate: str | None = setting(
        "PGSSLROOTCERT",
        values.text,
        None,
        "/etc/noetl/pg-ca.crt",
        "CA bundle that the database certificate must match.",
    )
    ssl_certificate: str | None = setting(
        "PGSSLCERT", values.text, None, "/etc/noetl/pg.crt", "Client certificate for PostgreSQL."
    )
    ssl_key: str | None = setting("PGSSLKEY", values.text, None, "/etc/noetl/pg.key", "Key of the client certificate.")
    application_name: str = setting(
        "PGAPPNAME", values.text, "noetl-control-plane", "noetl", "Name in pg_stat_activity.",
        default_text="NOETL_SERVER_NAME",
    )  # fmt: skip
    options: str | None = setting(
        "PGOPTIONS", values.text, None, "-c statement_timeout=0", "Server options sent when connecting."
    )

    @property
    def connection_options(self) -> dict[str, str]:
        """libpq options by name, for a connection URL's query; absent ones are left out."""
        named = {
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ssl_root_certificate,
            "sslcert": self.ssl_certificate,
            "sslkey": self.ssl_key,
            "options": self.options,
        }
        return {name: value for name, value in named.items() if value is not None}

    def reveal_password(self) -> str:
        """The password, for the driver."""
        return self.password.reveal()


class ShardingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Databases of the shards; each has the pool and TLS settings of the main one (spec 50, section 11)."""

    shards: tuple[DatabaseSettings, ...] = ()
    cluster: DatabaseSettings | None = None


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """NATS"""

    servers: tuple[str, ...] = ()
    user: str | None = setting(
        ("NATS_USER", "NOETL_NATS_USER"), values.text, None, "noetl", "NATS user; wins over the one in the URL."
    )
    password: Secret[str] | None = setting(
        ("NATS_PASSWORD", "NOETL_NATS_PASSWORD"), values.secret_text, None, "...",
        "NATS password; wins over the one in the URL.", secret=True,
    )  # fmt: skip
    token: Secret[str] | None = None
    stream: str = setting(
        "NATS_STREAM", values.stream_name, "noetl_commands", "NOETL_COMMANDS",
        "Name of the stream that is created when none covers the subjects; an existing one is used under any name.",
    )  # fmt: skip
    subject: str = setting(
        "NATS_SUBJECT",
        values.subject,
        "noetl.commands",
        "noetl.commands",
        "Root of the subjects of command notifications.",
    )

    @property
    def configured(self) -> bool:
        """Whether notifications are sent at all; without NATS the server runs in degraded mode."""
        return bool(self.servers)


class IdentitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Identity and sharding"""

    server_name: str = setting(
        "NOETL_SERVER_NAME",
        values.text,
        "noetl-control-plane",
        "noetl-eu",
        "Name in logs, health answers and PostgreSQL.",
    )
    server_region: str = setting(
        "NOETL_SERVER_REGION", values.text, "", "eu-west-1", "Home region, for residency rules of secrets.",
        default_text="empty",
    )  # fmt: skip
    machine_id: int = setting(
        "NOETL_SERVER_MACHINE_ID", values.machine_id, 0, "7",
        "Bits of this replica in every id it mints; two replicas with the same one mint the same ids.",
        default_text="derived from HOSTNAME",
    )  # fmt: skip
    machine_id_source: str = "NOETL_SERVER_MACHINE_ID"
    host_name: str = "noetl-server-local"
    shard_index: int = setting(
        "NOETL_SHARD_INDEX", values.integer(0, 4_294_967_295), 0, "0", "Shard of this replica, below the count."
    )
    shard_count: int = setting(
        "NOETL_SHARD_COUNT", values.shard_count, 1, "4", "Shards of the cluster, the same on every replica; 1 is none.",
        default_text="1, or the number of NOETL_SHARDS",
    )  # fmt: skip


class SecuritySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Security"""

    encryption_key: Secret[bytes] | None = setting(
        "NOETL_ENCRYPTION_KEY", values.encryption_key, None, "<output of: openssl rand -base64 32>",
        "Key that encrypts credentials at rest; without it credential routes answer 500.", secret=True,
    )  # fmt: skip
    previous_encryption_keys: tuple[Secret[bytes], ...] = setting(
        "NOETL_ENCRYPTION_KEY_PREVIOUS", values.encryption_keys, (), "<base64>,<base64>",
        "Former keys, comma separated; they only decrypt, until rotation has rewritten the rows.", secret=True,
    )  # fmt: skip
    allow_insecure_default_key: bool = setting(
        "NOETL_ALLOW_INSECURE_DEFAULT_KEY", values.boolean, False, "false",
        "Without a key: uses a random one, and credentials do not survive the process.",
    )  # fmt: skip
    kms_provider: str = setting(
        "NOETL_KMS_PROVIDER", values.kms_provider, "local", "local", "Who wraps the data keys: local or gcp-kms."
    )
    gcp_kms_key: str | None = setting(
        "NOETL_GCP_KMS_KEY", values.text, None, "projects/p/locations/eu/keyRings/r/cryptoKeys/k",
        "Resource name of the key for gcp-kms.",
    )  # fmt: skip
    internal_api_token: Secret[str] | None = setting(
        "NOETL_INTERNAL_API_TOKEN", values.secret_text, None, "...",
        "Bearer token of /api/internal/*; without it those routes answer 401.", secret=True,
    )  # fmt: skip
    sql_api: str = setting(
        "NOETL_SQL_API", values.choice("token", "open", "off"), "token", "off",
        "Who may use /api/postgres/execute and /api/db/init: holders of the internal token, anybody, nobody.",
    )  # fmt: skip


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Ledger and engine"""

    lanes: int = setting(
        "NOETL_LANES", values.integer(1, 64), 4, "4",
        "Batches that a process writes at once, each on a connection of its own; fewer than POSTGRES_MAX_CONNECTIONS.",
        default_text="4, fewer when the pool is smaller",
    )  # fmt: skip
    lane_queue: int = setting(
        "NOETL_LANE_QUEUE", _positive, 2000, "2000", "Items that may wait for the lanes; more get 503 with Retry-After."
    )
    lane_queue_seconds: float = setting(
        "NOETL_LANE_QUEUE_SECONDS", values.seconds(0.01, 60), 0.25, "0.25",
        "How long work should wait for the lanes at most. When they do fewer requests in this time than are in flight,"
        " more get 503 with Retry-After, from three quarters on all but what workers report.",
    )  # fmt: skip
    batch_max: int = setting("NOETL_BATCH_MAX", values.integer(1, 10_000), 256, "256", "Items in one transaction.")
    state_cache_bytes: int = setting(
        "NOETL_STATE_CACHE_BYTES", values.size(_MIB, 64 * _GIB), 64 * _MIB, "64MiB",
        "Memory per process for the states of running executions.",
    )  # fmt: skip
    loop_results: str = setting(
        "NOETL_LOOP_RESULTS", values.choice("repaired", "reference"), "repaired", "reference",
        "What a loop's result holds: the data of its iterations in index order, or what the Rust server kept.",
    )  # fmt: skip
    template_fuel: int = setting(
        "NOETL_TEMPLATE_FUEL", values.integer(1000, 1_000_000_000), 1_000_000, "1000000",
        "Evaluation steps that one template may take before it fails.",
    )  # fmt: skip
    template_max_bytes: int = setting(
        "NOETL_TEMPLATE_MAX_BYTES",
        values.size(1024, _GIB),
        8 * _MIB,
        "8MiB",
        "Size that a template's values may reach.",
    )


class CommandSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Commands: announcement, claims, recovery"""

    max_attempts: int = setting(
        "NOETL_COMMAND_MAX_ATTEMPTS", values.integer(1, 1000), 3, "3",
        "Times a command is given to a worker before its step fails.",
    )  # fmt: skip
    announce_after_seconds: float = setting(
        "NOETL_ANNOUNCE_AFTER_SECONDS", values.seconds(0.1, 86_400), 5.0, "5",
        "Age of an unclaimed command at which the sweep looks whether its notification was lost.",
    )  # fmt: skip
    announce_rate: int = setting(
        "NOETL_ANNOUNCE_RATE", _positive, 100, "100", "Repeated notifications per second, at most."
    )
    claim_lease_seconds: float = setting(
        "NOETL_COMMAND_CLAIM_LEASE_SECONDS", values.seconds(0, 31_536_000), 120.0, "120",
        "Age of a claim before another worker may take the command of a silent one.",
    )  # fmt: skip
    worker_heartbeat_stale_seconds: float = setting(
        "NOETL_COMMAND_WORKER_HEARTBEAT_STALE_SECONDS", values.seconds(1), 30.0, "30",
        "Heartbeat age at which the holder counts as silent when another worker claims.",
    )  # fmt: skip
    healthy_worker_hard_timeout_seconds: float = setting(
        "NOETL_COMMAND_CLAIM_HEALTHY_WORKER_HARD_TIMEOUT_SECONDS", values.seconds(60), 1800.0, "1800",
        "Age of a claim at which even a live holder loses the command to another claim.",
        default_text="NOETL_COMMAND_REAPER_HEALTHY_HARD_TIMEOUT_SECONDS",
    )  # fmt: skip
    reaper_enabled: bool = setting(
        "NOETL_COMMAND_REAPER_ENABLED", values.boolean, True, "true", "Returns commands of dead workers to the queue."
    )
    reaper_interval_seconds: float = setting(
        "NOETL_COMMAND_REAPER_INTERVAL_SECONDS", values.seconds(10), 60.0, "60", "Time between two searches for them."
    )
    reaper_worker_stale_seconds: float = setting(
        "NOETL_COMMAND_REAPER_WORKER_STALE_SECONDS", values.seconds(30), 60.0, "60",
        "Heartbeat age at which a worker's commands are returned.",
    )  # fmt: skip
    reaper_healthy_hard_timeout_seconds: float = setting(
        "NOETL_COMMAND_REAPER_HEALTHY_HARD_TIMEOUT_SECONDS", values.seconds(60), 1800.0, "1800",
        "Age of a claim after which a command whose holder cannot be judged is returned.",
    )  # fmt: skip
    reaper_pending_retry_seconds: float = setting(
        "NOETL_COMMAND_REAPER_PENDING_RETRY_SECONDS", values.seconds(15), 60.0, "60",
        "First pause before a lost notification of the same command is repeated again.",
    )  # fmt: skip
    reaper_max_per_run: int = setting(
        "NOETL_COMMAND_REAPER_MAX_PER_RUN",
        values.integer(1, 100_000),
        100,
        "100",
        "Commands returned per search, at most.",
    )


class SweepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Sweeps"""

    auto_recreate_runtime: bool = setting(
        "NOETL_AUTO_RECREATE_RUNTIME", values.boolean, True, "true",
        "Registers the server itself in the runtime table, at start and at every sweep.",
    )  # fmt: skip
    runtime_interval_seconds: float = setting(
        "NOETL_RUNTIME_SWEEP_INTERVAL", values.seconds(0), 30.0, "30",
        "Time between two sweeps that mark silent workers offline; 0 is never.",
    )  # fmt: skip
    runtime_offline_seconds: float = setting(
        "NOETL_RUNTIME_OFFLINE_SECONDS", values.seconds(1), 60.0, "60", "Heartbeat age at which a worker is offline."
    )
    outbox_lock_timeout_seconds: float = setting(
        "NOETL_OUTBOX_LOCK_TIMEOUT_SECONDS", values.seconds(0), 300.0, "300",
        "Age at which outbox rows of a crashed publisher can be claimed again; 0 is never.",
    )  # fmt: skip


class LoggingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Logging"""

    filter: LogFilter | None = setting(
        "RUST_LOG", parse_log_filter, None, "info,noetl_server=debug",
        "Log filter in the form of tracing-subscriber; empty is errors only, an invalid one is reported and not used.",
        default_text="info, or debug with NOETL_DEBUG", fatal=False, empty_is_set=True,
    )  # fmt: skip
    debug: bool = False
    server_name: str = "noetl-control-plane"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, checked. ``notices`` are for the log, once it runs."""

    http: HttpSettings = HttpSettings()
    tls: TlsSettings = TlsSettings()
    database: DatabaseSettings = DatabaseSettings()
    sharding: ShardingSettings = ShardingSettings()
    nats: NatsSettings = NatsSettings()
    identity: IdentitySettings = IdentitySettings()
    security: SecuritySettings = SecuritySettings()
    ledger: LedgerSettings = LedgerSettings()
    commands: CommandSettings = CommandSettings()
    sweeps: SweepSettings = SweepSettings()
    secrets: SecretSettings = SecretSettings()
    logging: LoggingSettings = LoggingSettings()
    tracing: TracingSettings = TracingSettings()
    notices: tuple[Notice, ...] = ()
