"""All settings of the server: read from the environment, checked once, handed around as frozen structs."""

from __future__ import annotations

from noetl.config.load import load_settings
from noetl.config.problems import ConfigurationError, Notice, Problem
from noetl.config.provider_settings import SecretSettings
from noetl.config.report import SettingRow, effective_settings
from noetl.config.secret import Secret
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
    ShardingSettings,
    SweepSettings,
    TlsSettings,
)
from noetl.config.tracing_settings import TracingSettings

__all__ = [
    "CommandSettings",
    "ConfigurationError",
    "DatabaseSettings",
    "HttpSettings",
    "IdentitySettings",
    "LedgerSettings",
    "LoggingSettings",
    "NatsSettings",
    "Notice",
    "Problem",
    "Secret",
    "SecretSettings",
    "SecuritySettings",
    "SettingRow",
    "Settings",
    "ShardingSettings",
    "SweepSettings",
    "TlsSettings",
    "TracingSettings",
    "effective_settings",
    "load_settings",
]
