"""Access tokens of Google Cloud service accounts that this server may impersonate (spec 40, section 8a, gcp_iam)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import SecretValue
from noetl.secrets.providers.gcp_metadata import workload_token
from noetl.secrets.providers.moments import moment_of
from noetl.secrets.providers.service import Service, excerpt, is_success, status_line
from noetl.secrets.providers.syntax import matching, shown

if TYPE_CHECKING:
    from noetl.config.provider_settings import GcpSettings
    from noetl.secrets.web import HttpCall

DEFAULT_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9._+-]+(?:@[A-Za-z0-9.:-]+)?")
_SHOWN: Final = 400


class _Minted(msgspec.Struct):
    access_token: str = msgspec.field(name="accessToken")
    expire_time: str = msgspec.field(name="expireTime")


_DECODER: Final = msgspec.json.Decoder(_Minted)


class GcpAccessTokens:
    """Mints a token for ``<service account>[#<scope>]``; several scopes are separated by blanks or commas."""

    def __init__(self, settings: GcpSettings, call: HttpCall) -> None:
        self._settings = settings
        self._service = Service(call, InternalError)
        self._token = workload_token(
            self._service,
            settings.metadata_token_url,
            "gcp_iam: metadata-server token request",
            "gcp_iam: parse metadata token",
            lambda status, answer: InternalError(
                f"gcp_iam: metadata-server token HTTP {status_line(status)}: {excerpt(answer, _SHOWN)}"
            ),
        )

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; the region does not matter."""
        account, scopes = self._target(reference)
        token = await self._token.get()
        endpoint = self._settings.iam_credentials_endpoint.rstrip("/")
        url = f"{endpoint}/projects/-/serviceAccounts/{quote(account, safe='@')}:generateAccessToken"
        headers = {"authorization": f"Bearer {token.reveal()}", "content-type": "application/json"}
        body = msgspec.json.encode({"lifetime": f"{self._settings.iam_lifetime_seconds}s", "scope": scopes})
        status, answer = await self._service.send(f"gcp_iam: POST {url} failed", "POST", url, headers, body)
        if not is_success(status):
            if status == 401:
                self._token.forget()
            raise InternalError(
                f"gcp_iam: iamcredentials returned HTTP {status_line(status)}: {excerpt(answer, _SHOWN, [token])}"
            )
        minted = self._service.decode("gcp_iam: parse response", answer, _DECODER)
        try:
            ends = moment_of(minted.expire_time)
        except ValueError as error:
            raise InternalError(f"gcp_iam: parse expireTime {shown(minted.expire_time)}: {error}") from None
        return SecretValue(Secret(minted.access_token), ends)

    def _target(self, reference: str) -> tuple[str, list[str]]:
        account, _, scope = reference.partition("#")
        account = account.strip() or self._settings.impersonate_service_account or ""
        if not account:
            raise InternalError(
                "gcp_iam: no target service account (set NOETL_GCP_IMPERSONATE_SA or include the SA email in the"
                " keychain ref)"
            )
        matching(_ACCOUNT, account, f"gcp_iam: invalid reference {shown(reference)}")
        return account, scope.replace(",", " ").split() or [DEFAULT_SCOPE]
