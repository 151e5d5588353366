"""Google Cloud: Secret Manager and minted access tokens."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from noetl.config.provider_settings import GcpSettings
from noetl.errors import InternalError, NoetlError
from noetl.secrets.providers.base import ProviderError
from noetl.secrets.providers.gcp import GcpSecretManager
from noetl.secrets.providers.gcp_iam import GcpAccessTokens

if TYPE_CHECKING:
    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud

METADATA = "GET http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
ACCESS = "GET https://secretmanager.googleapis.com/v1/projects/p/secrets/s/versions/latest:access"
TOKEN = {"access_token": "workload-token", "expires_in": 3600, "token_type": "Bearer"}
MINT = (
    "POST https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
    "reader@p.iam.gserviceaccount.com:generateAccessToken"
)
ACCOUNT = "reader@p.iam.gserviceaccount.com"


def payload(text: bytes) -> dict[str, object]:
    return {
        "name": "projects/12/secrets/s/versions/7",
        "payload": {"data": base64.b64encode(text).decode(), "dataCrc32c": "1"},
    }


@pytest.fixture
def manager(cloud: Cloud, call: HttpClient) -> GcpSecretManager:
    cloud.answers = {METADATA: TOKEN, ACCESS: payload("pässword".encode())}
    return GcpSecretManager(GcpSettings(project="p"), call)


@pytest.fixture
def tokens(cloud: Cloud, call: HttpClient) -> GcpAccessTokens:
    cloud.answers = {METADATA: TOKEN, MINT: {"accessToken": "minted", "expireTime": "2030-01-01T00:00:00.123456789Z"}}
    return GcpAccessTokens(GcpSettings(), call)


async def test_a_secret_is_read_with_the_workloads_token(cloud: Cloud, manager: GcpSecretManager) -> None:
    value = await manager.fetch("s", "")
    assert (value.text.reveal(), value.version, value.expires_at) == ("pässword", "7", None)
    assert cloud.lines == [METADATA, ACCESS]
    assert cloud.asked[0].headers["metadata-flavor"] == "Google"
    assert cloud.asked[1].headers["authorization"] == "Bearer workload-token"
    assert "pässword" not in repr(value)


@pytest.mark.parametrize(
    ("reference", "path"),
    [
        ("projects/q/secrets/t", "projects/q/secrets/t/versions/latest"),
        ("projects/q/secrets/t/versions/3", "projects/q/secrets/t/versions/3"),
        ("projects/example.com:q/secrets/t", "projects/example.com:q/secrets/t/versions/latest"),
    ],
)
async def test_a_complete_name_is_taken_as_it_is(
    cloud: Cloud, manager: GcpSecretManager, reference: str, path: str
) -> None:
    cloud.answers[f"GET https://secretmanager.googleapis.com/v1/{path}:access"] = payload(b"v")
    assert (await manager.fetch(reference, "")).text.reveal() == "v"


async def test_the_token_serves_many_secrets_until_it_ends(cloud: Cloud, manager: GcpSecretManager) -> None:
    await asyncio.gather(*(manager.fetch("s", "") for _ in range(5)))
    await manager.fetch("s", "")
    assert cloud.lines.count(METADATA) == 1
    assert cloud.lines.count(ACCESS) == 6


async def test_a_refused_token_is_fetched_again_next_time(cloud: Cloud, manager: GcpSecretManager) -> None:
    cloud.answers[ACCESS] = [(401, b"expired"), payload(b"v")]
    with pytest.raises(ProviderError):
        await manager.fetch("s", "")
    assert (await manager.fetch("s", "")).text.reveal() == "v"
    assert cloud.lines.count(METADATA) == 2


async def test_without_project_nothing_is_asked(cloud: Cloud, call: HttpClient) -> None:
    with pytest.raises(InternalError, match=r"^gcp secret manager: no project \(set keychain project or GOOGLE_CLOUD"):
        await GcpSecretManager(GcpSettings(), call).fetch("s", "")
    assert cloud.asked == []


@pytest.mark.parametrize(
    ("line", "answer", "message"),
    [
        (METADATA, (503, b"x"), "gcp metadata token: HTTP 503"),
        (METADATA, b"?", "gcp metadata token decode: JSON is malformed"),
        (ACCESS, (404, b"y" * 300), f"gcp secret manager: HTTP 404 accessing 's': {'y' * 200}"),
        (ACCESS, (403, b"no workload-token here"), "gcp secret manager: HTTP 403 accessing 's': no *** here"),
        (ACCESS, {"payload": {}}, "gcp secret manager: invalid access response: Object missing required field `data`"),
        (ACCESS, {"payload": {"data": "!!"}}, "gcp secret manager: payload not base64: Invalid symbol 33, offset 0."),
        (
            ACCESS,
            {"payload": {"data": "/w=="}},
            "gcp secret manager: payload not UTF-8: invalid utf-8 sequence of 1 bytes from index 0",
        ),
    ],
)
async def test_failures_of_the_manager_are_told(
    cloud: Cloud, manager: GcpSecretManager, line: str, answer: object, message: str
) -> None:
    cloud.answers[line] = answer
    with pytest.raises(ProviderError) as raised:
        await manager.fetch("s", "")
    assert raised.value.message.startswith(message)
    assert raised.value.status == 502


async def test_an_unreachable_service_is_told(cloud: Cloud, call: HttpClient) -> None:
    settings = GcpSettings(project="p", secret_manager_endpoint="https://nowhere.test")
    cloud.answers = {METADATA: TOKEN}
    with pytest.raises(ProviderError, match=r"^gcp secret manager access request: certificate not trusted: "):
        await GcpSecretManager(settings, call).fetch("s", "")


async def test_a_token_is_minted_for_the_account(cloud: Cloud, tokens: GcpAccessTokens) -> None:
    value = await tokens.fetch(f" {ACCOUNT} # https://scope/a, https://scope/b", "")
    assert value.text.reveal() == "minted"
    assert value.expires_at == datetime(2030, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert cloud.lines == [METADATA, MINT]
    assert cloud.asked[1].headers["authorization"] == "Bearer workload-token"
    assert cloud.asked[1].headers["content-type"] == "application/json"
    assert json.loads(cloud.asked[1].body) == {"lifetime": "3600s", "scope": ["https://scope/a", "https://scope/b"]}


async def test_account_lifetime_and_scope_have_defaults(
    cloud: Cloud, call: HttpClient, tokens: GcpAccessTokens
) -> None:
    settings = GcpSettings(impersonate_service_account=ACCOUNT, iam_lifetime_seconds=600)
    await GcpAccessTokens(settings, call).fetch("", "")
    scope = "https://www.googleapis.com/auth/cloud-platform"
    assert json.loads(cloud.asked[1].body) == {"lifetime": "600s", "scope": [scope]}
    with pytest.raises(InternalError, match=r"^gcp_iam: no target service account"):
        await tokens.fetch("#scope", "")


@pytest.mark.parametrize(
    ("line", "answer", "message"),
    [
        (METADATA, (503, b"down"), "gcp_iam: metadata-server token HTTP 503 Service Unavailable: down"),
        (METADATA, {}, "gcp_iam: parse metadata token: Object missing required field"),
        (MINT, (403, b"denied"), "gcp_iam: iamcredentials returned HTTP 403 Forbidden: denied"),
        (MINT, {"accessToken": "minted"}, "gcp_iam: parse response: Object missing required field `expireTime`"),
        (MINT, {"accessToken": "minted", "expireTime": "soon"}, "gcp_iam: parse expireTime 'soon': "),
    ],
)
async def test_failures_of_minting_are_told(
    cloud: Cloud, tokens: GcpAccessTokens, line: str, answer: object, message: str
) -> None:
    cloud.answers[line] = answer
    with pytest.raises(NoetlError) as raised:
        await tokens.fetch(ACCOUNT, "")
    assert raised.value.message.startswith(message)
    assert raised.value.status == 500
    assert "minted" not in raised.value.message
