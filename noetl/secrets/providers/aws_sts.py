"""Temporary AWS credentials for a role, by the web identity of this workload (spec 40, section 8a, aws_sts)."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import SecretValue
from noetl.secrets.providers.files import read_text
from noetl.secrets.providers.moments import moment_of, moment_of_epoch
from noetl.secrets.providers.service import Service, excerpt, is_success, status_line
from noetl.secrets.providers.syntax import aws_region, form

if TYPE_CHECKING:
    from datetime import datetime

    from noetl.config.provider_settings import AwsSettings
    from noetl.secrets.web import HttpCall

DEFAULT_REGION: Final = "us-east-1"
DEFAULT_SESSION: Final = "noetl-server"
TIMEOUT_SECONDS: Final = 15.0

_SHOWN: Final = 400
_REGION_PREFIX: Final = re.compile(r"([A-Za-z0-9-]+):(?=arn:)")
_HEADERS: Final = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}


class _Credentials(msgspec.Struct):
    access_key_id: str = msgspec.field(name="AccessKeyId")
    secret_access_key: str = msgspec.field(name="SecretAccessKey")
    session_token: str = msgspec.field(name="SessionToken")
    expiration: float | str = msgspec.field(name="Expiration")


class _AssumedRole(msgspec.Struct):
    id: str = msgspec.field(default="", name="AssumedRoleId")


class _Result(msgspec.Struct):
    credentials: _Credentials = msgspec.field(name="Credentials")
    role: _AssumedRole = msgspec.field(default_factory=_AssumedRole, name="AssumedRoleUser")


class _Response(msgspec.Struct):
    result: _Result = msgspec.field(name="AssumeRoleWithWebIdentityResult")


class _Answer(msgspec.Struct):
    response: _Response = msgspec.field(name="AssumeRoleWithWebIdentityResponse")


class AwsAssumedRole:
    """Assumes ``[<region>:]<role ARN>[#<session name>]``; the value is a JSON object with the three parts."""

    def __init__(self, settings: AwsSettings, call: HttpCall) -> None:
        self._settings = settings
        self._service = Service(call, InternalError, TIMEOUT_SECONDS)

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; a region in the reference wins over ``region``, and that over the setting."""
        own_region, role, session = self._parts(reference)
        chosen = aws_region(own_region or region or self._settings.region or DEFAULT_REGION, "aws_sts")
        url = self._settings.sts_endpoint or f"https://sts.{chosen}.amazonaws.com/"
        identity = await self._identity()
        body = form(
            {
                "Action": "AssumeRoleWithWebIdentity",
                "Version": "2011-06-15",
                "RoleArn": role,
                "RoleSessionName": session,
                "DurationSeconds": str(self._settings.sts_duration_seconds),
                "WebIdentityToken": identity.reveal(),
            }
        )
        status, answer = await self._service.send(f"aws_sts: POST {url} failed", "POST", url, _HEADERS, body)
        if not is_success(status):
            raise InternalError(
                f"aws_sts: STS returned HTTP {status_line(status)}: {excerpt(answer, _SHOWN, [identity])}"
            )
        try:
            return _value(_result(answer))
        except ValueError:  # msgspec's errors are among them
            raise InternalError(
                "aws_sts: could not parse AssumeRoleWithWebIdentityResponse from STS response"
                f" (status {status_line(status)})"
            ) from None

    def _parts(self, reference: str) -> tuple[str, str, str]:
        text = reference.strip()
        region = ""
        if prefix := _REGION_PREFIX.match(text):
            region, text = prefix[1], text[prefix.end() :]
        role, _, session = text.partition("#")
        role = role or self._settings.role_arn or ""
        if not role:
            raise InternalError(
                "aws_sts: no RoleArn supplied (set AWS_ROLE_ARN or include the ARN in the keychain ref)"
            )
        return region, role, session or DEFAULT_SESSION

    async def _identity(self) -> Secret[str]:
        path = self._settings.web_identity_token_file
        try:
            token = await read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise InternalError(f"aws_sts: cannot read web-identity token from {path}: {cause}") from None
        if not token:
            raise InternalError(f"aws_sts: web-identity token file {path} is empty")
        return Secret(token)


def _result(answer: bytes) -> _Result:
    """The result of a JSON or XML answer; raises ValueError."""
    text = answer.decode()
    if text.lstrip().startswith("{"):
        return msgspec.json.decode(answer, type=_Answer).response.result

    def element(name: str) -> str:
        found = re.search(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        if found is None:
            raise ValueError(name)
        return html.unescape(found[1])

    credentials = _Credentials(
        *(element(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"))
    )
    return _Result(credentials, _AssumedRole(element("AssumedRoleId") if "<AssumedRoleId>" in text else ""))


def _value(result: _Result) -> SecretValue:
    given = result.credentials
    value: dict[str, Any] = {
        "access_key_id": given.access_key_id,
        "secret_access_key": given.secret_access_key,
        "session_token": given.session_token,
    }
    return SecretValue(Secret(orjson.dumps(value).decode()), _expiry(given.expiration), result.role.id)


def _expiry(expiration: float | str) -> datetime:
    return moment_of(expiration) if isinstance(expiration, str) else moment_of_epoch(expiration)
