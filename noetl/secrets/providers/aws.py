"""Secrets of AWS Secrets Manager (spec 40, section 8a, aws)."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import msgspec
import orjson

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import SecretValue
from noetl.secrets.providers.service import Service, excerpt, is_success, status_line
from noetl.secrets.providers.sigv4 import AwsCredentials, SignedScope, authorization, canonical_request
from noetl.secrets.providers.syntax import aws_region, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.config.provider_settings import AwsSettings
    from noetl.secrets.web import HttpCall

_REGION_PREFIX: Final = re.compile(r"[A-Za-z0-9-]+")
_SHOWN: Final = 400
_PREFIX: Final = "aws secret provider"


class _Secret(msgspec.Struct):
    text: str | None = msgspec.field(default=None, name="SecretString")
    version: str = msgspec.field(default="", name="VersionId")


_DECODER: Final = msgspec.json.Decoder(_Secret)


class AwsSecretsManager:
    """Reads ``[<region>:]<secret id or ARN>[#<key>]``; a key takes a member of a secret that is a JSON object.

    Raises InternalError when a setting is missing.
    """

    def __init__(
        self, settings: AwsSettings, call: HttpCall, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._service = Service(call, InternalError)
        self._now = now
        if settings.access_key_id is None:
            raise _missing("AWS_ACCESS_KEY_ID")
        if settings.secret_access_key is None:
            raise _missing("AWS_SECRET_ACCESS_KEY")
        if settings.region is None:
            raise _missing("AWS_REGION (or AWS_DEFAULT_REGION)")
        self._default_region = settings.region
        self._credentials = AwsCredentials(settings.access_key_id, settings.secret_access_key, settings.session_token)

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; a region in the reference wins over ``region``, and that over the setting."""
        own_region, identifier, key = _parts(reference)
        chosen = aws_region(own_region or region or self._default_region, _PREFIX)
        endpoint = self._settings.secrets_manager_endpoint or f"https://secretsmanager.{chosen}.amazonaws.com"
        endpoint = endpoint.rstrip("/")
        body = orjson.dumps({"SecretId": identifier, "VersionStage": "AWSCURRENT"})
        named = shown(identifier)
        status, answer = await self._service.send(
            f"{_PREFIX}: POST {endpoint} for {named}", "POST", endpoint, self._signed(endpoint, chosen, body), body
        )
        if not is_success(status):
            token = self._credentials.session_token
            shown_answer = excerpt(answer, _SHOWN, [] if token is None else [token])
            raise InternalError(f"{_PREFIX}: GetSecretValue {named} returned {status_line(status)}: {shown_answer}")
        found = self._service.decode(f"{_PREFIX}: decode GetSecretValue response for {named}", answer, _DECODER)
        if found.text is None:
            raise InternalError(f"{_PREFIX}: secret {named} has no SecretString (binary secrets unsupported)")
        text = found.text if key is None else _member(found.text, key, named)
        return SecretValue(Secret(text), version=found.version)

    def _signed(self, endpoint: str, region: str, body: bytes) -> dict[str, str]:
        scope = SignedScope(self._now(), region, "secretsmanager")
        digest = hashlib.sha256(body).hexdigest()
        headers = {
            "host": urlsplit(endpoint).netloc,
            "content-type": "application/x-amz-json-1.1",
            "x-amz-content-sha256": digest,
            "x-amz-date": scope.stamp,
            "x-amz-target": "secretsmanager.GetSecretValue",
        }
        if self._credentials.session_token is not None:
            headers["x-amz-security-token"] = self._credentials.session_token.reveal()
        canonical, signed = canonical_request("POST", "/", [], list(headers.items()), digest)
        return {**headers, "authorization": authorization(canonical, signed, scope, self._credentials)}


def _missing(name: str) -> InternalError:
    return InternalError(f"AWS Secrets Manager: {name} is not set (required for the `aws` secret provider)")


def _parts(reference: str) -> tuple[str, str, str | None]:
    location, mark, key = reference.strip().partition("#")
    if not location:
        raise InternalError("aws secret ref: empty reference")
    if mark and not key:
        raise InternalError("aws secret ref: empty json key after '#'")
    before, _, after = location.partition(":")
    if after and before != "arn" and _REGION_PREFIX.fullmatch(before):
        return before, after, key or None
    return "", location, key or None


def _member(text: str, key: str, named: str) -> str:
    """A member of a secret: a string as it is, a number or boolean as text, null as nothing."""
    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise InternalError(
            f"{_PREFIX}: secret {named} SecretString is not JSON (ref requested key {shown(key)}): at {place}"
        ) from None
    if not isinstance(document, dict) or key not in document:
        raise InternalError(f"{_PREFIX}: secret {named} has no JSON key {shown(key)}")
    value = cast("dict[str, Any]", document)[key]
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise InternalError(f"{_PREFIX}: secret {named} key {shown(key)} is not a scalar")
    return "" if value is None else orjson.dumps(value).decode()
