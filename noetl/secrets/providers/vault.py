"""Secrets of a HashiCorp Vault or OpenBao key-value store, version 2 (spec 40, section 8a, vault)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from noetl.config.secret import Secret
from noetl.errors import InternalError
from noetl.secrets.providers.base import ProviderError, SecretValue
from noetl.secrets.providers.files import Authorities, read_text
from noetl.secrets.providers.service import Service, excerpt, is_success
from noetl.secrets.providers.syntax import path_segment, shown

if TYPE_CHECKING:
    import ssl

    from noetl.config.provider_settings import VaultSettings
    from noetl.secrets.web import HttpCall

_SHOWN: Final = 200
_TYPES: Final[dict[type, str]] = {
    type(None): "null", bool: "boolean", int: "number", float: "number", list: "array", dict: "object",
}  # fmt: skip


class _Metadata(msgspec.Struct, frozen=True):
    version: int | None = None


class _Versioned(msgspec.Struct):
    data: dict[str, Any]
    metadata: _Metadata = _Metadata()


class _Read(msgspec.Struct):
    data: _Versioned


_DECODER: Final = msgspec.json.Decoder(_Read)


class VaultSecrets:
    """Reads ``[<mount>/]<path>[#<key>]``; without a key the secret must have one entry."""

    def __init__(self, settings: VaultSettings, call: HttpCall) -> None:
        self._settings = settings
        self._service = Service(call, ProviderError)
        self._authorities = Authorities()

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """See `SecretProvider`; the region does not matter."""
        mount, path, key = self._parts(reference)
        refusal = _refusal(reference)
        address = self._settings.address.rstrip("/")
        url = f"{address}/v1/{_segments(mount, refusal)}/data/{_segments(path, refusal)}"
        token = await self._token()
        headers = {"X-Vault-Token": token.reveal()}
        if self._settings.namespace:
            headers["X-Vault-Namespace"] = self._settings.namespace
        trust = await self._trust()
        status, answer = await self._service.send("vault KV request", "GET", url, headers, trust=trust)
        if not is_success(status):
            raise ProviderError(f"vault: HTTP {status} reading '{mount}/{path}': {excerpt(answer, _SHOWN, [token])}")
        found = self._service.decode("vault: invalid KV response", answer, _DECODER).data
        version = found.metadata.version
        return SecretValue(Secret(_entry(found.data, path, key)), version="" if version is None else str(version))

    def _parts(self, reference: str) -> tuple[str, str, str | None]:
        location, mark, key = reference.partition("#")
        mount, slash, path = location.partition("/")
        if not slash:
            mount, path = self._settings.kv_mount.strip("/"), location
        if not mount or not path or (mark and not key):
            raise InternalError(_refusal(reference))
        return mount, path, key if mark else None

    async def _token(self) -> Secret[str]:
        if self._settings.token is not None:
            return self._settings.token
        path = self._settings.token_file
        if path is None:
            raise InternalError("vault: no token configured (set VAULT_TOKEN or NOETL_VAULT_TOKEN_FILE)")
        try:
            return Secret(await read_text(path))
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise InternalError(f"vault: reading token file '{path}': {cause}") from None

    async def _trust(self) -> ssl.SSLContext | None:
        path = self._settings.ca_file
        if path is None:
            return None
        try:
            return await self._authorities.trust(path)
        except ValueError as error:
            raise InternalError(f"vault: CA bundle '{path}' not valid PEM: {error}") from None
        except OSError as error:
            raise InternalError(f"vault: reading CA bundle '{path}': {error.strerror}") from None


def _segments(path: str, refusal: str) -> str:
    """A path of names; mounts of the settings may have several, as ``team/kv``."""
    return "/".join(path_segment(part, refusal) for part in path.split("/"))


def _refusal(reference: str) -> str:
    return f"vault: invalid reference {shown(reference)} (expected '[<mount>/]<path>#<key>' or '[<mount>/]<path>')"


def _entry(data: dict[str, Any], path: str, key: str | None) -> str:
    if key is None:
        if not data:
            raise ProviderError(f"vault: secret '{path}' has no data")
        if len(data) > 1:
            raise InternalError(
                f"vault: secret '{path}' has {len(data)} keys ({', '.join(sorted(data))});"
                f" reference a specific one as '{path}#<key>'"
            )
        key = next(iter(data))
    if key not in data:
        raise ProviderError(f"vault: secret '{path}' has no key {shown(key)}")
    value = data[key]
    if not isinstance(value, str):
        raise ProviderError(f"vault: secret '{path}' key {shown(key)} is not a string (got {_TYPES[type(value)]})")
    return value
