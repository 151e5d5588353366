"""The stored format: the reference's values open, ours open elsewhere, faults are told (spec 40, section 3)."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from noetl.config.secret import Secret
from noetl.errors import EncryptionError
from noetl.secrets.envelope import RecordSyntaxError, parse_record
from noetl.secrets.key_managers import LocalKeyManager
from noetl.secrets.strict_base64 import Base64Error, decode_base64, encode_base64
from noetl.secrets.wallet import Wallet

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
HEAD = '{"v":1,"alg":"AES-256-GCM","ct":"'
MIDDLE = '","dek":{"p":"local","kid":"env:NOETL_ENCRYPTION_KEY","kv":"v1","ct":"'
VECTORS = [
    (
        {"x": 1},
        HEAD
        + "uPV/tkKZoZsxDZcKg2j7/QQksi/Bn4Alui+a26vAttaVdJY="
        + MIDDLE
        + "5uWzIbmCoNpSZf9cwxymBKwzAznQgMB9ttjpeU2PRBPOf1FDE77XhczRYzagbPaYR3yPm4H3APnYItwU"
        + '"}}',
    ),
    (
        {
            "db_host": "h", "db_password": "p@ss", "db_port": "5432",
            "nested": {"a": [1, 2.0, None, True, "é"], "b": 1}, "zeta": 1,
        },
        HEAD
        + "l4gesT5+vUPEHbaZ7NgLP8ZiT9sXqrMuleIw40Uc1XcQ93VPZx+4qOZbw8GnaiGmppliB0ySnXqE76mvMHbKFs6DJL0l+zovr22+f3cAjas"
        "pDzhszja0byAVYJNI1ooSikjLC+nY0JUaZFsb0sphPJfvWA+Hp1jtTaDfdPSfkpFPIDnrBSo="
        + MIDDLE
        + "P4I7+83+p0RseS7bcVXgtheq7N5lnz3qlJsU87nmudkIT19qVn89aU/wIZilDwH1LhyQi6mI4e/1u32C"
        + '"}}',
    ),
    (
        {"k": 2},
        HEAD
        + "veO+aUUC/jhxIQVnSYgjkCk9QjAlRVtm1yKRfgnDvsOydYw="
        + MIDDLE
        + "CibKyE6NI8bxJtXLX5iMiYjQO8D048LHAdqkdI3QcRVy+L7TVcmYprdT2H6uCSj9Smw6eEcf72LJX33P"
        + '"}}',
    ),
]  # fmt: skip
RECORD = json.loads(VECTORS[0][1])


def wallet(key: bytes = KEY, *former: bytes) -> Wallet:
    return Wallet(LocalKeyManager(Secret(key), [Secret(one) for one in former]))


def with_members(**members: object) -> str:
    return json.dumps({**RECORD, **members})


def with_key_members(**members: object) -> str:
    return with_members(dek={**RECORD["dek"], **members})


@pytest.mark.parametrize(("value", "stored"), VECTORS)
async def test_values_that_the_reference_wrote_open(value: object, stored: str) -> None:
    assert await wallet().open(stored) == value


@pytest.mark.parametrize(
    "stored",
    [
        json.dumps(RECORD, indent=2),
        f"\n {VECTORS[0][1]}\t",
        json.dumps(dict(reversed(RECORD.items()))),
        with_members(extra=[1]),
        with_members(v=0, alg="other"),
        with_key_members(kid="k", kv="v9", more=None),
    ],
)
async def test_other_forms_of_the_document_open(stored: str) -> None:
    assert await wallet().open(stored) == {"x": 1}


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ("aGVsbG8=", "not a wallet envelope record: "),
        ("", "not a wallet envelope record: "),
        ('{"db_host":"h"}', "not a wallet envelope record: "),
        ("[]", "not a wallet envelope record: "),
        (with_members(v="1"), "not a wallet envelope record: "),
        (with_members(v=40000), "not a wallet envelope record: "),
        (with_members(v=1.5), "not a wallet envelope record: "),
        (with_members(alg=5), "not a wallet envelope record: "),
        (with_members(ct="abc !"), "envelope ct base64: Invalid symbol 32, offset 3."),
        (with_members(ct="abc"), "envelope ct base64: Invalid padding"),
        (with_key_members(ct="abc !"), "envelope dek base64: Invalid symbol 32, offset 3."),
        (with_members(ct="AAAA"), "Ciphertext too short (missing nonce)"),
        (with_key_members(ct="AAAA"), "Ciphertext too short (missing nonce)"),
        (with_members(ct=VECTORS[2][1][len(HEAD) : len(HEAD) + 48]), "Decryption failed: aead::Error"),
        (with_key_members(p="gcp-kms"), "LocalDevKms cannot unwrap a DEK from provider 'gcp-kms'"),
    ],
)
async def test_what_does_not_open_is_told_without_its_content(stored: str, message: str) -> None:
    with pytest.raises(EncryptionError) as caught:
        await wallet().open(stored)
    assert caught.value.message.startswith(message)
    assert caught.value.status == 500


async def test_a_data_key_of_another_length_is_refused() -> None:
    nonce = bytes(12)
    wrapped = encode_base64(nonce + AESGCM(KEY).encrypt(nonce, bytes(16), None))
    with pytest.raises(EncryptionError, match="Invalid key length: expected 32 bytes, got 16"):
        await wallet().open(with_key_members(ct=wrapped))


async def test_a_plaintext_that_is_no_json_is_not_shown() -> None:
    stored = await wallet().seal_text(b"hunter2 {")
    with pytest.raises(EncryptionError, match="deserialize: ") as caught:
        await wallet().open(stored)
    assert "hunter2" not in str(caught.value)


async def test_another_key_does_not_open() -> None:
    with pytest.raises(EncryptionError, match="Decryption failed: aead::Error"):
        await wallet(OTHER_KEY).open(VECTORS[0][1])


async def test_a_former_key_opens_and_is_not_written_with() -> None:
    both = wallet(OTHER_KEY, KEY)
    assert await both.open(VECTORS[0][1]) == {"x": 1}
    assert await wallet(OTHER_KEY).open(await both.seal(5)) == 5


async def test_what_is_written_opens_with_nothing_but_aes_gcm() -> None:
    record = json.loads(await wallet().seal({"b": "é", "a": {"d": 1, "c": None}}))
    assert list(record) == ["v", "alg", "ct", "dek"]
    assert list(record["dek"]) == ["p", "kid", "kv", "ct"]
    sealed_key, sealed = base64.b64decode(record["dek"]["ct"]), base64.b64decode(record["ct"])
    data_key = AESGCM(KEY).decrypt(sealed_key[:12], sealed_key[12:], None)
    plaintext = AESGCM(data_key).decrypt(sealed[:12], sealed[12:], None)
    assert plaintext.decode() == '{"a":{"c":null,"d":1},"b":"é"}'


async def test_the_same_value_is_never_written_twice_alike() -> None:
    first, second = [parse_record(await wallet().seal("v")) for _ in range(2)]
    assert (first.v, first.alg, first.dek.key_version) == (second.v, second.alg, second.dek.key_version)
    assert first.ct[:16] != second.ct[:16]
    assert first.dek.ciphertext[:16] != second.dek.ciphertext[:16]


@given(st.data())
async def test_no_changed_byte_goes_unnoticed(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(("ct", "dek")))
    record = json.loads(VECTORS[1][1])
    holder = record if field == "ct" else record["dek"]
    sealed = bytearray(base64.b64decode(holder["ct"]))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    holder["ct"] = base64.b64encode(sealed).decode()
    with pytest.raises(EncryptionError):
        await wallet().open(json.dumps(record))


@given(st.binary())
def test_strict_base64_is_the_reverse_of_encoding(data: bytes) -> None:
    assert decode_base64(encode_base64(data)) == data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not-base6!", "Invalid symbol 45, offset 3."),
        (" AAA", "Invalid symbol 32, offset 0."),
        ("AA", "Invalid padding"),
        ("AA=", "Invalid padding"),
        ("A===", "Invalid padding"),
        ("AB==", "Invalid last symbol 66, offset 1."),
        ("AA_A", "Invalid symbol 95, offset 2."),
    ],
)
def test_loose_base64_is_refused(text: str, message: str) -> None:
    with pytest.raises(Base64Error) as caught:
        decode_base64(text)
    assert str(caught.value) == message


def test_a_record_that_is_none_is_told_apart_from_one_that_does_not_open() -> None:
    with pytest.raises(RecordSyntaxError):
        parse_record("{}")
