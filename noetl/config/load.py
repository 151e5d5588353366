"""Environment into settings: every variable on its own, then the rules between them; all problems at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from noetl.config import rules
from noetl.config.dotenv import find_dotenv, read_dotenv
from noetl.config.problems import ConfigurationError, InvalidValueError, Notice, Problem
from noetl.config.provider_settings import (
    AwsSettings,
    AzureSettings,
    GcpSettings,
    KubernetesSettings,
    ProxySettings,
    SecretSettings,
    VaultSettings,
)
from noetl.config.settings import (
    CommandSettings,
    DatabaseSettings,
    HttpSettings,
    IdentitySettings,
    LedgerSettings,
    LoggingSettings,
    NatsSettings,
    SecuritySettings,
    Settings,
    SweepSettings,
    TlsSettings,
)
from noetl.config.sources import Sources
from noetl.config.tracing_settings import TracingSettings
from noetl.config.variable import Variable, variables_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Group = TypeVar("Group", bound=msgspec.Struct)

GROUPS: Final[tuple[type[msgspec.Struct], ...]] = (
    Sources,
    HttpSettings,
    TlsSettings,
    DatabaseSettings,
    NatsSettings,
    IdentitySettings,
    SecuritySettings,
    LedgerSettings,
    CommandSettings,
    SweepSettings,
    LoggingSettings,
    TracingSettings,
    SecretSettings,
    GcpSettings,
    KubernetesSettings,
    VaultSettings,
    AwsSettings,
    AzureSettings,
    ProxySettings,
)
"""Every group of variables, in the order of the documentation."""

_PREFIXES: Final = ("NOETL_", "POSTGRES_")
"""Groups whose names the reference reads in any case after the prefix."""


@dataclass
class _Reading:
    """What was read so far, by group and field, and what was wrong with it."""

    environ: Mapping[str, str]
    values: dict[type[msgspec.Struct], dict[str, Any]] = field(
        default_factory=dict[type[msgspec.Struct], dict[str, Any]]
    )
    problems: list[Problem] = field(default_factory=list[Problem])
    notices: list[Notice] = field(default_factory=list[Notice])

    def read(self, group: type[msgspec.Struct]) -> None:
        given: dict[str, Any] = {}
        for name, variable in variables_of(group):
            used, text = self._text(variable)
            if text is None:
                continue
            try:
                given[name] = variable.parse(text)
            except InvalidValueError as error:
                if variable.fatal:
                    self.problems.append(Problem(used, str(error), f"{used}={variable.example}"))
                else:
                    self.notices.append(Notice("WARNING", f"{used} is not used: {error}"))
        self.values[group] = given

    def build(self, group: type[Group]) -> Group:
        return group(**self.values[group])

    def _text(self, variable: Variable) -> tuple[str, str | None]:
        for name in variable.names:
            raw = self.environ.get(name)
            if raw is None:
                continue
            text = raw.strip()
            if not text and not variable.empty_is_set:
                continue
            if variable.service_link and text.startswith("tcp://"):
                self.notices.append(Notice("INFO", f"{name} holds a Kubernetes service link and counts as unset"))
                continue
            return name, text
        return variable.name, None


def load_settings(environ: Mapping[str, str], dotenv_directory: Path | None = None) -> Settings:
    """The settings that an environment describes (spec 60, section 2; decision 18).

    Blanks around values are dropped, an empty value is an unset one, names after ``NOETL_`` and ``POSTGRES_`` may have
    any case, unknown variables are ignored.

    Args:
        environ: The process environment; it wins over the file.
        dotenv_directory: Where the search for a `.env` file starts; it goes on in the parents. None: no file.

    Raises:
        ConfigurationError: With every problem that was found.
    """
    notices: list[Notice] = []
    known = dict(environ)
    dotenv = find_dotenv(dotenv_directory) if dotenv_directory is not None else None
    if dotenv is not None:
        assignments, notices = read_dotenv(dotenv, known)
        present = {_normalised(name) for name in known}
        known.update({name: value for name, value in assignments.items() if _normalised(name) not in present})
    reading = _Reading(_with_upper_names(known), notices=notices)
    for group in GROUPS:
        reading.read(group)
    settings = _combine(reading)
    if reading.problems:
        raise ConfigurationError(reading.problems)
    return msgspec.structs.replace(settings, notices=tuple(reading.notices))


def _normalised(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith(_PREFIXES) and name.startswith(_PREFIXES) else name


def _with_upper_names(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with prefixed names in upper case; the exact spelling wins over others."""
    named = {_normalised(name): value for name, value in environ.items()}
    return {**named, **environ}


def _combine(reading: _Reading) -> Settings:
    problems, notices, values = reading.problems, reading.notices, reading.values
    sources = reading.build(Sources)
    rules.apply_database_url(values[DatabaseSettings], sources.database_url, notices)
    rules.apply_nats_address(values[NatsSettings], sources.nats_url, notices)
    rules.complete_http(values[HttpSettings])
    rules.complete_identity(values[IdentitySettings], sources, notices, problems)
    rules.complete_commands(values[CommandSettings])
    identity = reading.build(IdentitySettings)
    http = reading.build(HttpSettings)
    values[DatabaseSettings].setdefault("application_name", identity.server_name)
    rules.complete_pool(values[DatabaseSettings], notices)
    database = reading.build(DatabaseSettings)
    rules.complete_lanes(values[LedgerSettings], database.max_connections, problems)
    tls = reading.build(TlsSettings)
    rules.check_tls(tls, problems)
    security = reading.build(SecuritySettings)
    rules.check_security(security, problems)
    rules.warn_of_open_sql(http, security, notices)
    if http.keep_alive_seconds <= rules.WORKER_KEEP_ALIVE_SECONDS:
        notices.append(
            Notice("WARNING", "NOETL_KEEP_ALIVE_SECONDS is not above the 90 s that workers keep connections")
        )
    values[LoggingSettings] |= {"debug": http.debug, "server_name": identity.server_name}
    rules.limit_refresh_window(values[SecretSettings], notices)
    values[SecretSettings] |= {
        "gcp": reading.build(GcpSettings),
        "kubernetes": reading.build(KubernetesSettings),
        "vault": reading.build(VaultSettings),
        "aws": reading.build(AwsSettings),
        "azure": reading.build(AzureSettings),
        "proxies": reading.build(ProxySettings),
    }
    return Settings(
        http=http,
        tls=tls,
        database=database,
        sharding=rules.shard_databases(database, sources, notices, problems),
        nats=reading.build(NatsSettings),
        identity=identity,
        security=security,
        ledger=reading.build(LedgerSettings),
        commands=reading.build(CommandSettings),
        sweeps=reading.build(SweepSettings),
        secrets=reading.build(SecretSettings),
        logging=reading.build(LoggingSettings),
        tracing=reading.build(TracingSettings),
    )
