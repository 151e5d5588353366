"""Credentials: what plain sequences in the golden ones do not show (spec 40, sections 2, 5 and 6)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from noetl.errors import InternalError, TemplateFailure
from noetl.secrets.resolution import ResidencyViolationError, ResolvedCredential
from noetl.secrets.sealed import SealedEnvelope, open_sealed
from tests.integration.http.secret_application import internal, local_wallet, secret_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.secrets.audit import SecretAccess
    from tests.integration.http.rawhttp import RawClient, Reply, Serve
    from tests.integration.http.secret_application import Secrets

WORKER = X25519PrivateKey.generate()
OTHER_REGION = SealedEnvelope("x25519-hkdf-sha256-chacha20-poly1305", 1, "AA==", "AA==")
NO_KEY = {"error": "NOETL_ENCRYPTION_KEY is not set: credential encryption is unavailable", "status": 500}


class Providers:
    """Resolves by name: the ways a resolver can end."""

    async def resolve(self, alias: str, execution_id: int) -> ResolvedCredential | None:
        if alias == "found":
            return ResolvedCredential("bearer", b'{"token":"%d"}' % execution_id)
        if alias in {"elsewhere", "nowhere", "down"}:
            raise ResidencyViolationError(f"Residency violation: {alias}", alias)
        if alias == "kept":
            raise ResidencyViolationError("Residency violation: kept", "elsewhere", may_broker=False)
        if alias == "template":
            raise TemplateFailure("Template render error: x")
        if alias == "failing":
            raise InternalError("provider failed")
        return None


class Broker:
    """A server for one region, and none for the others."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str]] = []

    async def seal(self, access: SecretAccess, region: str, worker_public_key: str) -> SealedEnvelope | None:
        if region == "down":
            raise InternalError("Cross-region broker down unreachable")
        if region != "elsewhere":
            return None
        self.asked.append((access.credential, access.worker_id, worker_public_key))
        return OTHER_REGION


@pytest.fixture(scope="module")
def broker() -> Broker:
    return Broker()


@pytest.fixture(scope="module")
async def secrets(migrated_database_url: str, broker: Broker) -> AsyncIterator[Secrets]:
    async with secret_application(migrated_database_url, local_wallet(), resolver=Providers(), broker=broker) as opened:
        yield opened


@pytest.fixture
async def client(secrets: Secrets, serve: Serve) -> RawClient:
    await secrets.database.execute("TRUNCATE noetl.credential, noetl.runtime")
    await secrets.audited()
    secrets.counts.clear()
    secrets.writes.clear()
    return await serve(secrets.application)


async def put(client: RawClient, name: str, data: Any = None, **members: Any) -> dict[str, Any]:
    reply = await client.post("/api/credentials", {"name": name, "type": "t", "data": data, **members})
    assert reply.status == 200, reply.text
    return reply.json


async def read(client: RawClient, identifier: str, query: str = "") -> Reply:
    return await client.get(f"/api/credentials/{identifier}?include_data=true{query}")


async def register_worker(client: RawClient, key: str | None, name: str = "w1") -> None:
    runtime = {"kind": "rust"} if key is None else {"kind": "rust", "worker_public_key": key}
    body = {"name": name, "component_type": "worker_pool", "runtime": runtime}
    assert (await client.post("/api/worker/pool/register", body)).status == 200


def public_key(secret: X25519PrivateKey) -> str:
    return base64.b64encode(secret.public_key().public_bytes_raw()).decode()


async def sealed(client: RawClient, identifier: str, query: str = "", worker: str = "w1") -> Reply:
    return await client.get(f"/api/credentials/{identifier}/sealed?worker_id={worker}{query}")


async def test_simultaneous_first_writes_of_one_name_all_succeed(secrets: Secrets, serve: Serve) -> None:
    clients = [await serve(secrets.application) for _ in range(8)]
    written = await asyncio.gather(*(put(client, "same", number) for number, client in enumerate(clients)))
    assert len({answer["id"] for answer in written}) == 1
    assert await secrets.database.fetchval("SELECT count(*) FROM noetl.credential WHERE name = 'same'") == 1


async def test_a_replacement_keeps_id_and_birth_and_nothing_else(client: RawClient) -> None:
    first = await put(client, "n", 1, tags=["a"], meta={"m": 1}, description="d")
    second = await put(client, "n", 2)
    assert second["id"] == first["id"]
    assert second["created_at"] == first["created_at"] < second["updated_at"]
    assert "tags" not in second
    assert "meta" not in second
    assert (await read(client, "n")).json["data"] == 2


async def test_an_id_wins_over_a_name_of_the_same_digits(client: RawClient) -> None:
    first = await put(client, "first", 1)
    await put(client, first["id"], 2)
    assert (await read(client, first["id"])).json["data"] == 1
    assert (await read(client, f"+0{first['id']}")).json["data"] == 1
    await put(client, "12345", 3)
    assert (await read(client, "12345")).json["data"] == 3
    assert (await client.request("DELETE", f"/api/credentials/{first['id']}")).json["id"] == first["id"]
    assert (await read(client, first["id"])).json["data"] == 2


async def test_the_database_never_holds_a_value(client: RawClient, secrets: Secrets) -> None:
    await put(client, "n", {"password": "hunter2"})
    row = await secrets.database.fetchval("SELECT credential::text FROM noetl.credential")
    assert "hunter2" not in row
    assert "password" not in row


async def test_what_does_not_open_is_listed_and_shown_without_its_value(client: RawClient, secrets: Secrets) -> None:
    await secrets.database.execute(
        "INSERT INTO noetl.credential (name, type, data_encrypted) VALUES ('legacy', 't', '{\"password\":\"hunter2\"}')"
    )
    assert [item["name"] for item in (await client.get("/api/credentials")).json["items"]] == ["legacy"]
    assert (await client.get("/api/credentials/legacy")).status == 200
    reply = await read(client, "legacy")
    assert reply.status == 500
    assert reply.json["error"].startswith("not a wallet envelope record: ")
    assert "hunter2" not in reply.text
    assert await secrets.audited() == [("legacy", "get_credential", "decryption_failed")]


async def test_big_numbers_become_doubles(client: RawClient) -> None:
    body = '{"name":"n","type":"t","data":[12345678901234567890123,18446744073709551615]}'
    assert (await client.post("/api/credentials", body)).status == 200
    assert json.loads((await read(client, "n")).text)["data"] == [1.2345678901234568e22, 18446744073709551615]


async def test_writes_are_counted_once_their_body_is_understood(client: RawClient, secrets: Secrets) -> None:
    await put(client, "n")
    await client.post("/api/credentials", "{}")
    await client.post("/api/credentials", '{"name":"\\u0000","type":"t","data":1}')
    assert secrets.writes == [("credentials_upsert", True), ("credentials_upsert", False)]


async def test_without_a_key_every_route_says_so(serve: Serve, migrated_database_url: str) -> None:
    async with secret_application(migrated_database_url, None) as opened:
        client = await serve(opened.application)
        for method, target in (
            ("POST", "/api/credentials"), ("GET", "/api/credentials"), ("GET", "/api/credentials/x"),
            ("DELETE", "/api/credentials/x"), ("GET", "/api/credentials/x/sealed"), ("GET", "/api/keychain/1/x"),
            ("POST", "/api/keychain/1/x"), ("DELETE", "/api/keychain/1/x"), ("GET", "/api/keychain/catalog/1"),
        ):  # fmt: skip
            reply = await client.request(method, target)
            assert (reply.status, reply.json) == (500, NO_KEY)
        assert (await internal(client, "wallet/rotate-kek", "{}")).json == NO_KEY
        assert (await internal(client, "wallet/key-status")).status == 200
        assert (await client.get("/api/worker/pools")).status == 200


async def test_a_miss_is_resolved_for_an_execution_that_wants_the_value(client: RawClient, secrets: Secrets) -> None:
    answer = (await read(client, "found", "&execution_id=7")).json
    assert list(answer) == ["id", "name", "type", "description", "data", "created_at", "updated_at"]
    assert (answer["id"], answer["name"], answer["type"]) == ("0", "found", "bearer")
    assert answer["description"] == "resolved from keychain provider"
    assert answer["data"] == {"token": "7"}
    assert (await read(client, "found")).status == 404
    assert (await client.get("/api/credentials/found?execution_id=7")).status == 404
    assert (await read(client, "unknown", "&execution_id=7")).status == 404
    assert await secrets.audited() == [
        ("found", "get_credential", "ok"),
        ("found", "get_credential", "credential_not_found"),
        ("unknown", "get_credential", "credential_not_found"),
    ]


async def test_a_stored_credential_wins_over_a_provider(client: RawClient) -> None:
    await put(client, "found", "stored")
    assert (await read(client, "found", "&execution_id=7")).json["data"] == "stored"


@pytest.mark.parametrize(
    ("alias", "status", "outcome"),
    [
        ("elsewhere", 403, "residency_violation"),
        ("template", 500, "template_error"),
        ("failing", 500, "provider_fetch_error"),
    ],
)
async def test_what_a_resolver_refuses_is_told_and_recorded(
    client: RawClient, secrets: Secrets, alias: str, status: int, outcome: str
) -> None:
    assert (await read(client, alias, "&execution_id=7")).status == status
    assert await secrets.audited() == [(alias, "get_credential", outcome)]


async def test_a_sealed_answer_is_the_plain_one_for_the_worker_alone(client: RawClient, secrets: Secrets) -> None:
    await put(client, "n", {"b": 1, "a": "é"})
    await register_worker(client, public_key(WORKER))
    first, second = await sealed(client, "n"), await sealed(client, "n")
    assert first.body != second.body
    assert list(first.json) == ["alg", "v", "eph_pub", "ciphertext"]
    envelope = msgspec.json.decode(first.body, type=SealedEnvelope)
    assert open_sealed(envelope, WORKER) == (await read(client, "n")).body
    resolved = msgspec.json.decode((await sealed(client, "found", "&execution_id=9")).body, type=SealedEnvelope)
    assert json.loads(open_sealed(resolved, WORKER))["data"] == {"token": "9"}
    assert secrets.counts.count(("ok",)) == 3
    assert ("n", "get_sealed", "ok") in await secrets.audited()


async def test_a_worker_that_registers_again_gets_answers_for_its_new_key(client: RawClient) -> None:
    await put(client, "n", 1)
    await register_worker(client, public_key(WORKER))
    await sealed(client, "n")
    other = X25519PrivateKey.generate()
    await register_worker(client, public_key(other))
    assert open_sealed(msgspec.json.decode((await sealed(client, "n")).body, type=SealedEnvelope), other)


@pytest.mark.parametrize(
    ("key", "message", "status"),
    [
        (None, "did not register a sealing pubkey (worker_public_key missing from the noetl.runtime row, or the"
         " worker_pool row doesn't exist)", "no_pubkey"),
        ("", "did not register a sealing pubkey (worker_public_key missing from the noetl.runtime row, or the"
         " worker_pool row doesn't exist)", "no_pubkey"),
        ("!AAA", "worker_public_key base64: Invalid symbol 33, offset 0.", "worker_not_found"),
        ("AAAA", "worker_public_key must be 32 bytes, got 3", "worker_not_found"),
        (base64.b64encode(bytes(32)).decode(), "worker_public_key is not a valid X25519 key", "seal_error"),
    ],
)  # fmt: skip
async def test_a_worker_without_a_good_key_is_refused(
    client: RawClient, secrets: Secrets, key: str | None, message: str, status: str
) -> None:
    await put(client, "n", "hunter2")
    await register_worker(client, key)
    reply = await sealed(client, "n")
    assert (reply.status, reply.json["error"]) == (400, f"worker 'w1' {message}")
    assert secrets.counts == [(status,)]
    assert "ok" not in [outcome for _, _, outcome in await secrets.audited()]


@pytest.mark.parametrize(
    ("alias", "status", "counted", "outcome"),
    [
        ("unknown", 404, "credential_error", "credential_not_found"),
        ("failing", 500, "credential_error", "provider_fetch_error"),
        ("elsewhere", 200, "ok_via_broker", "ok"),
        ("nowhere", 403, "residency_violation", "residency_violation"),
        ("kept", 403, "residency_violation", "residency_violation"),
        ("down", 500, "credential_error", "broker_unreachable"),
    ],
)
async def test_every_end_of_a_sealed_delivery_is_counted_and_recorded(
    client: RawClient, secrets: Secrets, broker: Broker, alias: str, status: int, counted: str, outcome: str
) -> None:
    broker.asked.clear()
    await register_worker(client, public_key(WORKER))
    reply = await sealed(client, alias, "&execution_id=7&parent_execution_id=8")
    assert reply.status == status
    assert secrets.counts[0] == (counted,)
    assert await secrets.audited() == [(alias, "get_sealed", outcome)]
    if alias == "elsewhere":
        assert broker.asked == [("elsewhere", "w1", public_key(WORKER))]
        assert reply.body == msgspec.json.encode(OTHER_REGION)
    else:
        assert broker.asked == []
