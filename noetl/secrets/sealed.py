"""Sealed delivery: encrypting an answer to one worker's X25519 key (spec 40, section 6.2)."""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from noetl.errors import EncryptionError
from noetl.secrets.strict_base64 import Base64Error, decode_base64, encode_base64

ALGORITHM: Final = "x25519-hkdf-sha256-chacha20-poly1305"
VERSION: Final = 1
PUBLIC_KEY_BYTES: Final = 32

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_INFO: Final = b"noetl-sealed-v1"
_ASSOCIATED: Final = f"{ALGORITHM}|v={VERSION}".encode()


class PublicKeyError(ValueError):
    """A worker's public key cannot be sealed to; the message says why."""


class LowOrderKeyError(PublicKeyError):
    """A public key whose shared secret with anybody is known to everybody."""


class SealedEnvelope(msgspec.Struct, frozen=True):
    """What a worker gets instead of the plaintext; members in the order of the wire."""

    alg: str
    v: int
    eph_pub: str
    ciphertext: str


def read_public_key(text: str) -> bytes:
    """The 32 bytes of a public key in strict base64; raises PublicKeyError."""
    try:
        key = decode_base64(text)
    except Base64Error as error:
        raise PublicKeyError(f"base64: {error}") from None
    if len(key) != PUBLIC_KEY_BYTES:
        raise PublicKeyError(f"must be {PUBLIC_KEY_BYTES} bytes, got {len(key)}")
    return key


def seal(plaintext: bytes, recipient: bytes, ephemeral: X25519PrivateKey | None = None) -> SealedEnvelope:
    """Encrypt to the public key ``recipient`` of 32 bytes.

    ``ephemeral`` is fresh for every call unless a test vector fixes it: key and nonce both derive from it.

    Raises:
        LowOrderKeyError: the shared secret would be zero.
    """
    ephemeral = ephemeral or X25519PrivateKey.generate()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    except ValueError:
        raise LowOrderKeyError("is not a valid X25519 key") from None
    key, nonce = _derived(shared)
    return SealedEnvelope(
        ALGORITHM,
        VERSION,
        encode_base64(ephemeral.public_key().public_bytes_raw()),
        encode_base64(ChaCha20Poly1305(key).encrypt(nonce, plaintext, _ASSOCIATED)),
    )


def open_sealed(envelope: SealedEnvelope, secret: X25519PrivateKey) -> bytes:
    """The plaintext, for the holder of the secret key; raises EncryptionError."""
    if (envelope.alg, envelope.v) != (ALGORITHM, VERSION):
        raise EncryptionError(f"sealed envelope: unsupported alg '{envelope.alg}' v{envelope.v}")
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(decode_base64(envelope.eph_pub)))
        key, nonce = _derived(shared)
        return ChaCha20Poly1305(key).decrypt(nonce, decode_base64(envelope.ciphertext), _ASSOCIATED)
    except (ValueError, InvalidTag):
        raise EncryptionError("sealed envelope: cannot be opened with this key") from None


def _derived(shared: bytes) -> tuple[bytes, bytes]:
    okm = HKDF(SHA256(), _KEY_BYTES + _NONCE_BYTES, salt=None, info=_INFO).derive(shared)
    return okm[:_KEY_BYTES], okm[_KEY_BYTES:]
