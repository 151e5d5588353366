"""The rules between settings: what overrides, completes or contradicts what."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import msgspec

from noetl._fast.snowflake import machine_id_from_name
from noetl.config.cpu import available_cpus
from noetl.config.problems import Notice, Problem
from noetl.config.settings import MAXIMUM_WORKERS, DatabaseSettings, LedgerSettings, ShardingSettings

if TYPE_CHECKING:
    from noetl.config.addresses import DatabaseUrl, NatsAddress
    from noetl.config.settings import HttpSettings, SecuritySettings, TlsSettings
    from noetl.config.sources import Sources

WORKER_KEEP_ALIVE_SECONDS: Final = 90
LONGEST_REFRESH_WINDOW_SECONDS: Final = 300
LOCAL_MACHINE_NAME: Final = "noetl-server-local"

Fields = dict[str, Any]
"""Values by field name of one settings struct; absent ones take their default."""


def apply_database_url(database: Fields, url: DatabaseUrl | None, notices: list[Notice]) -> None:
    """What the URL has overrides the single variables (the seed, "Database")."""
    if url is None:
        return
    database.update(url.fields)
    notices.extend(Notice("WARNING", f"DATABASE_URL: the parameter {name} is not used") for name in url.unknown)


def apply_nats_address(nats: Fields, address: NatsAddress | None, notices: list[Notice]) -> None:
    """Servers from the URL; the login from the variables, else from the URL (decision 11, spec 60 section 2.4).

    With one of the two variables the URL gives the other half; ``nats://name@host`` beside NATS_PASSWORD is a user.
    """
    if address is None:
        if "user" in nats or "password" in nats:
            notices.append(Notice("WARNING", "NATS_USER and NATS_PASSWORD have no effect without NATS_URL"))
        return
    nats["servers"] = address.servers
    if "user" not in nats and "password" not in nats:
        nats.update(user=address.user, password=address.password, token=address.token)
        return
    nats.setdefault("user", address.user if address.token is None else address.token.reveal())
    nats.setdefault("password", address.password)
    if nats["user"] is None or nats["password"] is None:
        notices.append(
            Notice("WARNING", "only one of NATS_USER and NATS_PASSWORD is set, and NATS_URL has not the other")
        )


def complete_http(http: Fields) -> None:
    """Processes from the CPU limit, the call-back address from the port (spec 60, sections 1 and 2.1)."""
    http.setdefault("workers", min(MAXIMUM_WORKERS, available_cpus()))
    port = http.get("port", 8082)
    http.setdefault("public_server_url", f"http://localhost:{port}")


def complete_identity(identity: Fields, sources: Sources, notices: list[Notice], problems: list[Problem]) -> None:
    """Machine id and its source (spec 60, section 8.3), shard count and index (section 9)."""
    system_name = socket.gethostname().strip()
    names = (
        ("HOSTNAME", sources.host_name),
        ("COMPUTERNAME", sources.computer_name),
        ("the system's host name", system_name),
        (f"the constant {LOCAL_MACHINE_NAME}", LOCAL_MACHINE_NAME),
    )
    origin, name = next((origin, name) for origin, name in names if name)
    identity["host_name"] = name
    _complete_shards(identity, len(sources.shards), problems)
    if "machine_id" in identity:
        return
    identity["machine_id"] = machine_id_from_name(name or LOCAL_MACHINE_NAME)
    identity["machine_id_source"] = f"derived from {origin}"
    if identity.get("shard_count", 1) > 1:
        notices.append(
            Notice(
                "WARNING", f"NOETL_SERVER_MACHINE_ID is unset and derived from {origin}; replicas may mint equal ids"
            )
        )


def _complete_shards(identity: Fields, databases: int, problems: list[Problem]) -> None:
    refused = {problem.variable for problem in problems}
    if databases and "NOETL_SHARD_COUNT" not in refused:
        count = identity.setdefault("shard_count", databases)
        if count != databases:
            reason = f"NOETL_SHARDS names {databases} databases and NOETL_SHARD_COUNT is {count}; they must agree"
            problems.append(Problem("NOETL_SHARD_COUNT", reason, f"NOETL_SHARD_COUNT={databases}"))
            return
    index, count = identity.get("shard_index", 0), identity.get("shard_count", 1)
    if index >= count and not refused & {"NOETL_SHARD_COUNT", "NOETL_SHARD_INDEX", "NOETL_SHARDS"}:
        reason = f"NOETL_SHARD_INDEX {index} >= NOETL_SHARD_COUNT {count}; shard_index must be in 0..shard_count"
        problems.append(Problem("NOETL_SHARD_INDEX", reason, f"NOETL_SHARD_INDEX={count - 1}"))


def complete_commands(commands: Fields) -> None:
    """The claim's hard limit follows the reaper's (spec 20, section 5.3)."""
    if "reaper_healthy_hard_timeout_seconds" in commands:
        commands.setdefault("healthy_worker_hard_timeout_seconds", commands["reaper_healthy_hard_timeout_seconds"])


def complete_pool(database: Fields, notices: list[Notice]) -> None:
    """A minimum above the maximum is accepted, the maximum wins (spec 50, section 2)."""
    defaults = DatabaseSettings()
    minimum = database.get("min_connections", defaults.min_connections)
    maximum = database.get("max_connections", defaults.max_connections)
    if minimum > maximum:
        database["min_connections"] = maximum
        notices.append(
            Notice(
                "WARNING", f"POSTGRES_MIN_CONNECTIONS {minimum} is above POSTGRES_MAX_CONNECTIONS {maximum}, which wins"
            )
        )


def limit_refresh_window(secrets: Fields, notices: list[Notice]) -> None:
    """A window as long as secrets are kept for would make every reader call the provider; half of that wins."""
    window = secrets.get("cache_refresh_window_seconds", 0)
    if window > LONGEST_REFRESH_WINDOW_SECONDS:
        secrets["cache_refresh_window_seconds"] = LONGEST_REFRESH_WINDOW_SECONDS
        reason = f"KEYCHAIN_CACHE_REFRESH_WINDOW_SECS {window} is above {LONGEST_REFRESH_WINDOW_SECONDS}, which wins"
        notices.append(Notice("WARNING", reason))


def complete_lanes(ledger: Fields, max_connections: int, problems: list[Problem]) -> None:
    """Each lane owns a connection and one must remain for reads; the default shrinks, a chosen number is refused."""
    most = max(1, max_connections - 1)
    lanes = ledger.setdefault("lanes", min(LedgerSettings().lanes, most))
    if lanes > most:
        reason = (
            f"{lanes} lanes need as many connections, and one for reads, of POSTGRES_MAX_CONNECTIONS={max_connections}"
        )
        problems.append(Problem("NOETL_LANES", reason, f"NOETL_LANES={most}"))


def shard_databases(
    database: DatabaseSettings, sources: Sources, notices: list[Notice], problems: list[Problem]
) -> ShardingSettings:
    """The shards' databases with the main one's pool and TLS settings (spec 50, sections 11.1 and 11.2)."""
    if not sources.shards:
        if sources.cluster is not None:
            notices.append(Notice("WARNING", "NOETL_CLUSTER_DSN has no effect without NOETL_SHARDS"))
        return ShardingSettings()
    shards = tuple(msgspec.structs.replace(database, **fields) for fields in sources.shards)
    places = [(shard.host, shard.port, shard.database) for shard in shards]
    for index, place in enumerate(places):
        if (first := places.index(place)) != index:
            reason = f"shards {first} and {index} are one database ({place[2]} on {place[0]}:{place[1]})"
            problems.append(Problem("NOETL_SHARDS", reason, "host=pg-0;user=noetl,host=pg-1;user=noetl"))
    if sources.cluster is None:
        notices.append(Notice("WARNING", "NOETL_CLUSTER_DSN is unset; the first shard holds what is not sharded"))
        return ShardingSettings(shards=shards)
    return ShardingSettings(shards=shards, cluster=msgspec.structs.replace(database, **sources.cluster))


def check_tls(tls: TlsSettings, problems: list[Problem]) -> None:
    """Certificate and key come together and can be read; messages of spec 60, section 14."""
    if (tls.certificate is None) != (tls.key is None):
        missing = "NOETL_TLS_CERT" if tls.certificate is None else "NOETL_TLS_KEY"
        reason = "TLS misconfigured: set both NOETL_TLS_CERT and NOETL_TLS_KEY (or neither)"
        problems.append(Problem(missing, reason, f"{missing}=/etc/noetl/tls.pem"))
        return
    if tls.certificate is None:
        return
    _check_pem("NOETL_TLS_CERT", tls.certificate, "CERTIFICATE-----", "certificates", problems)
    _check_pem("NOETL_TLS_KEY", tls.key, "PRIVATE KEY-----", "private key", problems)
    _check_pem("NOETL_TLS_CLIENT_CA", tls.client_ca, "CERTIFICATE-----", "certificates", problems)


def _check_pem(variable: str, path: str | None, marker: str, what: str, problems: list[Problem]) -> None:
    if path is None:
        return
    example = f"{variable}=/etc/noetl/tls.pem"
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        problems.append(Problem(variable, f"TLS: open '{path}': {error.strerror or error}", example))
        return
    if marker.encode() not in content:
        problems.append(Problem(variable, f"TLS: no {what} in '{path}'", example))


def warn_of_open_sql(http: HttpSettings, security: SecuritySettings, notices: list[Notice]) -> None:
    """SQL for anybody is meant for a developer's machine (00-decisions, 6)."""
    if security.sql_api == "open" and not _is_loopback(http.host):
        notices.append(
            Notice(
                "WARNING",
                f"NOETL_SQL_API=open and NOETL_HOST={http.host}: everybody who reaches the port may run SQL;"
                " use NOETL_SQL_API=token, or listen on 127.0.0.1",
            )
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_security(security: SecuritySettings, problems: list[Problem]) -> None:
    """gcp-kms needs the name of its key (spec 60, section 2.1)."""
    refused = {problem.variable for problem in problems}
    if security.kms_provider == "gcp-kms" and not security.gcp_kms_key and "NOETL_GCP_KMS_KEY" not in refused:
        example = "NOETL_GCP_KMS_KEY=projects/p/locations/l/keyRings/r/cryptoKeys/k"
        problems.append(Problem("NOETL_GCP_KMS_KEY", "NOETL_KMS_PROVIDER=gcp-kms needs it", example))
