"""Vault: what a real server (tests/integration/test_openbao.py) does not answer by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl.config.provider_settings import VaultSettings
from noetl.config.secret import Secret
from noetl.errors import InternalError, NoetlError
from noetl.secrets.providers.vault import VaultSecrets

if TYPE_CHECKING:
    from pathlib import Path

    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud

DUFFEL = "GET https://vault.test/v1/kv/data/app/duffel"


def read(data: dict[str, Any] | None) -> dict[str, Any]:
    """What Vault answers to a read."""
    metadata = {"created_time": "2026-01-01T00:00:00Z", "version": 3, "destroyed": False}
    return {"request_id": "r", "lease_duration": 0, "data": {"data": data, "metadata": metadata}, "auth": None}


def provider(call: HttpClient, **settings: Any) -> VaultSecrets:
    return VaultSecrets(VaultSettings(address="https://vault.test/", **{"token": Secret("vt"), **settings}), call)


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("kv/app/duffel#token", "kv/data/app/duffel"),
        ("duffel#token", "secret/data/duffel"),
        ("app/x", "app/data/x"),
        ("kv/me@c/a b", "kv/data/me%40c/a%20b"),
    ],
)
async def test_a_reference_is_mount_path_and_key(cloud: Cloud, call: HttpClient, reference: str, path: str) -> None:
    cloud.answers[f"GET https://vault.test/v1/{path}"] = read({"token": "hunter2"})
    value = await provider(call).fetch(reference, "")
    assert (value.text.reveal(), value.version) == ("hunter2", "3")
    assert cloud.asked[0].headers["x-vault-token"] == "vt"
    assert "x-vault-namespace" not in cloud.asked[0].headers


async def test_namespace_and_default_mount_are_settings(cloud: Cloud, call: HttpClient) -> None:
    cloud.answers["GET https://vault.test/v1/team-kv/data/db"] = read({"only": "v"})
    await provider(call, namespace="team", kv_mount="team-kv").fetch("db", "")
    assert cloud.asked[0].headers["x-vault-namespace"] == "team"


async def test_the_default_mount_may_have_several_segments(cloud: Cloud, call: HttpClient) -> None:
    cloud.answers["GET https://vault.test/v1/team/k%20v/data/db"] = read({"k": "v"})
    assert (await provider(call, kv_mount="/team/k v/").fetch("db", "")).text.reveal() == "v"
    with pytest.raises(InternalError, match="invalid reference"):
        await provider(call, kv_mount="team/../sys").fetch("db", "")


async def test_a_token_file_is_read_for_every_fetch(cloud: Cloud, call: HttpClient, tmp_path: Path) -> None:
    cloud.answers[DUFFEL] = read({"token": "v"})
    file = tmp_path / "vault-token"
    vault = provider(call, token=None, token_file=str(file))
    with pytest.raises(InternalError, match=r"^vault: reading token file '.*vault-token': No such file"):
        await vault.fetch("kv/app/duffel", "")
    for token in ("first", "second"):
        file.write_text(f"{token}\n")
        await vault.fetch("kv/app/duffel", "")
    assert [one.headers["x-vault-token"] for one in cloud.asked] == ["first", "second"]


async def test_without_a_token_nothing_is_asked(cloud: Cloud, call: HttpClient) -> None:
    with pytest.raises(InternalError, match=r"^vault: no token configured \(set VAULT_TOKEN or NOETL_VAULT_TOKEN_FILE"):
        await provider(call, token=None).fetch("kv/app/duffel", "")
    assert cloud.asked == []


async def test_a_configured_authority_must_be_readable(call: HttpClient, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    vault = provider(call, ca_file=str(bundle))
    with pytest.raises(InternalError, match=r"^vault: reading CA bundle"):
        await vault.fetch("kv/app/duffel", "")
    bundle.write_text("no bundle")
    with pytest.raises(InternalError, match=r"^vault: CA bundle '.*' not valid PEM: "):
        await vault.fetch("kv/app/duffel", "")


@pytest.mark.parametrize(
    ("reference", "answer", "status", "message"),
    [
        ("kv/app/duffel", (403, b"w" * 300), 502, f"vault: HTTP 403 reading 'kv/app/duffel': {'w' * 200}"),
        ("kv/app/duffel", (400, b"bad vt"), 502, "vault: HTTP 400 reading 'kv/app/duffel': bad ***"),
        ("kv/app/duffel", b"{", 502, "vault: invalid KV response: Input data was truncated"),
        ("kv/app/duffel", read(None), 502, "vault: invalid KV response: Expected `object`, got `null`"),
        ("kv/app/duffel", read({}), 502, "vault: secret 'app/duffel' has no data"),
        ("kv/app/duffel#zzz", read({"a": "x"}), 502, "vault: secret 'app/duffel' has no key 'zzz'"),
        ("kv/app/duffel#n", read({"n": 4.5}), 502, "vault: secret 'app/duffel' key 'n' is not a string (got number)"),
        ("kv/app/duffel#n", read({"n": True}), 502, "vault: secret 'app/duffel' key 'n' is not a string (got boolean)"),
        (
            "kv/app/duffel", read({"token": "x", "n": 1}), 500,
            "vault: secret 'app/duffel' has 2 keys (n, token); reference a specific one as 'app/duffel#<key>'",
        ),
    ],
)  # fmt: skip
async def test_failures_are_told(
    cloud: Cloud, call: HttpClient, reference: str, answer: object, status: int, message: str
) -> None:
    cloud.answers[DUFFEL] = answer
    with pytest.raises(NoetlError) as raised:
        await provider(call).fetch(reference, "")
    assert raised.value.status == status
    assert raised.value.message.startswith(message)
