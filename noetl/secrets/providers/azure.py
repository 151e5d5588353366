"""Secrets of Azure Key Vault (spec 40, section 8a, azure)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import SecretValue
from noetl.secrets.providers.service import Service, excerpt, is_success, status_line
from noetl.secrets.providers.syntax import matching, shown
from noetl.secrets.providers.tokens import TokenCache

if TYPE_CHECKING:
    from noetl.config.provider_settings import AzureSettings
    from noetl.secrets.web import HttpCall

_PREFIX: Final = "azure secret provider"
_VAULT: Final = re.compile(r"[A-Za-z0-9-]{3,24}")
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,127}")
_RESOURCE: Final = "?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
_SHOWN_OF_TOKEN: Final = 300
_SHOWN: Final = 400
_UNKNOWN_LIFE_SECONDS: Final = 60
_MARGIN_SECONDS: Final = 30


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int | str | None = None


class _Secret(msgspec.Struct):
    value: str
    id: str = ""


_TOKEN_DECODER: Final = msgspec.json.Decoder(_Token)
_DECODER: Final = msgspec.json.Decoder(_Secret)


class AzureKeyVault:
    """Reads ``[<vault>/]<secret>[#<version>]``."""

    def __init__(self, settings: AzureSettings, call: HttpCall) -> None:
        self._settings = settings
        self._service = Service(call, InternalError)
        self._token = TokenCache(self._instance_token)

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; the region does not matter."""
        vault, name, version = self._parts(reference)
        token = self._settings.key_vault_token or await self._token.get()
        path = f"{name}/{version}" if version else name
        query = f"?api-version={quote(self._settings.key_vault_api_version, safe='')}"
        url = f"https://{vault}.{self._settings.key_vault_dns_suffix.strip('.')}/secrets/{path}{query}"
        headers = {"authorization": f"Bearer {token.reveal()}"}
        status, answer = await self._service.send(f"{_PREFIX}: GET {url} for '{name}'", "GET", url, headers)
        if not is_success(status):
            if status == 401:
                self._token.forget()
            raise InternalError(
                f"{_PREFIX}: GET '{name}' returned {status_line(status)}: {excerpt(answer, _SHOWN, [token])}"
            )
        found = self._service.decode(f"{_PREFIX}: decode secret '{name}'", answer, _DECODER)
        return SecretValue(Secret(found.value), version=found.id.rstrip("/").rpartition("/")[2])

    def _parts(self, reference: str) -> tuple[str, str, str]:
        location, mark, version = reference.partition("#")
        if not location:
            raise InternalError("azure secret ref: empty reference")
        if mark and not version:
            raise InternalError("azure secret ref: empty version after '#'")
        vault, slash, name = location.partition("/")
        if not slash:
            vault, name = self._settings.key_vault or "", location
            if not vault:
                raise InternalError(f"{_PREFIX}: no vault (set AZURE_KEYVAULT_VAULT or prefix the ref with `<vault>/`)")
        elif not vault or not name:
            raise InternalError("azure secret ref: '<vault>/<secret-name>' shape has an empty side")
        refusal = f"{_PREFIX}: invalid reference {shown(reference)} (expected '[<vault>/]<secret-name>[#<version>]')"
        matching(_VAULT, vault, refusal)
        matching(_NAME, name, refusal)
        if version:
            matching(_NAME, version, refusal)
        return vault, name, version

    async def _instance_token(self) -> tuple[Secret[str], float]:
        url = self._settings.imds_token_url + _RESOURCE
        status, answer = await self._service.send(f"{_PREFIX}: IMDS token request", "GET", url, {"Metadata": "true"})
        if not is_success(status):
            raise InternalError(f"{_PREFIX}: IMDS returned {status_line(status)}: {excerpt(answer, _SHOWN_OF_TOKEN)}")
        token = self._service.decode(f"{_PREFIX}: decode IMDS response", answer, _TOKEN_DECODER)
        try:
            life = int(token.expires_in or _UNKNOWN_LIFE_SECONDS)
        except ValueError:
            life = _UNKNOWN_LIFE_SECONDS
        return Secret(token.access_token), life - _MARGIN_SECONDS
