"""Data keys wrapped by Google Cloud KMS (spec 40, section 4)."""

from __future__ import annotations

import re
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from noetl.errors import EncryptionError
from noetl.secrets.envelope import WrappedKey, new_data_key
from noetl.secrets.key_managers import KeyServiceError
from noetl.secrets.providers.gcp_metadata import workload_token
from noetl.secrets.providers.service import Service, excerpt, is_success
from noetl.secrets.strict_base64 import Base64Error, decode_base64, encode_base64

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.secrets.web import HttpCall

T = TypeVar("T")

PROVIDER: Final = "gcp-kms"
ENDPOINT: Final = "https://cloudkms.googleapis.com/v1"
TIMEOUT_SECONDS: Final = 10.0
PRIMARY: Final = "primary"

_KEY_NAME: Final = re.compile(r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:/-]|(?:^|/)\.{1,2}(?:/|$)", re.ASCII)
_SHOWN: Final = 200
_FAILURES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
"""Refusals below 500 that say nothing about the key or the record."""


class _Encrypted(msgspec.Struct):
    ciphertext: str
    name: str = ""


class _Decrypted(msgspec.Struct):
    plaintext: str


class GcpKeyManager:
    """Wraps under one cryptoKey; every wrap and unwrap is a call, because the key never leaves the service."""

    provider = PROVIDER
    title = "GcpKms"

    def __init__(
        self, key_name: str, call: HttpCall, metadata_token_url: str, clock: Callable[[], float] = monotonic
    ) -> None:
        """``key_name`` is ``projects/p/locations/l/keyRings/r/cryptoKeys/k``; ``call`` makes the requests.

        ``clock`` gives seconds and ends the life of access tokens.
        """
        self._key_name = key_name
        self._service = Service(call, KeyServiceError, TIMEOUT_SECONDS)
        what = "kms metadata token"
        self._token = workload_token(
            self._service,
            metadata_token_url,
            f"{what} request",
            f"{what} decode",
            lambda status, _answer: KeyServiceError(f"{what}: HTTP {status}"),
            clock,
        )

    async def wrap(self, data_key: bytes) -> WrappedKey:
        """Encrypt under the key's primary version."""
        given = {"plaintext": encode_base64(data_key)}
        answer = await self._ask("encrypt", self._key_name, given, msgspec.json.Decoder(_Encrypted))
        try:
            decode_base64(answer.ciphertext)
        except Base64Error as error:
            raise EncryptionError(f"kms encrypt ciphertext base64: {error}") from None
        version = answer.name.rpartition("cryptoKeyVersions/")[2] if "cryptoKeyVersions/" in answer.name else PRIMARY
        return WrappedKey(PROVIDER, self._key_name, version, answer.ciphertext)

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        """Decrypt with the key that the record names; a name of another form never reaches the URL."""
        if _KEY_NAME.fullmatch(wrapped.key_id) is None or _UNSAFE.search(wrapped.key_id):
            raise EncryptionError("kms decrypt: the record names no cryptoKey")
        given = {"ciphertext": encode_base64(wrapped.decoded())}
        answer = await self._ask("decrypt", wrapped.key_id, given, msgspec.json.Decoder(_Decrypted))
        try:
            return decode_base64(answer.plaintext)
        except Base64Error as error:
            raise EncryptionError(f"kms decrypt plaintext base64: {error}") from None

    async def current_key_test(self) -> Callable[[WrappedKey], bool]:
        """Compares key and version with what the service uses for a key wrapped now."""
        now = await self.wrap(new_data_key())
        labels = (now.provider, now.key_id, now.key_version)
        return lambda wrapped: (wrapped.provider, wrapped.key_id, wrapped.key_version) == labels

    async def _ask(self, verb: str, key_name: str, body: dict[str, str], decoder: msgspec.json.Decoder[T]) -> T:
        token = await self._token.get()
        headers = {"authorization": f"Bearer {token.reveal()}", "content-type": "application/json"}
        url = f"{ENDPOINT}/{key_name}:{verb}"
        status, answer = await self._service.send(
            f"kms {verb} request", "POST", url, headers, msgspec.json.encode(body)
        )
        if not is_success(status):
            if status == HTTPStatus.UNAUTHORIZED:
                self._token.forget()
            failed = status in _FAILURES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            # An error of the service quotes the request's names, not its key material.
            message = f"kms {verb}: HTTP {status} {excerpt(answer, _SHOWN, [token])}"
            raise KeyServiceError(message) if failed else EncryptionError(message)
        return self._service.decode(f"kms {verb} decode", answer, decoder)
