"""The stored form of an encrypted value: one data key per write, itself wrapped by the wallet's key (spec 40, 3).

Pure computation; who wraps data keys is in `key_managers`.
"""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from noetl.errors import EncryptionError
from noetl.secrets.strict_base64 import Base64Error, decode_base64, encode_base64

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
VERSION: Final = 1
ALGORITHM: Final = "AES-256-GCM"


class RecordSyntaxError(EncryptionError):
    """A stored value is not a record of this format: a legacy value, or a damaged one."""


class WrappedKey(msgspec.Struct, frozen=True):
    """A wrapped data key as it is stored: who wrapped it (provider, key, version of the key), and the bytes."""

    provider: str = msgspec.field(name="p")
    key_id: str = msgspec.field(name="kid")
    key_version: str = msgspec.field(name="kv")
    ciphertext: str = msgspec.field(name="ct")

    def decoded(self) -> bytes:
        """The wrapped bytes; raises RecordSyntaxError."""
        return _decoded("envelope dek base64", self.ciphertext)


class Record(msgspec.Struct, frozen=True):
    """One stored value; the members are written in this order. ``v`` and ``alg`` are not checked when read."""

    v: Annotated[int, msgspec.Meta(ge=-(1 << 15), lt=1 << 15)]
    alg: str
    ct: str
    dek: WrappedKey

    def text(self) -> str:
        """The compact JSON document for the column."""
        return msgspec.json.encode(self).decode()

    def rewrapped(self, key: WrappedKey) -> Record:
        """The same value under the same data key, wrapped anew."""
        return Record(self.v, self.alg, self.ct, key)


_decoder: Final = msgspec.json.Decoder(Record)


def parse_record(text: str) -> Record:
    """Read the column; blanks around the document, other member orders and unknown members are accepted.

    Raises:
        RecordSyntaxError: anything else, older formats among them (they are never guessed at).
    """
    try:
        return _decoder.decode(text.strip())
    except (msgspec.DecodeError, UnicodeError) as error:
        # msgspec's words name members and types, never values.
        raise RecordSyntaxError(f"not a wallet envelope record: {error}") from None


def new_data_key() -> bytes:
    """A fresh random data key of 32 bytes."""
    return os.urandom(KEY_BYTES)


def make_record(plaintext: bytes, data_key: bytes, wrapped: WrappedKey) -> Record:
    """Encrypt ``plaintext`` under a data key that nothing else was encrypted with."""
    return Record(VERSION, ALGORITHM, encode_base64(encrypt(data_key, plaintext)), wrapped)


def open_record(record: Record, data_key: bytes) -> bytes:
    """Decrypt the value of a record; raises EncryptionError when the bytes are not what was written."""
    return decrypt(data_key, _decoded("envelope ct base64", record.ct))


def encrypt(key: bytes, plaintext: bytes) -> bytes:
    """``nonce[12] || ciphertext || tag[16]`` of AES-256-GCM with a random nonce and no associated data."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, None)


def decrypt(key: bytes, sealed: bytes) -> bytes:
    """The reverse of `encrypt`.

    Raises:
        EncryptionError: the key has another length, the bytes are too few, or key and bytes do not belong together.
    """
    if len(key) != KEY_BYTES:
        raise EncryptionError(f"Invalid key length: expected {KEY_BYTES} bytes, got {len(key)}")
    if len(sealed) < NONCE_BYTES:
        raise EncryptionError("Ciphertext too short (missing nonce)")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
    except InvalidTag:
        raise EncryptionError("Decryption failed: aead::Error") from None


def _decoded(what: str, text: str) -> bytes:
    try:
        return decode_base64(text)
    except Base64Error as error:
        raise RecordSyntaxError(f"{what}: {error}") from None
