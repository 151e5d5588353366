"""Sealed delivery: recorded and computed vectors, and what must not open (spec 40, section 6.2)."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from noetl.errors import EncryptionError
from noetl.secrets.sealed import LowOrderKeyError, PublicKeyError, SealedEnvelope, open_sealed, read_public_key, seal
from tests.unit.secrets import independent_opening

ALGORITHM = "x25519-hkdf-sha256-chacha20-poly1305"
RECIPIENT = X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = RECIPIENT.public_key().public_bytes_raw()
RECORDED = SealedEnvelope(
    ALGORITHM,
    1,
    "5yyoYBzrZCsgcLi+9drIxYP3b6Kbq7VJQjlGTX5qZwo=",
    "SUNP4NMOsv5J7zptPu4L9YjHubXbxz3jDRoV8K7muvaloBTWsjK+COGpOQElQWOI/J8igDdXF8uie/l0XgDeIEtYVVsl0hv+CAIMhYeCa2s2L8bK2D"
    "49Yf6vsRJ41CfsAaExA0jIupgOQ9UNYnHYKiItJ6u0Omz3UkgB2h1VKmqSwIvTku17XpsPQS6YTHS1VEqWdjwPAkCSTjM1SfgXYlnwqVl/t2na0LSs"
    "V4Euvg==",
)


def test_an_envelope_of_the_reference_opens() -> None:
    assert open_sealed(RECORDED, RECIPIENT).decode() == (
        '{"id":"766521679446016002","name":"pg2","type":"postgres","data":{"x":1},'
        '"created_at":"2026-11-23T14:21:44.830643Z","updated_at":"2026-11-23T14:21:44.830643Z"}'
    )


def test_a_second_implementation_opens_what_either_server_sealed() -> None:
    secret = bytes(range(1, 33))
    assert independent_opening.x25519(secret, independent_opening.BASE_POINT) == PUBLIC
    assert independent_opening.open_envelope(msgspec.to_builtins(RECORDED), secret) == open_sealed(RECORDED, RECIPIENT)
    for length in (0, 1, 15, 16, 17, 63, 64, 65, 1000):
        sealed = msgspec.to_builtins(seal(bytes(length), PUBLIC))
        assert independent_opening.open_envelope(sealed, secret) == bytes(length)


def test_an_envelope_with_a_fixed_ephemeral_key_is_the_computed_one() -> None:
    plaintext = b'{"id":"1","name":"x","type":"bearer","data":{"token":"t"}}'
    envelope = seal(plaintext, PUBLIC, X25519PrivateKey.from_private_bytes(bytes(range(33, 65))))
    assert msgspec.json.encode(envelope).decode() == (
        '{"alg":"x25519-hkdf-sha256-chacha20-poly1305","v":1,"eph_pub":"WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpns=",'
        '"ciphertext":"cg4tK8uVgOtumICadtUbrcdXF2vK+ey8+cp3Zj7l8XhEb9d5mGyXqnimiANJBbD6qlNQinuaaRyOhUIy6MQ28tJ7jjprIvbkjjc="}'
    )


@given(st.binary(max_size=300))
def test_only_the_recipient_opens_it(plaintext: bytes) -> None:
    first, second = seal(plaintext, PUBLIC), seal(plaintext, PUBLIC)
    assert first.eph_pub != second.eph_pub
    assert open_sealed(first, RECIPIENT) == plaintext
    with pytest.raises(EncryptionError):
        open_sealed(first, X25519PrivateKey.generate())


@pytest.mark.parametrize(
    "envelope",
    [
        msgspec.structs.replace(RECORDED, v=2),
        msgspec.structs.replace(RECORDED, alg="none"),
        msgspec.structs.replace(RECORDED, eph_pub="AA=="),
        msgspec.structs.replace(RECORDED, ciphertext="AA=="),
        msgspec.structs.replace(RECORDED, eph_pub=RECORDED.eph_pub[:-2] + "8="),
    ],
)
def test_a_changed_envelope_does_not_open(envelope: SealedEnvelope) -> None:
    with pytest.raises(EncryptionError):
        open_sealed(envelope, RECIPIENT)


LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    b"\xec" + b"\xff" * 30 + b"\x7f",
    b"\xed" + b"\xff" * 30 + b"\x7f",
    b"\xee" + b"\xff" * 30 + b"\x7f",
]


@pytest.mark.parametrize("key", LOW_ORDER)
def test_a_key_that_everybody_could_open_for_is_refused(key: bytes) -> None:
    with pytest.raises(LowOrderKeyError):
        seal(b"secret", key)


@pytest.mark.parametrize(
    ("text", "message"),
    [("!AAA", "base64: Invalid symbol 33, offset 0."), ("AAAA", "must be 32 bytes, got 3")],
)
def test_a_key_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(PublicKeyError) as caught:
        read_public_key(text)
    assert str(caught.value) == message
