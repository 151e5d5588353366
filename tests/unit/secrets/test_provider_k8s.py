"""Kubernetes secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl.config.provider_settings import KubernetesSettings
from noetl.config.secret import Secret
from noetl.errors import InternalError, NoetlError
from noetl.secrets.providers.base import ProviderError
from noetl.secrets.providers.k8s import KubernetesSecrets

if TYPE_CHECKING:
    from pathlib import Path

    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud

CREDS = "GET https://kubernetes.default.svc/api/v1/namespaces/ns1/secrets/creds"


def secret_object(data: dict[str, str] | None) -> dict[str, Any]:
    """What the API server answers, as far as it matters."""
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {"name": "creds", "namespace": "ns1", "resourceVersion": "4711", "uid": "u"},
        "data": data,
        "type": "Opaque",
    }


@pytest.fixture
def account(tmp_path: Path, cloud: Cloud) -> Path:
    """A service account as it is projected into a pod."""
    (tmp_path / "token").write_text("sa-token\n")
    (tmp_path / "namespace").write_text("ns1\n")
    (tmp_path / "ca.crt").write_text(cloud.authority.pem)
    return tmp_path


@pytest.fixture
def provider(account: Path, cloud: Cloud, call: HttpClient, monkeypatch: pytest.MonkeyPatch) -> KubernetesSecrets:
    monkeypatch.delenv("SSL_CERT_FILE")  # only the cluster's own bundle knows the authority
    cloud.answers[CREDS] = secret_object({"token": "aHVudGVyMg=="})
    settings = KubernetesSettings(token_file=str(account / "token"), ca_file=str(account / "ca.crt"))
    return KubernetesSecrets(settings, call, str(account / "namespace"))


async def test_a_secret_is_read_as_the_service_account(cloud: Cloud, provider: KubernetesSecrets) -> None:
    value = await provider.fetch("creds", "")
    assert (value.text.reveal(), value.version) == ("hunter2", "4711")
    assert cloud.lines == [CREDS]
    headers = cloud.asked[0].headers
    assert (headers["authorization"], headers["accept"]) == ("Bearer sa-token", "application/json")


async def test_a_rotated_token_is_used_at_once(cloud: Cloud, provider: KubernetesSecrets, account: Path) -> None:
    await provider.fetch("creds/token", "")
    (account / "token").write_text("rotated")
    await provider.fetch("ns1/creds/token", "")
    assert [one.headers["authorization"] for one in cloud.asked] == ["Bearer sa-token", "Bearer rotated"]


async def test_settings_win_over_the_files(cloud: Cloud, provider: KubernetesSecrets, call: HttpClient) -> None:
    settings = KubernetesSettings(
        token=Secret("inline"), namespace="other", api_url="http://mock/", ca_file="/nowhere", token_file="/nowhere"
    )
    line = "GET http://mock/api/v1/namespaces/other/secrets/creds"
    cloud.answers[line] = secret_object({"token": "eA=="})
    assert (await KubernetesSecrets(settings, call).fetch("creds/token", "")).text.reveal() == "x"
    assert cloud.asked[0].headers["authorization"] == "Bearer inline"


async def test_without_files_the_namespace_is_default(cloud: Cloud, call: HttpClient) -> None:
    settings = KubernetesSettings(token=Secret("t"), api_url="http://mock")
    with pytest.raises(ProviderError, match="HTTP 404 reading 'default/creds'"):
        await KubernetesSecrets(settings, call, "/nowhere").fetch("creds", "")


async def test_an_authority_that_is_not_in_the_bundle_is_refused(
    cloud: Cloud, account: Path, provider: KubernetesSecrets
) -> None:
    (account / "ca.crt").unlink()
    with pytest.raises(ProviderError, match=r"^kubernetes secrets API request: certificate not trusted: "):
        await provider.fetch("creds", "")
    (account / "ca.crt").write_text("no bundle")
    with pytest.raises(InternalError, match=r"^kubernetes secrets: CA bundle '.*ca.crt' not valid PEM: "):
        await provider.fetch("creds", "")
    assert cloud.asked == []


@pytest.mark.parametrize(
    ("reference", "answer", "status", "message"),
    [
        ("creds", (403, b"z" * 300), 502, f"HTTP 403 reading 'ns1/creds': {'z' * 200}"),
        ("creds", (403, b"sa-token is not allowed"), 502, "HTTP 403 reading 'ns1/creds': *** is not allowed"),
        ("creds", b"[]", 502, "invalid Secret object: Expected `object`, got `array`"),
        ("creds", secret_object(None), 502, "invalid Secret object: Expected `object`, got `null`"),
        ("creds", secret_object({}), 502, "Secret 'creds' has no data"),
        ("creds/zzz", secret_object({"a": "eA=="}), 502, "Secret 'creds' has no key 'zzz'"),
        (
            "creds", secret_object({"user": "eA==", "token": "eA=="}), 500,
            "Secret 'creds' has 2 keys (token, user); reference a specific one as 'creds/<key>'",
        ),
        ("creds", secret_object({"a": "eA"}), 502, "value not base64: Invalid padding"),
        ("creds", secret_object({"a": "/w=="}), 502, "value not UTF-8: invalid utf-8 sequence of 1 bytes from index 0"),
    ],
)  # fmt: skip
async def test_failures_are_told(
    cloud: Cloud, provider: KubernetesSecrets, reference: str, answer: object, status: int, message: str
) -> None:
    cloud.answers[CREDS] = answer
    with pytest.raises(NoetlError) as raised:
        await provider.fetch(reference, "")
    assert raised.value.status == status
    assert raised.value.message.startswith(f"kubernetes secrets: {message}")


async def test_a_missing_token_is_told(account: Path, provider: KubernetesSecrets) -> None:
    (account / "token").unlink()
    with pytest.raises(
        InternalError, match=r"^kubernetes secrets: reading ServiceAccount token '.*token': No such file"
    ):
        await provider.fetch("creds", "")
