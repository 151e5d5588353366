"""Data keys wrapped by Google Cloud KMS: requests, answers, failures (spec 40, section 4)."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from noetl.config.secret import Secret
from noetl.config.settings import SecuritySettings
from noetl.errors import EncryptionError
from noetl.secrets.envelope import WrappedKey, new_data_key
from noetl.secrets.gcp_kms import GcpKeyManager
from noetl.secrets.key_managers import KeyServiceError, LocalKeyManager
from noetl.secrets.wallet import Wallet, make_wallet
from tests.unit.secrets.kms_service import ENDPOINT, KEY_NAME, KmsService

TOKEN_URL = "http://metadata/token"


@pytest.fixture
def service() -> KmsService:
    return KmsService()


@pytest.fixture
def manager(service: KmsService) -> GcpKeyManager:
    return GcpKeyManager(KEY_NAME, service, TOKEN_URL)


async def test_a_value_is_sealed_and_opened_with_one_call_each(service: KmsService, manager: GcpKeyManager) -> None:
    wallet = Wallet(manager)
    stored = await wallet.seal({"x": 1})
    dek = json.loads(stored)["dek"]
    assert (dek["p"], dek["kid"], dek["kv"]) == ("gcp-kms", KEY_NAME, "1")
    assert await wallet.open(stored) == {"x": 1}
    asked = [(method, url) for method, url, _, _ in service.requests]
    assert asked == [
        ("GET", TOKEN_URL), ("POST", f"{ENDPOINT}{KEY_NAME}:encrypt"), ("POST", f"{ENDPOINT}{KEY_NAME}:decrypt"),
    ]  # fmt: skip
    sent = json.loads(service.requests[1][3] or b"")
    assert list(sent) == ["plaintext"]
    assert len(base64.b64decode(sent["plaintext"])) == 32


@pytest.mark.parametrize(("expires_in", "kept_seconds"), [(3600, 3540), (61, 1), (0, 1), (-1000, 1)])
async def test_an_access_token_is_kept_until_a_minute_before_its_end(
    service: KmsService, expires_in: int, kept_seconds: int
) -> None:
    service.expires_in = expires_in
    moments = [100.0]
    manager = GcpKeyManager(KEY_NAME, service, TOKEN_URL, lambda: moments[-1])
    for moment, tokens in ((100.0, 1), (100.0 + kept_seconds - 0.5, 1), (100.0 + kept_seconds, 2)):
        moments.append(moment)
        await manager.wrap(new_data_key())
        assert [url for _, url, _, _ in service.requests].count(TOKEN_URL) == tokens


async def test_an_answer_without_a_version_names_the_primary_one(service: KmsService, manager: GcpKeyManager) -> None:
    service.answer = b'{"ciphertext":"AAAA"}'
    assert (await manager.wrap(new_data_key())).key_version == "primary"


@pytest.mark.parametrize(
    "key_id",
    [
        "", "k", "projects/p/locations/l/keyRings/r", f"{KEY_NAME}/", f"{KEY_NAME}/../x", f"{KEY_NAME}\n",
        f"../../{KEY_NAME}", "projects/../locations/l/keyRings/r/cryptoKeys/k", f"{KEY_NAME}?x=1", f"{KEY_NAME}#x",
        "projects/p/locations/l/keyRings/r/cryptoKeys/k%2e%2e", "projects/p@evil/locations/l/keyRings/r/cryptoKeys/k",
    ],
)  # fmt: skip
async def test_a_record_cannot_steer_the_authorised_request(
    service: KmsService, manager: GcpKeyManager, key_id: str
) -> None:
    with pytest.raises(EncryptionError, match="the record names no cryptoKey"):
        await manager.unwrap(WrappedKey("gcp-kms", key_id, "1", "AAAA"))
    assert service.requests == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"no json", "kms encrypt decode: "),
        (b"{}", "kms encrypt decode: "),
        (b'{"ciphertext":"!"}', "kms encrypt ciphertext base64: Invalid symbol 33, offset 0."),
    ],
)
async def test_a_strange_answer_is_told(
    service: KmsService, manager: GcpKeyManager, answer: bytes, message: str
) -> None:
    service.answer = answer
    with pytest.raises(EncryptionError) as caught:
        await manager.wrap(new_data_key())
    assert caught.value.message.startswith(message)


async def test_a_refusal_is_told_up_to_a_length(service: KmsService, manager: GcpKeyManager) -> None:
    service.status = 403
    with pytest.raises(EncryptionError) as caught:
        await manager.wrap(new_data_key())
    assert caught.value.message == "kms encrypt: HTTP 403 " + ("denied " * 100)[:200]


async def test_a_data_key_of_another_length_is_refused(service: KmsService, manager: GcpKeyManager) -> None:
    stored = await Wallet(manager).seal(1)
    service.answer = b'{"plaintext":"AAAA"}'
    with pytest.raises(EncryptionError, match="expected 32 bytes, got 3"):
        await Wallet(manager).open(stored)


@pytest.mark.parametrize(
    ("failure", "cause"),
    [(ConnectionRefusedError("refused"), "refused"), (TimeoutError(), "timed out"), (BrokenPipeError(), "BrokenPipe")],
)
async def test_a_service_that_is_not_there_is_told(failure: OSError, cause: str) -> None:
    async def call(*_arguments: object, **_options: object) -> tuple[int, bytes]:
        raise failure

    with pytest.raises(KeyServiceError, match=f"kms metadata token request: {cause}"):
        await GcpKeyManager(KEY_NAME, call, TOKEN_URL).wrap(new_data_key())


async def test_callers_at_the_same_time_share_an_access_token(service: KmsService, manager: GcpKeyManager) -> None:
    await asyncio.gather(*(manager.wrap(new_data_key()) for _ in range(5)))
    assert [url for _, url, _, _ in service.requests].count(TOKEN_URL) == 1


async def test_an_access_token_that_is_refused_is_not_used_again(service: KmsService, manager: GcpKeyManager) -> None:
    service.status = 401
    with pytest.raises(KeyServiceError, match="HTTP 401"):
        await manager.wrap(new_data_key())
    service.status = 200
    await manager.wrap(new_data_key())
    assert [url for _, url, _, _ in service.requests].count(TOKEN_URL) == 2


@pytest.mark.parametrize(("status", "is_failure"), [(400, False), (403, False), (404, False), (429, True), (503, True)])
async def test_a_refusal_of_the_key_is_no_failure_of_the_service(
    service: KmsService, manager: GcpKeyManager, status: int, is_failure: bool
) -> None:
    service.status = status
    with pytest.raises(EncryptionError) as caught:
        await manager.wrap(new_data_key())
    assert isinstance(caught.value, KeyServiceError) is is_failure


async def test_rows_of_the_local_key_open_only_where_that_key_is_known(manager: GcpKeyManager) -> None:
    stored = await Wallet(LocalKeyManager(Secret(bytes(32)))).seal(1)
    with pytest.raises(EncryptionError, match="GcpKms cannot unwrap a DEK from provider 'local'"):
        await Wallet(manager).open(stored)
    assert await Wallet(manager, [LocalKeyManager(Secret(bytes(32)))]).open(stored) == 1


async def test_the_settings_choose_the_wallet(service: KmsService) -> None:
    def made(**settings: object) -> Wallet | None:
        return make_wallet(SecuritySettings(**settings), service, TOKEN_URL)  # type: ignore[arg-type]

    assert made() is None
    assert made(previous_encryption_keys=(Secret(bytes(32)),)) is None
    local = made(encryption_key=Secret(bytes(32)))
    assert local is not None
    stored = await local.seal(1)
    random = made(allow_insecure_default_key=True)
    assert random is not None
    assert await random.open(await random.seal(5)) == 5
    with pytest.raises(EncryptionError):
        await random.open(stored)
    own_wins = made(encryption_key=Secret(bytes(32)), allow_insecure_default_key=True)
    replaced = made(encryption_key=Secret(b"x" * 32), previous_encryption_keys=(Secret(bytes(32)),))
    moved = made(kms_provider="gcp-kms", gcp_kms_key=KEY_NAME, encryption_key=Secret(bytes(32)))
    moved_later = made(kms_provider="gcp-kms", gcp_kms_key=KEY_NAME, previous_encryption_keys=(Secret(bytes(32)),))
    for wallet in (own_wins, replaced, moved, moved_later):
        assert wallet is not None
        assert await wallet.open(stored) == 1
    bare = made(kms_provider="gcp-kms", gcp_kms_key=KEY_NAME)
    assert bare is not None
    assert json.loads(await bare.seal(1))["dek"]["p"] == "gcp-kms"
