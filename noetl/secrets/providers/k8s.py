"""Secrets of a Kubernetes cluster (spec 40, section 8a, k8s)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import ProviderError, SecretValue
from noetl.secrets.providers.files import Authorities, read_text
from noetl.secrets.providers.service import Service, excerpt, is_success
from noetl.secrets.providers.syntax import matching, shown, utf8_fault
from noetl.secrets.strict_base64 import Base64Error, decode_base64

if TYPE_CHECKING:
    import ssl

    from noetl.config.provider_settings import KubernetesSettings
    from noetl.secrets.web import HttpCall

NAMESPACE_FILE: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

_DNS_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_SHOWN: Final = 200
_PREFIX: Final = "kubernetes secrets"


class _Metadata(msgspec.Struct, frozen=True):
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class _SecretObject(msgspec.Struct):
    data: dict[str, str] = {}
    metadata: _Metadata = _Metadata()


_DECODER: Final = msgspec.json.Decoder(_SecretObject)


class KubernetesSecrets:
    """Reads ``[<namespace>/]<secret>/<key>``, or ``<secret>`` with its only entry."""

    def __init__(self, settings: KubernetesSettings, call: HttpCall, namespace_file: str = NAMESPACE_FILE) -> None:
        self._settings = settings
        self._namespace_file = namespace_file
        self._service = Service(call, ProviderError)
        self._authorities = Authorities()

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; the region does not matter."""
        namespace, name, key = self._parts(reference)
        if namespace is None:
            namespace = self._checked(await self._own_namespace(), reference)
        token = await self._token()
        address = self._settings.effective_api_url.rstrip("/")
        url = f"{address}/api/v1/namespaces/{namespace}/secrets/{name}"
        headers = {"authorization": f"Bearer {token.reveal()}", "accept": "application/json"}
        trust = await self._trust() if url.startswith("https:") else None
        status, answer = await self._service.send(f"{_PREFIX} API request", "GET", url, headers, trust=trust)
        if not is_success(status):
            raise ProviderError(
                f"{_PREFIX}: HTTP {status} reading '{namespace}/{name}': {excerpt(answer, _SHOWN, [token])}"
            )
        found = self._service.decode(f"{_PREFIX}: invalid Secret object", answer, _DECODER)
        try:
            text = decode_base64(_entry(found.data, name, key).strip()).decode()
        except Base64Error as error:
            raise ProviderError(f"{_PREFIX}: value not base64: {error}") from None
        except UnicodeDecodeError as error:
            raise ProviderError(f"{_PREFIX}: value not UTF-8: {utf8_fault(error)}") from None
        return SecretValue(Secret(text), version=found.metadata.resource_version)

    def _parts(self, reference: str) -> tuple[str | None, str, str | None]:
        parts = reference.split("/")
        if len(parts) > 3 or not all(parts):
            raise InternalError(_refusal(reference))
        names = parts[:1] if len(parts) < 3 else parts[:2]
        for name in names:
            self._checked(name, reference)
        return (
            parts[0] if len(parts) == 3 else None,
            names[-1],
            parts[-1] if len(parts) > 1 else None,
        )

    def _checked(self, name: str, reference: str) -> str:
        return matching(_DNS_NAME, name, _refusal(reference))

    async def _own_namespace(self) -> str:
        if self._settings.namespace is not None:
            return self._settings.namespace
        try:
            return await read_text(self._namespace_file) or "default"
        except (OSError, UnicodeDecodeError):
            return "default"

    async def _token(self) -> Secret[str]:
        if self._settings.token is not None:
            return self._settings.token
        path = self._settings.token_file
        try:
            return Secret(await read_text(path))
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise InternalError(f"{_PREFIX}: reading ServiceAccount token '{path}': {cause}") from None

    async def _trust(self) -> ssl.SSLContext | None:
        path = self._settings.ca_file
        try:
            return await self._authorities.trust(path)
        except ValueError as error:
            raise InternalError(f"{_PREFIX}: CA bundle '{path}' not valid PEM: {error}") from None
        except OSError:
            return None  # outside of a cluster there is none


def _refusal(reference: str) -> str:
    return f"{_PREFIX}: invalid reference {shown(reference)} (expected '[<namespace>/]<secret>/<key>' or '<secret>')"


def _entry(data: dict[str, str], name: str, key: str | None) -> str:
    if key is not None:
        if key not in data:
            raise ProviderError(f"{_PREFIX}: Secret '{name}' has no key {shown(key)}")
        return data[key]
    if not data:
        raise ProviderError(f"{_PREFIX}: Secret '{name}' has no data")
    if len(data) > 1:
        raise InternalError(
            f"{_PREFIX}: Secret '{name}' has {len(data)} keys ({', '.join(sorted(data))});"
            f" reference a specific one as '{name}/<key>'"
        )
    return next(iter(data.values()))
