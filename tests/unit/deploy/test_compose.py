"""The compose file: its server gets settings that it understands, and runs as the image promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from noetl.config import load_settings
from noetl.config.dotenv import read_dotenv

COMPOSE = Path(__file__).parents[3] / "deploy/compose"
EXAMPLE, _ = read_dotenv(COMPOSE / ".env.example", {})


def services(chosen: dict[str, str]) -> dict[str, Any]:
    """The services with variables filled in as compose does."""

    def fill(match: re.Match[str]) -> str:
        name, operator, alternative = match.groups()
        value = chosen.get(name)
        if not value and operator == "?":
            raise LookupError(alternative)
        return value or alternative

    text = re.sub(r"\$\{(\w+):([-?])([^}]*)\}", fill, (COMPOSE / "docker-compose.yaml").read_text())
    return yaml.safe_load(text)["services"]


def test_settings_of_the_example_are_understood_by_the_server() -> None:
    chosen = {**EXAMPLE, "NOETL_LANES": "2", "NOETL_SERVER_MACHINE_ID": "5"}
    found = services(chosen)
    given = {name: str(value) for name, value in found["server"]["environment"].items()}
    settings = load_settings({**chosen, **given})
    assert settings.database.host == "postgres"
    assert settings.database.password.reveal() == found["postgres"]["environment"]["POSTGRES_PASSWORD"] == "change-me"
    assert settings.nats.servers == ("nats://nats:4222",)
    assert settings.nats.password is not None
    assert f"--pass={settings.nats.password.reveal()}" in found["nats"]["command"]
    assert settings.http.public_server_url == "http://server:8082"
    assert (settings.ledger.lanes, settings.identity.machine_id) == (2, 5)


def test_every_service_that_others_wait_for_has_a_health_check() -> None:
    found = services(EXAMPLE)
    for service in found.values():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in found[other]


def test_ports_are_open_to_this_machine_only() -> None:
    for service in services(EXAMPLE).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_passwords_have_no_default() -> None:
    for name in ("POSTGRES_PASSWORD", "NATS_PASSWORD", "GRAFANA_PASSWORD"):
        with pytest.raises(LookupError, match="example"):
            services({**EXAMPLE, name: ""})


def test_server_is_asked_for_readiness_as_its_settings_say() -> None:
    assert services(EXAMPLE)["server"]["healthcheck"]["test"] == ["CMD", "python", "-m", "noetl.healthcheck", "/readyz"]


def test_server_cannot_write_its_root_and_has_time_to_drain() -> None:
    server = services(EXAMPLE)["server"]
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    http = load_settings({}).http
    assert (
        int(server["stop_grace_period"].removesuffix("s")) > http.shutdown_delay_seconds + http.shutdown_timeout_seconds
    )


def test_files_that_services_mount_exist() -> None:
    for service in services(EXAMPLE).values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("..") or (COMPOSE / source).exists(), source
