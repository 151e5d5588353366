"""AWS: Secrets Manager and assumed roles."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest

from noetl.config.provider_settings import AwsSettings
from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.aws import AwsSecretsManager
from noetl.secrets.providers.aws_sts import AwsAssumedRole

if TYPE_CHECKING:
    from pathlib import Path

    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud

NOW = datetime(2026, 11, 23, 14, 26, 29, tzinfo=UTC)
READ = "POST https://secretsmanager.eu-west-1.amazonaws.com/"
RECORDED = {
    "us-east-1": "618f8a93c8fe6eaf4a3559898d6aeb1e3fca066ca680bdddf24a79d00875ba54",
    "ap-south-1": "b7e1d081349801045aaed867f9c817532cd51ff976f7fe283952b4321d7635e1",
}
SECRET_ARN = "arn:aws:secretsmanager:us-east-1:1:secret:x-A1"
ROLE = "arn:aws:iam::123456789012:role/reader"
ASSUME = "POST https://sts.eu-west-1.amazonaws.com/"
EXPIRES = datetime(2030, 1, 1, tzinfo=UTC)
XML = b"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <AssumedRoleUser><Arn>a</Arn><AssumedRoleId>AROA:noetl</AssumedRoleId></AssumedRoleUser>
    <Credentials>
      <SessionToken>S&amp;T</SessionToken><SecretAccessKey>SK</SecretAccessKey>
      <Expiration>2030-01-01T00:00:00Z</Expiration><AccessKeyId>AK</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


def settings(**members: Any) -> AwsSettings:
    given: dict[str, Any] = {
        "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        "region": "eu-west-1",
        **members,
    }
    return AwsSettings(**given)


def manager(call: HttpClient, **members: Any) -> AwsSecretsManager:
    return AwsSecretsManager(settings(**members), call, lambda: NOW)


def secret(text: str | None = "hunter2") -> dict[str, Any]:
    document = {"ARN": "arn", "Name": "prod/db", "VersionId": "v-1", "VersionStages": ["AWSCURRENT"]}
    return document if text is None else {**document, "SecretString": text}


def assumed(expiration: float | str) -> dict[str, Any]:
    credentials = {
        "AccessKeyId": "AK", "SecretAccessKey": "SK", "SessionToken": "S&T", "Expiration": expiration,
    }  # fmt: skip
    result = {"Credentials": credentials, "AssumedRoleUser": {"Arn": "a", "AssumedRoleId": "AROA:noetl"}}
    return {"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": result}}


async def test_a_secret_is_read_with_a_signed_request(cloud: Cloud, call: HttpClient) -> None:
    cloud.answers[READ] = secret()
    value = await manager(call).fetch(" prod/db ", "")
    assert (value.text.reveal(), value.version) == ("hunter2", "v-1")
    (asked,) = cloud.asked
    assert asked.line == READ
    assert asked.body == b'{"SecretId":"prod/db","VersionStage":"AWSCURRENT"}'
    assert asked.headers["content-type"] == "application/x-amz-json-1.1"
    assert asked.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
    assert asked.headers["x-amz-date"] == "20261123T142629Z"
    assert asked.headers["host"] == "secretsmanager.eu-west-1.amazonaws.com"
    assert asked.headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-west-1/secretsmanager/aws4_request,"
        " SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target, Signature="
    )


@pytest.mark.parametrize("region", RECORDED)
async def test_the_request_is_the_recorded_one_of_the_reference(cloud: Cloud, region: str) -> None:
    class Recorder:
        async def __call__(self, method: str, url: str, *, headers: dict[str, str], **_: Any) -> tuple[int, bytes]:
            self.headers = headers
            return 200, json.dumps(secret()).encode()

    recorder = Recorder()
    given = settings(session_token=Secret("sesstok"), secrets_manager_endpoint="http://127.0.0.1:18314/")
    await AwsSecretsManager(given, recorder, lambda: NOW).fetch("prod/db", region)
    assert recorder.headers["authorization"].endswith(f"Signature={RECORDED[region]}")
    assert recorder.headers["x-amz-security-token"] == "sesstok"


@pytest.mark.parametrize(
    ("reference", "region", "host", "identifier"),
    [
        ("prod/db", "us-east-1", "us-east-1", "prod/db"),
        ("ap-south-1:prod/db", "us-east-1", "ap-south-1", "prod/db"),
        (SECRET_ARN, "", "eu-west-1", SECRET_ARN),
        ("ap-south-1:arn:aws:secretsmanager:x", "", "ap-south-1", "arn:aws:secretsmanager:x"),
        ("a/b:c", "", "eu-west-1", "a/b:c"),
    ],
)
async def test_reference_entry_and_setting_give_the_region(
    cloud: Cloud, call: HttpClient, reference: str, region: str, host: str, identifier: str
) -> None:
    cloud.answers[f"POST https://secretsmanager.{host}.amazonaws.com/"] = secret()
    await manager(call).fetch(reference, region)
    assert json.loads(cloud.asked[0].body)["SecretId"] == identifier


@pytest.mark.parametrize(
    ("member", "text"),
    [("s", "x"), ("n", "5"), ("f", "1.5"), ("b", "true"), ("z", "")],
)
async def test_a_key_takes_a_member(cloud: Cloud, call: HttpClient, member: str, text: str) -> None:
    cloud.answers[READ] = secret('{"s":"x","n":5,"f":1.5,"b":true,"z":null}')
    assert (await manager(call).fetch(f"prod/db#{member}", "")).text.reveal() == text


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("access_key_id", "AWS_ACCESS_KEY_ID is not set"),
        ("secret_access_key", "AWS_SECRET_ACCESS_KEY is not set"),
        ("region", r"AWS_REGION \(or AWS_DEFAULT_REGION\) is not set"),
    ],
)
def test_a_missing_setting_is_told(call: HttpClient, missing: str, message: str) -> None:
    with pytest.raises(InternalError, match=rf"^AWS Secrets Manager: {message} \(required for the `aws` secret prov"):
        manager(call, **{missing: None})


@pytest.mark.parametrize(
    ("reference", "answer", "message"),
    [
        ("prod/db", (400, b"v" * 500), f"GetSecretValue 'prod/db' returned 400 Bad Request: {'v' * 400}"),
        ("prod/db", b"[]", "decode GetSecretValue response for 'prod/db': Expected `object`, got `array`"),
        ("prod/db", secret(None), "secret 'prod/db' has no SecretString (binary secrets unsupported)"),
        (
            "prod/db#k",
            secret("hunter2"),
            "secret 'prod/db' SecretString is not JSON (ref requested key 'k'): at line 1",
        ),
        ("prod/db#k", secret('["hunter2"]'), "secret 'prod/db' has no JSON key 'k'"),
        ("prod/db#o", secret('{"o":{"p":"hunter2"}}'), "secret 'prod/db' key 'o' is not a scalar"),
    ],
)
async def test_failures_of_the_manager_are_told(
    cloud: Cloud, call: HttpClient, reference: str, answer: object, message: str
) -> None:
    cloud.answers[READ] = answer
    with pytest.raises(InternalError) as raised:
        await manager(call).fetch(reference, "")
    assert raised.value.message.startswith(f"aws secret provider: {message}")
    assert "hunter2" not in raised.value.message


MakeFile = Callable[[str, bytes | None], str]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """The path of a file with this content; None for a path where nothing is."""

    def make(name: str, content: bytes | None) -> str:
        file = tmp_path / name
        if content is not None:
            file.write_bytes(content)
        return str(file)

    return make


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    file = tmp_path / "web-identity"
    file.write_text("ey.web.identity\n")
    return file


@pytest.mark.parametrize(
    "answer",
    [assumed(EXPIRES.timestamp()), assumed("2030-01-01T00:00:00Z"), XML],
    ids=["JSON with seconds", "JSON with a time", "XML"],
)
async def test_a_role_is_assumed_with_the_web_identity(
    cloud: Cloud, call: HttpClient, identity: Path, answer: object
) -> None:
    cloud.answers[ASSUME] = answer
    role = AwsAssumedRole(AwsSettings(region="us-east-1", web_identity_token_file=str(identity)), call)
    value = await role.fetch(f"eu-west-1:{ROLE}#me", "ap-south-1")
    assert json.loads(value.text.reveal()) == {
        "access_key_id": "AK", "secret_access_key": "SK", "session_token": "S&T",
    }  # fmt: skip
    assert (value.expires_at, value.version) == (EXPIRES, "AROA:noetl")
    (asked,) = cloud.asked
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["accept"] == "application/json"
    assert "authorization" not in asked.headers
    assert b"RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Freader&" in asked.body
    assert parse_qsl(asked.body.decode(), strict_parsing=True) == [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "me"),
        ("DurationSeconds", "3600"),
        ("WebIdentityToken", "ey.web.identity"),
    ]


@pytest.mark.parametrize(
    ("reference", "region", "setting", "host"),
    [
        ("", "", None, "us-east-1"),
        (ROLE, "ap-south-1", "eu-west-1", "ap-south-1"),
        (f"{ROLE}#", "", "eu-west-1", "eu-west-1"),
    ],
)
async def test_role_region_and_session_have_defaults(
    cloud: Cloud, call: HttpClient, identity: Path, reference: str, region: str, setting: str | None, host: str
) -> None:
    cloud.answers[f"POST https://sts.{host}.amazonaws.com/"] = XML
    given = AwsSettings(region=setting, role_arn=ROLE, web_identity_token_file=str(identity))
    await AwsAssumedRole(given, call).fetch(reference, region)
    fields = dict(parse_qsl(cloud.asked[0].body.decode()))
    assert (fields["RoleArn"], fields["RoleSessionName"]) == (ROLE, "noetl-server")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((403, b"no ey.web.identity"), "aws_sts: STS returned HTTP 403 Forbidden: no ***"),
        (b"<html>", "aws_sts: could not parse AssumeRoleWithWebIdentityResponse from STS response (status 200 OK)"),
        (b"{}", "aws_sts: could not parse AssumeRoleWithWebIdentityResponse from STS response (status 200 OK)"),
        (assumed("soon"), "aws_sts: could not parse AssumeRoleWithWebIdentityResponse from STS response"),
        (assumed(1e300), "aws_sts: could not parse AssumeRoleWithWebIdentityResponse from STS response"),
    ],
)
async def test_failures_of_assuming_are_told(
    cloud: Cloud, call: HttpClient, identity: Path, answer: object, message: str
) -> None:
    cloud.answers[ASSUME] = answer
    role = AwsAssumedRole(AwsSettings(region="eu-west-1", web_identity_token_file=str(identity)), call)
    with pytest.raises(InternalError) as raised:
        await role.fetch(ROLE, "")
    assert raised.value.message.startswith(message)


async def test_without_a_role_nothing_is_asked(cloud: Cloud, call: HttpClient, identity: Path) -> None:
    role = AwsAssumedRole(AwsSettings(web_identity_token_file=str(identity)), call)
    with pytest.raises(InternalError, match=r"^aws_sts: no RoleArn supplied "):
        await role.fetch("", "")
    assert cloud.asked == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", r"^aws_sts: web-identity token file .*identity is empty"),
        (b"\xff", r"^aws_sts: cannot read web-identity token from .*identity: not UTF-8"),
        (None, r"^aws_sts: cannot read web-identity token from .*identity: No such file"),
    ],
)
async def test_an_unusable_identity_is_told(
    cloud: Cloud, call: HttpClient, make_file: MakeFile, content: bytes | None, message: str
) -> None:
    file = make_file("identity", content)
    with pytest.raises(InternalError, match=message):
        await AwsAssumedRole(AwsSettings(web_identity_token_file=file), call).fetch(ROLE, "")
    assert cloud.asked == []
