"""Rotation of the key on real tables, also while they are written (spec 40, section 12)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from noetl.config.secret import Secret
from noetl.errors import EncryptionError
from noetl.secrets.gcp_kms import GcpKeyManager
from noetl.secrets.key_managers import LocalKeyManager
from noetl.secrets.rotation import KeyStates, Rotation, key_versions
from noetl.secrets.wallet import Wallet
from noetl.store.credentials import CredentialStore
from noetl.store.keychain import KeychainStore
from tests.integration.http.rawhttp import JSON
from tests.integration.http.secret_application import (
    KEY,
    catalog_entry,
    internal,
    local_wallet,
    secret_application,
)
from tests.unit.secrets.kms_service import KEY_NAME, KmsService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.integration.http.rawhttp import RawClient, Serve
    from tests.integration.http.secret_application import Secrets

NEW_KEY = bytes(range(32, 64))
ROTATE = "wallet/rotate-kek"
UNTOUCHED = {"processed": 0, "rewrapped": 0, "skipped": 0, "failed": 0, "last_id": 0}


@pytest.fixture(scope="module")
async def secrets(migrated_database_url: str) -> AsyncIterator[Secrets]:
    """A server whose key was replaced; it knows the former one."""
    async with secret_application(migrated_database_url, local_wallet(NEW_KEY, KEY)) as opened:
        yield opened


@pytest.fixture
async def client(secrets: Secrets, serve: Serve) -> RawClient:
    await secrets.database.execute("TRUNCATE noetl.credential, noetl.keychain")
    secrets.counts.clear()
    return await serve(secrets.application)


async def add(secrets: Secrets, name: str, stored: str) -> int:
    return await secrets.database.fetchval(
        "INSERT INTO noetl.credential (name, type, data_encrypted) VALUES ($1, 't', $2) RETURNING id",
        name,
        stored,
        retry=False,
    )


async def add_entry(secrets: Secrets, key: str, stored: str) -> None:
    await secrets.database.execute(
        "INSERT INTO noetl.keychain (cache_key, keychain_name, catalog_id, credential_type, cache_type, scope_type,"
        " data_encrypted, expires_at) VALUES ($1, 'k', $2, 'secret', 'secret', 'global', $3, now())",
        key,
        await catalog_entry(secrets.database),
        stored,
    )


async def records(secrets: Secrets, table: str = "credential") -> dict[str, Any]:
    name = "name" if table == "credential" else "cache_key"
    rows = await secrets.database.fetch(f"SELECT {name} AS name, data_encrypted FROM noetl.{table}")
    return {row["name"]: row["data_encrypted"] for row in rows}


async def test_values_under_a_former_key_move_to_the_current_one(client: RawClient, secrets: Secrets) -> None:
    old, new = local_wallet(KEY), local_wallet(NEW_KEY)
    await add(secrets, "old", await old.seal("a"))
    await add(secrets, "new", await new.seal("b"))
    await add_entry(secrets, "k:1", await old.seal("c"))
    before = await records(secrets)
    last = await add(secrets, "broken", "hunter2")
    answer = (await internal(client, ROTATE, "{}")).json
    assert answer == {
        "credential": {"processed": 3, "rewrapped": 1, "skipped": 1, "failed": 1, "last_id": last},
        "keychain": {"processed": 1, "rewrapped": 1, "skipped": 0, "failed": 0, "last_id": 0},
    }
    after = await records(secrets)
    assert (after["new"], after["broken"]) == (before["new"], "hunter2")
    assert await new.open(after["old"]) == "a"
    assert await new.open((await records(secrets, "keychain"))["k:1"]) == "c"
    was, became = json.loads(before["old"]), json.loads(after["old"])
    assert was.pop("dek") != became.pop("dek")
    assert was == became, "the value itself is not encrypted anew"
    assert sorted(secrets.counts) == [
        ("credential", "parse_error"), ("credential", "rewrapped"), ("credential", "skipped"),
        ("keychain", "rewrapped"),
    ]  # fmt: skip
    again = (await internal(client, ROTATE, "{}")).json
    assert (again["credential"]["rewrapped"], again["credential"]["skipped"]) == (0, 2)


async def test_rotation_leaves_the_time_of_the_last_change(client: RawClient, secrets: Secrets) -> None:
    await add(secrets, "old", await local_wallet(KEY).seal("a"))
    query = "SELECT updated_at FROM noetl.credential"
    before = await secrets.database.fetchval(query)
    assert (await internal(client, ROTATE, "{}")).json["credential"]["rewrapped"] == 1
    assert await secrets.database.fetchval(query) == before


async def test_a_key_that_nobody_knows_fails_its_row_alone(client: RawClient, secrets: Secrets) -> None:
    await add(secrets, "lost", await local_wallet(bytes(32)).seal("a"))
    await add(secrets, "old", await local_wallet(KEY).seal("b"))
    outcome = (await internal(client, ROTATE, "{}")).json["credential"]
    assert (outcome["failed"], outcome["rewrapped"]) == (1, 1)
    assert ("credential", "failed_unwrap") in secrets.counts


@pytest.mark.parametrize(
    ("body", "processed"),
    [
        ('{"batch_size":0,"max_batches":-5}', 1),
        ('{"batch_size":2,"max_batches":3}', 6),
        ('{"batch_size":150,"max_batches":1}', 150),
        ("{}", 250),
        (f'{{"batch_size":{2**63 - 1},"max_batches":{2**63 - 1}}}', 250),
    ],
)
async def test_one_call_rewraps_as_many_rows_as_it_may(
    client: RawClient, secrets: Secrets, body: str, processed: int
) -> None:
    await secrets.database.execute(
        "INSERT INTO noetl.credential (name, type, data_encrypted)"
        " SELECT number::text, 't', $1 FROM generate_series(1, 250) AS number",
        await local_wallet(KEY).seal(1),
    )
    assert (await internal(client, ROTATE, body)).json["credential"]["processed"] == processed


async def test_calls_with_a_limit_go_on_where_the_last_one_stopped(client: RawClient, secrets: Secrets) -> None:
    old, lost = local_wallet(KEY), local_wallet(bytes(32))
    for number in range(4):
        await add(secrets, f"lost{number}", await lost.seal(number))
    for number in range(5):
        await add(secrets, f"old{number}", await old.seal(number))
    rewrapped: list[int] = []
    while not rewrapped or rewrapped[-1]:
        answer = (await internal(client, ROTATE, '{"batch_size":2,"max_batches":1}')).json["credential"]
        assert answer["processed"] == answer["rewrapped"] + answer["skipped"] + answer["failed"]
        rewrapped.append(answer["rewrapped"])
    assert rewrapped == [2, 2, 1, 0]
    assert (await internal(client, "wallet/key-status?states=true")).json["states"] == {
        "credential": {"current": 5, "former": 0, "unreadable": 4},
        "keychain": {"current": 0, "former": 0, "unreadable": 0},
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [("null", 422), ("", 400), ("[]", 422), ('{"batch_size":null}', 422), ('{"batch_size":"5"}', 422)],
)
async def test_a_malformed_request_is_refused(client: RawClient, body: str, status: int) -> None:
    assert (await internal(client, ROTATE, body)).status == status


async def test_the_token_is_asked_for(client: RawClient) -> None:
    assert (await client.request("POST", f"/api/internal/{ROTATE}", "{}", [JSON])).status == 401
    assert (await client.get("/api/internal/wallet/key-status")).status == 401
    assert (await client.get("/api/internal/secret-audit")).status == 401


async def test_status_counts_versions_and_survives_anything(client: RawClient, secrets: Secrets) -> None:
    record = json.loads(await local_wallet(KEY).seal(1))
    await add(secrets, "a", json.dumps(record))
    record["dek"]["kv"] = "v9"
    await add(secrets, "b", json.dumps(record))
    await add(secrets, "plain", '{"password":"x"}')
    await add(secrets, "blob", "bm90IGpzb24=")
    assert (await internal(client, "wallet/key-status")).json == {
        "credential": {"invalid": 2, "v1": 1, "v9": 1},
        "keychain": {},
    }


class Racing:
    """The table of credentials, with a writer who is always just ahead of rotation."""

    def __init__(self, store: CredentialStore, database: Any, newer: str) -> None:
        self._store = store
        self._database = database
        self._newer = newer

    async def page(self, after: int | None, limit: int) -> Sequence[tuple[int, str]]:
        page = await self._store.page(after, limit)
        await self._database.execute("UPDATE noetl.credential SET data_encrypted = $1", self._newer)
        return page

    async def replace(self, key: int, old: str, new: str) -> bool:
        return await self._store.replace(key, old, new)


async def test_a_value_written_meanwhile_is_not_lost(client: RawClient, secrets: Secrets) -> None:
    newer = await local_wallet(NEW_KEY).seal("newer")
    await add(secrets, "n", await local_wallet(KEY).seal("older"))
    table = Racing(CredentialStore(secrets.database), secrets.database, newer)
    outcome = await Rotation(local_wallet(NEW_KEY, KEY), {"credential": table}).run(100)
    assert (outcome["credential"].skipped, outcome["credential"].rewrapped) == (1, 0)
    assert (await records(secrets))["n"] == newer


async def test_rotations_at_the_same_time_do_not_disturb_each_other(secrets: Secrets, serve: Serve) -> None:
    await secrets.database.execute("TRUNCATE noetl.credential, noetl.keychain")
    old = local_wallet(KEY)
    for number in range(30):
        await add(secrets, str(number), await old.seal(number))
    clients = [await serve(secrets.application) for _ in range(4)]
    answers = [
        reply.json["credential"] for reply in await asyncio.gather(*(internal(one, ROTATE, "{}") for one in clients))
    ]
    assert sum(answer["rewrapped"] for answer in answers) == 30
    assert sum(answer["failed"] for answer in answers) == 0
    new = local_wallet(NEW_KEY)
    assert {name: await new.open(stored) for name, stored in (await records(secrets)).items()} == {
        str(number): number for number in range(30)
    }


async def test_values_move_to_a_key_service_and_on_to_its_next_version(client: RawClient, secrets: Secrets) -> None:
    await add(secrets, "n", await local_wallet(KEY).seal("a"))
    service = KmsService()
    manager = GcpKeyManager(KEY_NAME, service, "http://metadata/token")
    wallet = Wallet(manager, [LocalKeyManager(Secret(KEY))])
    tables: dict[str, Any] = {
        "credential": CredentialStore(secrets.database),
        "keychain": KeychainStore(secrets.database),
    }
    rotation = Rotation(wallet, tables)
    assert (await rotation.run(100))["credential"].rewrapped == 1
    assert await key_versions(tables) == {"credential": {"1": 1}, "keychain": {}}
    assert (await rotation.run(100))["credential"].skipped == 1
    service.version = 2
    assert (await rotation.run(100))["credential"].rewrapped == 1
    assert await Wallet(manager).open((await records(secrets))["n"]) == "a"
    assert await key_versions(tables) == {"credential": {"2": 1}, "keychain": {}}


async def test_a_key_service_that_is_down_changes_nothing(client: RawClient, secrets: Secrets) -> None:
    await add(secrets, "n", await local_wallet(KEY).seal("a"))
    before = await records(secrets)
    service = KmsService()
    service.status = 503
    wallet = Wallet(GcpKeyManager(KEY_NAME, service, "http://metadata/token"), [LocalKeyManager(Secret(KEY))])
    with pytest.raises(EncryptionError, match="kms encrypt: HTTP 503"):
        await Rotation(wallet, {"credential": CredentialStore(secrets.database)}).run(100)
    assert await records(secrets) == before


async def test_states_are_not_told_while_the_key_service_is_down(client: RawClient, secrets: Secrets) -> None:
    service = KmsService()
    wallet = Wallet(GcpKeyManager(KEY_NAME, service, "http://metadata/token"), [LocalKeyManager(Secret(KEY))])
    await add(secrets, "n", await wallet.seal("a"))
    service.version = 2
    rotation = Rotation(wallet, {"credential": CredentialStore(secrets.database)})
    assert (await rotation.states())["credential"] == KeyStates(former=1)

    class GoesDown(KmsService):
        async def __call__(self, method: str, url: str, **options: Any) -> tuple[int, bytes]:
            self.status = 503 if url.endswith(":decrypt") else 200
            return await super().__call__(method, url, **options)

    down = GoesDown()
    down.version = 2
    wallet = Wallet(GcpKeyManager(KEY_NAME, down, "http://metadata/token"))
    with pytest.raises(EncryptionError, match="kms decrypt: HTTP 503"):
        await Rotation(wallet, {"credential": CredentialStore(secrets.database)}).states()
