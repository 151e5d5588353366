"""Every variable of the deployment specification is read, with the default that it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from noetl.config import load_settings
from noetl.config.load import GROUPS
from noetl.config.variable import Variable, variables_of

VARIABLES: dict[str, Variable] = {
    name: variable for group in GROUPS for _, variable in variables_of(group) for name in variable.names
}
DEFAULTS: dict[str, Any] = {
    "NOETL_HOST": "0.0.0.0",
    "NOETL_PORT": 8082,
    "NOETL_DEBUG": False,
    "NOETL_SERVER_NAME": "noetl-control-plane",
    "NOETL_ENCRYPTION_KEY": None,
    "NOETL_INTERNAL_API_TOKEN": None,
    "NOETL_DISABLE_METRICS": False,
    "NOETL_AUTO_RECREATE_RUNTIME": True,
    "NOETL_RUNTIME_SWEEP_INTERVAL": 30,
    "NOETL_RUNTIME_OFFLINE_SECONDS": 60,
    "NOETL_SHARD_INDEX": 0,
    "NOETL_SHARD_COUNT": 1,
    "NOETL_SCHEMA": "noetl",
    "GOOGLE_CLOUD_PROJECT": None,
    "GCP_PROJECT": None,
    "NOETL_GCP_SM_ENDPOINT": "https://secretmanager.googleapis.com/v1",
    "NOETL_K8S_CA_FILE": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
    "NOETL_K8S_TOKEN_FILE": "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "NOETL_K8S_TOKEN": None,
    "VAULT_ADDR": "http://127.0.0.1:8200",
    "VAULT_TOKEN": None,
    "NOETL_VAULT_TOKEN_FILE": None,
    "VAULT_NAMESPACE": None,
    "NOETL_VAULT_KV_MOUNT": "secret",
    "NOETL_VAULT_CA_FILE": None,
    "DATABASE_URL": None,
    "POSTGRES_HOST": "localhost",
    "POSTGRES_PORT": 5432,
    "POSTGRES_USER": "noetl",
    "POSTGRES_DATABASE": "noetl",
    "POSTGRES_MAX_CONNECTIONS": 10,
    "POSTGRES_MIN_CONNECTIONS": 1,
    "POSTGRES_ACQUIRE_TIMEOUT": 30,
    "NATS_URL": None,
    "NATS_USER": None,
    "NATS_PASSWORD": None,
}
COMPUTED = {
    *("NOETL_WORKERS", "NOETL_PUBLIC_SERVER_URL", "NOETL_SERVER_MACHINE_ID", "NOETL_GCP_METADATA_TOKEN_URL"),
    *("NOETL_K8S_API_URL", "NOETL_K8S_NAMESPACE", "POSTGRES_PASSWORD", "HOSTNAME", "COMPUTERNAME", "RUST_LOG"),
}
"""Defaults that depend on the surroundings; each has a test of its own beside this one."""


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_default_is_the_promised_one(name: str) -> None:
    assert VARIABLES[name].default == DEFAULTS[name]


@pytest.mark.parametrize("name", sorted(COMPUTED))
def test_variables_with_a_computed_default_are_read(name: str) -> None:
    assert name in VARIABLES


def test_variables_are_those_that_the_documentation_names() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    assert set(re.findall(r"`([A-Z][A-Z0-9_]+)`", page)) >= DEFAULTS.keys() | COMPUTED


def test_computed_defaults_of_the_main_group() -> None:
    settings = load_settings({"NOETL_PORT": "9000", "HOSTNAME": "noetl-server-1"})
    assert settings.http.public_server_url == "http://localhost:9000"
    assert settings.identity.machine_id == 273
    assert settings.database.password.reveal() == ""
    assert settings.http.workers >= 1
