"""Who wraps and unwraps data keys: the interface, and the manager with a key of this process (spec 40, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from noetl.errors import EncryptionError
from noetl.secrets.envelope import KEY_BYTES, WrappedKey, decrypt, encrypt
from noetl.secrets.strict_base64 import encode_base64

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noetl.config.secret import Secret

LOCAL_PROVIDER: Final = "local"
LOCAL_KEY_ID: Final = "env:NOETL_ENCRYPTION_KEY"
LOCAL_KEY_VERSION: Final = "v1"


class KeyServiceError(EncryptionError):
    """A key management service cannot say now whether a key opens; nothing is known of key and record (500)."""


class KeyManager(Protocol):
    """Wraps data keys. Every method raises EncryptionError."""

    provider: str
    title: str
    """Name in error messages."""

    async def wrap(self, data_key: bytes) -> WrappedKey:
        """Wrap a data key of 32 bytes under the current key."""
        ...

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The data key of a record that this provider wrapped."""
        ...

    async def current_key_test(self) -> Callable[[WrappedKey], bool]:
        """A test for one pass of rotation: whether a data key is wrapped as `wrap` would wrap it now."""
        ...


class LocalKeyManager:
    """Wraps with a 32-byte key of this process; former keys only unwrap."""

    provider = LOCAL_PROVIDER
    title = "LocalDevKms"

    def __init__(self, key: Secret[bytes], former: Sequence[Secret[bytes]] = ()) -> None:
        self._key = key
        self._former = tuple(former)

    async def wrap(self, data_key: bytes) -> WrappedKey:
        """Wrap under the current key; key id and version are constant, because the reference expects them."""
        ciphertext = encode_base64(encrypt(self._key.reveal(), data_key))
        return WrappedKey(LOCAL_PROVIDER, LOCAL_KEY_ID, LOCAL_KEY_VERSION, ciphertext)

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        """Unwrap with the current key, else with a former one; key id and version are not compared."""
        sealed = wrapped.decoded()
        failures: list[EncryptionError] = []
        for key in (self._key, *self._former):
            try:
                return checked_data_key(decrypt(key.reveal(), sealed))
            except EncryptionError as error:
                failures.append(error)
        raise failures[0]

    async def current_key_test(self) -> Callable[[WrappedKey], bool]:
        """Whether the current key opens it and the labels are the current ones: a replaced key has the same labels."""

        def is_current(wrapped: WrappedKey) -> bool:
            labels = (wrapped.provider, wrapped.key_id, wrapped.key_version)
            if labels != (LOCAL_PROVIDER, LOCAL_KEY_ID, LOCAL_KEY_VERSION):
                return False
            try:
                decrypt(self._key.reveal(), wrapped.decoded())
            except EncryptionError:
                return False
            return True

        return is_current


def checked_data_key(data_key: bytes) -> bytes:
    """The data key, if it has 32 bytes; raises EncryptionError otherwise."""
    if len(data_key) != KEY_BYTES:
        raise EncryptionError(f"Invalid key length: expected {KEY_BYTES} bytes, got {len(data_key)}")
    return data_key
