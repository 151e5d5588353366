"""References from playbooks and workloads never lead a request to another place (spec 40, section 19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from noetl.config.provider_settings import (
    AwsSettings,
    AzureSettings,
    GcpSettings,
    KubernetesSettings,
    SecretSettings,
    VaultSettings,
)
from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.aws import AwsSecretsManager
from noetl.secrets.providers.aws_sts import AwsAssumedRole
from noetl.secrets.providers.azure import AzureKeyVault
from noetl.secrets.providers.azure_oauth import AzureAccessTokens
from noetl.secrets.providers.gcp import GcpSecretManager
from noetl.secrets.providers.gcp_iam import GcpAccessTokens
from noetl.secrets.providers.k8s import KubernetesSecrets
from noetl.secrets.providers.registry import ProviderRegistry, canonical_provider
from noetl.secrets.providers.vault import VaultSecrets

if TYPE_CHECKING:
    from pathlib import Path

    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud

TOKEN = Secret("t")
HOSTILE = ("../x", "..", ".", "a?b", "a%2e%2e", "a\\b", "a\nb", "a\x00b", "\x7f", "a/../b")
REFERENCES: dict[str, list[str]] = {
    "gcp": ["", "#x", *HOSTILE, "s/versions/3", *(f"projects/p/secrets/{part}" for part in HOSTILE), "projects/"],
    "gcp_iam": ["a/b", *(part for part in HOSTILE if "b" not in part or "/" in part), "a@b/c", "a@b?c", "a@b:x/y"],
    "k8s": ["", "/", "a/", "/a", "a//b", "a/b/c/d", "A", "a_b", "-a", *HOSTILE, "ns/../x", "../creds/token", ".a/b/c"],
    "vault": [
        "",
        "kv/",
        "/x",
        "kv/x#",
        "#k",
        *HOSTILE,
        "kv/../../sys/x#token",
        "kv//x",
        "kv/./x",
        "../sys/x",
        "kv/x?y",
    ],
    "aws": ["", "x#", "#k", "Eu-West-1:x", " "],
    "azure": ["", "/db", "my-vault/", "db#", "evil.example?/db", "evil.example/db", "a@b/db", "v-1/db/x", *HOSTILE],
    "azure_oauth": ["a?b:scope", "a b:scope", "..:scope", "a@b:scope", "a%2f:scope"],
}


@pytest.fixture
def providers(call: HttpClient, tmp_path: Path) -> dict[str, Any]:
    identity = tmp_path / "identity"
    identity.write_text("i")
    aws = AwsSettings(
        access_key_id="a", secret_access_key=TOKEN, region="eu-west-1", web_identity_token_file=str(identity)
    )
    azure = AzureSettings(
        key_vault="my-vault", key_vault_token=TOKEN, tenant_id="t", client_id="c", client_secret=TOKEN
    )
    return {
        "gcp": GcpSecretManager(GcpSettings(project="p"), call),
        "gcp_iam": GcpAccessTokens(GcpSettings(), call),
        "k8s": KubernetesSecrets(KubernetesSettings(token=TOKEN), call),
        "vault": VaultSecrets(VaultSettings(token=TOKEN), call),
        "aws": AwsSecretsManager(aws, call),
        "aws_sts": AwsAssumedRole(aws, call),
        "azure": AzureKeyVault(azure, call),
        "azure_oauth": AzureAccessTokens(azure, call),
    }


@pytest.mark.parametrize(
    ("provider", "reference"), [(provider, text) for provider, texts in REFERENCES.items() for text in texts]
)
async def test_a_reference_that_is_no_name_is_refused_without_a_request(
    cloud: Cloud, providers: dict[str, Any], provider: str, reference: str
) -> None:
    with pytest.raises(InternalError) as raised:
        await providers[provider].fetch(reference, "")
    assert cloud.asked == cloud.tunnels == []
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("region", ["a.b", "evil.example/", "x@y", "a b", "A", "r" * 33, "..", "a\n"])
async def test_a_region_that_is_no_name_is_refused_without_a_request(
    cloud: Cloud, providers: dict[str, Any], region: str
) -> None:
    for provider, reference in (("aws", "x"), ("aws_sts", "arn:r")):
        with pytest.raises(InternalError, match="invalid region"):
            await providers[provider].fetch(reference, region)
    assert cloud.asked == cloud.tunnels == []


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("gcp", "gcp"), ("gcp_iam", "gcp_iam"), ("gcp_iamcredentials", "gcp_iam"), ("k8s", "k8s"),
        ("kubernetes", "k8s"), ("vault", "vault"), ("aws", "aws"), ("aws_sm", "aws"), ("aws_sts", "aws_sts"),
        ("aws_iam", "aws_sts"), ("azure", "azure"), ("azure_kv", "azure"), ("azure_oauth", "azure_oauth"),
        ("azure_aad", "azure_oauth"),
    ],
)  # fmt: skip
def test_providers_have_the_names_of_the_reference(name: str, canonical: str) -> None:
    assert canonical_provider(name) == canonical


@pytest.mark.parametrize("name", ["bogus", "GCP", "", "gcp "])
def test_other_names_are_unsupported(name: str) -> None:
    with pytest.raises(InternalError) as raised:
        canonical_provider(name)
    assert raised.value.message == (
        f"unsupported keychain secret provider '{name}'"
        " (supported: gcp, gcp_iam, k8s, vault, aws, aws_sts, azure, azure_oauth)"
    )


def test_a_provider_is_kept_for_its_time(call: HttpClient) -> None:
    now = 0.0
    counted: list[tuple[str, str]] = []
    registry = ProviderRegistry(
        SecretSettings(provider_ttl_seconds=10), call, lambda *labels: counted.append(labels), lambda: now
    )
    first = registry.get("vault")
    assert registry.get("vault") is first
    now = 10.0
    assert registry.get("vault") is not first
    with pytest.raises(InternalError, match="AWS_ACCESS_KEY_ID"):
        registry.get("aws")
    assert counted == [("vault", "ok"), ("vault", "cache_hit"), ("vault", "ok"), ("aws", "error")]
