"""The wallet: seals values for the database and opens them again, whoever wraps their data keys (spec 40, 3 and 4)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import orjson

from noetl.config.secret import Secret
from noetl.errors import EncryptionError
from noetl.secrets.envelope import KEY_BYTES, make_record, new_data_key, open_record, parse_record
from noetl.secrets.gcp_kms import GcpKeyManager
from noetl.secrets.key_managers import LocalKeyManager, checked_data_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from noetl.config.settings import SecuritySettings
    from noetl.secrets.envelope import WrappedKey
    from noetl.secrets.key_managers import KeyManager
    from noetl.secrets.web import HttpCall

NO_KEY: Final = "NOETL_ENCRYPTION_KEY is not set: credential encryption is unavailable"


class Wallet:
    """Encryption at rest. ``manager`` wraps new data keys; ``readers`` open what other providers wrapped before."""

    def __init__(self, manager: KeyManager, readers: Sequence[KeyManager] = ()) -> None:
        self._manager = manager
        self._managers = {known.provider: known for known in (*readers, manager)}

    async def seal(self, value: Any) -> str:
        """Encrypt a JSON value for a ``data_encrypted`` column; raises EncryptionError.

        The plaintext is compact UTF-8 JSON with the members of all objects sorted.
        """
        return await self.seal_text(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))

    async def seal_text(self, plaintext: bytes) -> str:
        """Encrypt a JSON text that has this form already."""
        data_key = new_data_key()
        return make_record(plaintext, data_key, await self.wrap(data_key)).text()

    async def open(self, stored: str) -> Any:
        """Decrypt a column into its JSON value.

        Raises:
            EncryptionError: it is no record, another key wrapped it, bytes were changed, or it holds no JSON.
        """
        record = parse_record(stored)
        plaintext = open_record(record, await self.unwrap(record.dek))
        try:
            return orjson.loads(plaintext)
        except orjson.JSONDecodeError as error:
            # Position and kind of the fault only: the document is the secret.
            raise EncryptionError(f"deserialize: {error.msg} at line {error.lineno} column {error.colno}") from None

    async def current_key_test(self) -> Callable[[WrappedKey], bool]:
        """A test whether a data key is wrapped by the current key; for one pass of rotation."""
        return await self._manager.current_key_test()

    async def wrap(self, data_key: bytes) -> WrappedKey:
        """Wrap a data key under the current key; raises EncryptionError."""
        return await self._manager.wrap(data_key)

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The data key of a record, whichever known key wrapped it; raises EncryptionError."""
        manager = self._managers.get(wrapped.provider)
        if manager is None:
            raise EncryptionError(f"{self._manager.title} cannot unwrap a DEK from provider '{wrapped.provider}'")
        return checked_data_key(await manager.unwrap(wrapped))


def make_wallet(settings: SecuritySettings, call: HttpCall, metadata_token_url: str) -> Wallet | None:
    """The wallet that the settings ask for, or None without a key (then the routes that need it answer 500).

    Args:
        settings: keys and provider, already checked.
        call: makes the HTTP calls to a key management service.
        metadata_token_url: where gcp-kms gets its access token.
    """
    key = settings.encryption_key
    former = settings.previous_encryption_keys
    if settings.kms_provider == "gcp-kms":
        assert settings.gcp_kms_key is not None, "a rule of the configuration"
        # Values written before the move to the service stay readable, and rotation moves them.
        own = (key, *former) if key is not None else former
        readers = [LocalKeyManager(own[0], own[1:])] if own else []
        return Wallet(GcpKeyManager(settings.gcp_kms_key, call, metadata_token_url), readers)
    if key is None:
        if not settings.allow_insecure_default_key:
            return None
        key = Secret(os.urandom(KEY_BYTES))
    return Wallet(LocalKeyManager(key, former))
