"""Azure: Key Vault and access tokens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from noetl.config.provider_settings import AzureSettings
from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.azure import AzureKeyVault
from noetl.secrets.providers.azure_oauth import AzureAccessTokens

if TYPE_CHECKING:
    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud

IMDS = (
    "GET http://169.254.169.254/metadata/identity/oauth2/token"
    "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
)
READ = "GET https://my-vault.vault.azure.net/secrets/db?api-version=7.4"
SECRET = {
    "value": "hunter2",
    "id": "https://my-vault.vault.azure.net/secrets/db/abc123",
    "attributes": {"enabled": True},
}
LOGIN = "POST https://login.microsoftonline.com/contoso/oauth2/v2.0/token"
DEFAULT_SCOPE = "https%3A%2F%2Fgraph.microsoft.com%2F.default"


def client_settings(**members: Any) -> AzureSettings:
    given: dict[str, Any] = {
        "tenant_id": "contoso", "client_id": "app", "client_secret": Secret("cl&ent secret"), **members,
    }  # fmt: skip
    return AzureSettings(**given)


@pytest.fixture
def vault(cloud: Cloud, call: HttpClient) -> AzureKeyVault:
    cloud.answers = {IMDS: {"access_token": "imds-token", "expires_in": "86400"}, READ: SECRET}
    return AzureKeyVault(AzureSettings(key_vault="my-vault"), call)


async def test_a_secret_is_read_with_the_instances_token(cloud: Cloud, vault: AzureKeyVault) -> None:
    first, second = await asyncio.gather(vault.fetch("db", ""), vault.fetch("my-vault/db", ""))
    assert (first.text.reveal(), first.version) == (second.text.reveal(), second.version) == ("hunter2", "abc123")
    assert cloud.lines == [IMDS, READ, READ]
    assert cloud.asked[0].headers["metadata"] == "true"
    assert cloud.asked[1].headers["authorization"] == "Bearer imds-token"


@pytest.mark.parametrize("life", [3600, "x", None, "0"])
async def test_every_form_of_the_tokens_life_is_understood(
    cloud: Cloud, vault: AzureKeyVault, life: int | str | None
) -> None:
    cloud.answers[IMDS] = {"access_token": "imds-token", "expires_in": life}
    assert (await vault.fetch("db", "")).text.reveal() == "hunter2"


async def test_settings_name_token_domain_and_version(cloud: Cloud, call: HttpClient) -> None:
    settings = AzureSettings(
        key_vault_token=Secret("own"), key_vault_dns_suffix=".vault.azure.net.", key_vault_api_version="7.5"
    )
    cloud.answers["GET https://v-1.vault.azure.net/secrets/db/0a1b?api-version=7.5"] = SECRET
    await AzureKeyVault(settings, call).fetch("v-1/db#0a1b", "")
    assert cloud.asked[0].headers["authorization"] == "Bearer own"


@pytest.mark.parametrize(
    ("line", "answer", "message"),
    [
        (IMDS, (400, b"u" * 400), f"IMDS returned 400 Bad Request: {'u' * 300}"),
        (IMDS, {}, "decode IMDS response: Object missing required field `access_token`"),
        (READ, (404, b"t" * 500), f"GET 'db' returned 404 Not Found: {'t' * 400}"),
        (READ, (401, b"imds-token expired"), "GET 'db' returned 401 Unauthorized: *** expired"),
        (READ, {"id": "x"}, "decode secret 'db': Object missing required field `value`"),
    ],
)
async def test_failures_of_the_vault_are_told(
    cloud: Cloud, vault: AzureKeyVault, line: str, answer: object, message: str
) -> None:
    cloud.answers[line] = answer
    with pytest.raises(InternalError) as raised:
        await vault.fetch("db", "")
    assert raised.value.message == f"azure secret provider: {message}"


async def test_without_a_vault_nothing_is_asked(cloud: Cloud, call: HttpClient) -> None:
    with pytest.raises(InternalError, match=r"^azure secret provider: no vault \(set AZURE_KEYVAULT_VAULT or prefix"):
        await AzureKeyVault(AzureSettings(), call).fetch("db", "")
    assert cloud.asked == []


@pytest.mark.parametrize(
    ("reference", "tenant", "scope"),
    [
        ("", "contoso", DEFAULT_SCOPE),
        ("contoso:api://app/.default", "contoso", "api%3A%2F%2Fapp%2F.default"),
        ("api://app/.default", "api", "%2F%2Fapp%2F.default"),  # such a scope needs its tenant
        ("HTTPS://x/.default", "contoso", "HTTPS%3A%2F%2Fx%2F.default"),
        ("fabrikam.com:api/.default", "fabrikam.com", "api%2F.default"),
        (":scope", "contoso", "%3Ascope"),
        ("a/b:c", "contoso", "a%2Fb%3Ac"),
    ],
)
async def test_a_token_is_asked_for_tenant_and_scope(
    cloud: Cloud, call: HttpClient, reference: str, tenant: str, scope: str
) -> None:
    cloud.answers[f"POST https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"] = {
        "token_type": "Bearer", "access_token": "aad-token", "expires_in": 3599,
    }  # fmt: skip
    value = await AzureAccessTokens(client_settings(), call).fetch(reference, "")
    assert value.text.reveal() == "aad-token"
    assert value.expires_at is not None
    assert abs(value.expires_at - datetime.now(UTC) - timedelta(seconds=3599)) < timedelta(seconds=5)
    (asked,) = cloud.asked
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept"] == "application/json"
    assert asked.body.decode() == (
        f"grant_type=client_credentials&client_id=app&client_secret=cl%26ent%20secret&scope={scope}"
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, b"not cl&ent secret"), "azure_oauth: AAD returned HTTP 401 Unauthorized: not ***"),
        ({"access_token": "aad-token"}, "azure_oauth: parse AAD response: Object missing required field `expires_in`"),
        ({"access_token": "aad-token", "expires_in": 10**18}, "azure_oauth: parse AAD response: expires_in is no time"),
    ],
)
async def test_failures_of_the_login_are_told(cloud: Cloud, call: HttpClient, answer: object, message: str) -> None:
    cloud.answers[LOGIN] = answer
    with pytest.raises(InternalError) as raised:
        await AzureAccessTokens(client_settings(), call).fetch("", "")
    assert raised.value.message == message


@pytest.mark.parametrize("missing", ["tenant_id", "client_id", "client_secret"])
def test_a_missing_setting_is_told(call: HttpClient, missing: str) -> None:
    with pytest.raises(InternalError, match=f"AZURE_{missing.upper()} is not set"):
        AzureAccessTokens(client_settings(**{missing: None}), call)
