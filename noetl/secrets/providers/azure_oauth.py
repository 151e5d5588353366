"""Access tokens of Microsoft Entra ID for a client with a secret (spec 40, section 8a, azure_oauth)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import SecretValue
from noetl.secrets.providers.service import Service, excerpt, is_success, status_line
from noetl.secrets.providers.syntax import form, matching, shown

if TYPE_CHECKING:
    from noetl.config.provider_settings import AzureSettings
    from noetl.secrets.web import HttpCall

TIMEOUT_SECONDS: Final = 15.0

_TENANT: Final = re.compile(r"[A-Za-z0-9.-]+")
_SHOWN: Final = 400
_HEADERS: Final = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int


_DECODER: Final = msgspec.json.Decoder(_Token)


class AzureAccessTokens:
    """Asks for a token for ``[<tenant>:]<scope>``. Raises InternalError when a setting is missing."""

    def __init__(self, settings: AzureSettings, call: HttpCall) -> None:
        self._settings = settings
        self._service = Service(call, InternalError, TIMEOUT_SECONDS)
        if settings.tenant_id is None:
            raise _missing("AZURE_TENANT_ID")
        if settings.client_id is None:
            raise _missing("AZURE_CLIENT_ID")
        if settings.client_secret is None:
            raise _missing("AZURE_CLIENT_SECRET")
        self._tenant = settings.tenant_id
        self._client_id = settings.client_id
        self._client_secret = settings.client_secret

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; the region does not matter."""
        tenant, scope = self._parts(reference)
        matching(_TENANT, tenant, f"azure_oauth: invalid tenant {shown(tenant)}")
        url = f"{self._settings.authority_host.rstrip('/')}/{tenant}/oauth2/v2.0/token"
        body = form(
            {
                "grant_type": "client_credentials",
                "client_id": self._client_id,
                "client_secret": self._client_secret.reveal(),
                "scope": scope,
            }
        )
        status, answer = await self._service.send(f"azure_oauth: POST {url} failed", "POST", url, _HEADERS, body)
        if not is_success(status):
            raise InternalError(
                f"azure_oauth: AAD returned HTTP {status_line(status)}:"
                f" {excerpt(answer, _SHOWN, [self._client_secret])}"
            )
        token = self._service.decode("azure_oauth: parse AAD response", answer, _DECODER)
        try:
            ends = datetime.now(UTC) + timedelta(seconds=token.expires_in)
        except OverflowError:
            raise InternalError("azure_oauth: parse AAD response: expires_in is no time") from None
        return SecretValue(Secret(token.access_token), ends)

    def _parts(self, reference: str) -> tuple[str, str]:
        if not reference:
            return self._tenant, self._settings.oauth_scope
        tenant, _, scope = reference.partition(":")
        if not tenant or not scope or "/" in tenant or tenant.lower() in {"http", "https"}:
            return self._tenant, reference
        return tenant, scope


def _missing(name: str) -> InternalError:
    return InternalError(f"azure_oauth: {name} is not set (required for the `azure_oauth` secret provider)")
