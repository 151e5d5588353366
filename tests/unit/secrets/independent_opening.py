"""Opens sealed envelopes with nothing but Python: X25519, HKDF and ChaCha20-Poly1305 as the RFCs describe them.

A second implementation, so that the tests do not ask the library that sealed whether it sealed rightly. Slow, and not
in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from typing import Any, Final

PRIME: Final = 2**255 - 19
POLY_PRIME: Final = 2**130 - 5
ALGORITHM: Final = "x25519-hkdf-sha256-chacha20-poly1305"
BASE_POINT: Final = (9).to_bytes(32, "little")


def x25519(secret: bytes, point: bytes) -> bytes:
    """The Montgomery ladder of RFC 7748, section 5."""
    scalar = int.from_bytes(secret, "little") & ((1 << 254) - 8) | (1 << 254)
    x1 = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for position in reversed(range(255)):
        bit = scalar >> position & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = (aa - bb) % PRIME
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


def hkdf_sha256(material: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 without salt."""
    key = hmac.digest(bytes(32), material, "sha256")
    block, output = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.new(key, block + info + bytes([number]), hashlib.sha256).digest()
        output += block
    return output[:length]


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """RFC 8439, section 2.3."""
    state = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8L", key), counter]
    state += struct.unpack("<3L", nonce)
    work = state[:]

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for one, two, three, shift in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            work[one] = (work[one] + work[two]) & 0xFFFFFFFF
            mixed = work[three] ^ work[one]
            work[three] = (mixed << shift | mixed >> (32 - shift)) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return struct.pack("<16L", *((one + other) & 0xFFFFFFFF for one, other in zip(state, work, strict=True)))


def poly1305(key: bytes, message: bytes) -> bytes:
    """RFC 8439, section 2.5."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(message), 16):
        total = (total + int.from_bytes(message[start : start + 16] + b"\x01", "little")) * r % POLY_PRIME
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


def open_chacha20_poly1305(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """RFC 8439, section 2.8; raises ValueError for a wrong tag."""
    ciphertext, tag = sealed[:-16], sealed[-16:]
    padded = b"".join(part + bytes(-len(part) % 16) for part in (associated, ciphertext))
    lengths = struct.pack("<QQ", len(associated), len(ciphertext))
    if poly1305(chacha20_block(key, 0, nonce)[:32], padded + lengths) != tag:
        raise ValueError("wrong tag")
    blocks = -(-len(ciphertext) // 64)
    stream = b"".join(chacha20_block(key, number + 1, nonce) for number in range(blocks))
    return bytes(one ^ other for one, other in zip(ciphertext, stream, strict=False))


def open_envelope(envelope: dict[str, Any], secret: bytes) -> bytes:
    """The plaintext of a sealed answer (spec 40, section 6.2); raises ValueError when it is not for this secret key."""
    if (envelope["alg"], envelope["v"]) != (ALGORITHM, 1):
        raise ValueError("another algorithm")
    shared = x25519(secret, base64.b64decode(envelope["eph_pub"]))
    derived = hkdf_sha256(shared, b"noetl-sealed-v1", 44)
    associated = f"{ALGORITHM}|v=1".encode()
    return open_chacha20_poly1305(derived[:32], derived[32:], base64.b64decode(envelope["ciphertext"]), associated)
