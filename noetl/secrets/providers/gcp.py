"""Secrets of Google Cloud Secret Manager (spec 40, section 8a, gcp)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import ProviderError, SecretValue
from noetl.secrets.providers.gcp_metadata import workload_token
from noetl.secrets.providers.service import Service, excerpt, is_success
from noetl.secrets.providers.syntax import matching, shown, utf8_fault
from noetl.secrets.strict_base64 import Base64Error, decode_base64

if TYPE_CHECKING:
    from noetl.config.provider_settings import GcpSettings
    from noetl.secrets.web import HttpCall

_NAME: Final = re.compile(r"[A-Za-z0-9._:-]+")
_SHOWN: Final = 200


class _Payload(msgspec.Struct):
    data: str


class _Accessed(msgspec.Struct):
    payload: _Payload
    name: str = ""


_DECODER: Final = msgspec.json.Decoder(_Accessed)


class GcpSecretManager:
    """Reads ``projects/<p>/secrets/<s>[/versions/<v>]``, or ``<s>`` of the default project."""

    def __init__(self, settings: GcpSettings, call: HttpCall) -> None:
        self._settings = settings
        self._service = Service(call, ProviderError)
        self._token = workload_token(
            self._service,
            settings.metadata_token_url,
            "gcp metadata token request",
            "gcp metadata token decode",
            lambda status, _answer: ProviderError(f"gcp metadata token: HTTP {status}"),
        )

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; the region does not matter."""
        path = self._path(reference)
        token = await self._token.get()
        url = f"{self._settings.secret_manager_endpoint.rstrip('/')}/{path}:access"
        headers = {"authorization": f"Bearer {token.reveal()}"}
        status, answer = await self._service.send("gcp secret manager access request", "GET", url, headers)
        if not is_success(status):
            if status == 401:
                self._token.forget()
            raise ProviderError(
                f"gcp secret manager: HTTP {status} accessing {shown(reference)}: {excerpt(answer, _SHOWN, [token])}"
            )
        accessed = self._service.decode("gcp secret manager: invalid access response", answer, _DECODER)
        try:
            text = decode_base64(accessed.payload.data).decode()
        except Base64Error as error:
            raise ProviderError(f"gcp secret manager: payload not base64: {error}") from None
        except UnicodeDecodeError as error:
            raise ProviderError(f"gcp secret manager: payload not UTF-8: {utf8_fault(error)}") from None
        version = accessed.name.partition("/versions/")[2]
        return SecretValue(Secret(text), version=version)

    def _path(self, reference: str) -> str:
        """The resource name; what begins like one is taken as complete."""
        refusal = f"gcp secret manager: invalid reference {shown(reference)}"
        if not reference.startswith("projects/"):
            matching(_NAME, reference, refusal)
            project = self._settings.project
            if project is None:
                raise InternalError("gcp secret manager: no project (set keychain project or GOOGLE_CLOUD_PROJECT)")
            reference = f"projects/{project}/secrets/{reference}"
        for part in reference.split("/"):
            matching(_NAME, part, refusal)
        return reference if "/versions/" in reference else f"{reference}/versions/latest"
