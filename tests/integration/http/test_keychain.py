"""The keychain: what plain sequences in the golden ones do not show (spec 40, section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl.store.keychain import KeychainStore, cache_key
from tests.integration.http.secret_application import catalog_entry, local_wallet, secret_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Reply, Serve
    from tests.integration.http.secret_application import Secrets

LATER = "2099-01-01T00:00:00Z"


@pytest.fixture(scope="module")
async def secrets(migrated_database_url: str) -> AsyncIterator[Secrets]:
    async with secret_application(migrated_database_url, local_wallet()) as opened:
        yield opened


@pytest.fixture
async def catalog_id(secrets: Secrets) -> int:
    secrets.writes.clear()
    return await catalog_entry(secrets.database)


@pytest.fixture
async def client(secrets: Secrets, serve: Serve) -> RawClient:
    return await serve(secrets.application)


async def put(client: RawClient, catalog_id: int, name: str = "k", **body: Any) -> Reply:
    return await client.post(f"/api/keychain/{catalog_id}/{name}", {"data": 1, "expires_at": LATER, **body})


async def row(secrets: Secrets, catalog_id: int) -> dict[str, Any]:
    found = await secrets.database.fetchrow("SELECT * FROM noetl.keychain WHERE catalog_id = $1", catalog_id)
    assert found is not None
    return dict(found)


@given(st.text(), st.integers(), st.text(), st.none() | st.integers())
def test_a_key_tells_its_scope(name: str, catalog_id: int, scope: str, execution_id: int | None) -> None:
    shown = "" if execution_id is None else str(execution_id)
    assert cache_key(name, catalog_id, "local", execution_id) == f"{name}:{catalog_id}:{shown or 'local'}"
    assert cache_key(name, catalog_id, "shared", execution_id).startswith(f"{name}:{catalog_id}:shared")
    if scope not in {"local", "shared"}:
        assert cache_key(name, catalog_id, scope, execution_id) == f"{name}:{catalog_id}:global"


async def test_the_database_never_holds_a_value(client: RawClient, secrets: Secrets, catalog_id: int) -> None:
    await put(client, catalog_id, data={"token": "hunter2"})
    assert "hunter2" not in str(await row(secrets, catalog_id))


async def test_a_read_is_counted_also_when_the_value_does_not_open(
    client: RawClient, secrets: Secrets, catalog_id: int
) -> None:
    await put(client, catalog_id)
    before = await row(secrets, catalog_id)
    await secrets.database.execute("UPDATE noetl.keychain SET data_encrypted = '' WHERE catalog_id = $1", catalog_id)
    reply = await client.get(f"/api/keychain/{catalog_id}/k")
    assert reply.status == 500
    assert reply.json["error"].startswith("not a wallet envelope record: ")
    after = await row(secrets, catalog_id)
    assert (before["access_count"], after["access_count"]) == (0, 1)
    assert after["accessed_at"] > before["accessed_at"]


async def test_an_expired_entry_is_told_and_not_counted(client: RawClient, secrets: Secrets, catalog_id: int) -> None:
    assert (await put(client, catalog_id, expires_at=None, expires_in=-5)).status == 200
    answer = (await client.get(f"/api/keychain/{catalog_id}/k")).json
    assert list(answer) == ["status", "expires_at", "auto_renew", "access_count"]
    assert (answer["status"], answer["access_count"]) == ("expired", 0)
    assert (await client.get(f"/api/keychain/catalog/{catalog_id}")).json["entries"][0]["expired"] is True
    assert (await row(secrets, catalog_id))["access_count"] == 0


async def test_an_expiry_in_seconds_counts_from_now(client: RawClient, catalog_id: int) -> None:
    answer = (await put(client, catalog_id, expires_at=None, expires_in=3600)).json
    left = datetime.fromisoformat(answer["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


@pytest.mark.parametrize("seconds", [10**12, -(10**12), 9 * 10**12, -(2**63), 2**63 - 1])
async def test_an_expiry_outside_the_calendar_is_refused(client: RawClient, catalog_id: int, seconds: int) -> None:
    reply = await put(client, catalog_id, expires_at=None, expires_in=seconds)
    assert (reply.status, reply.json["status"]) == (400, 400)


async def test_the_first_instant_of_the_calendar_is_stored_and_read(client: RawClient, catalog_id: int) -> None:
    assert (await put(client, catalog_id, expires_at="0001-01-01T00:00:00Z")).status == 200
    assert (await client.get(f"/api/keychain/{catalog_id}/k")).json["status"] == "expired"
    assert (await put(client, catalog_id, expires_at="9999-12-31T23:59:59.999999Z")).status == 200
    assert (await client.get(f"/api/keychain/{catalog_id}/k")).json["status"] == "found"


async def test_a_second_write_keeps_birth_and_counts(client: RawClient, secrets: Secrets, catalog_id: int) -> None:
    await put(client, catalog_id, auto_renew=True, renew_config={"a": 1})
    await client.get(f"/api/keychain/{catalog_id}/k")
    first = await row(secrets, catalog_id)
    assert first["renew_config"] == '{"a": 1}'
    await put(client, catalog_id, data=2)
    second = await row(secrets, catalog_id)
    for column in ("created_at", "access_count", "scope_type", "execution_id"):
        assert second[column] == first[column]
    assert (second["auto_renew"], second["renew_config"]) == (False, None)
    assert (await client.get(f"/api/keychain/{catalog_id}/k")).json["data"] == 2


async def test_a_listing_is_newest_first_with_ids_as_texts(client: RawClient, catalog_id: int) -> None:
    await put(client, catalog_id, "a")
    await put(client, catalog_id, "b", scope_type="local", execution_id=7)
    answer = (await client.get(f"/api/keychain/catalog/{catalog_id}")).json
    assert [entry["keychain_name"] for entry in answer["entries"]] == ["b", "a"]
    assert answer["catalog_id"] == str(catalog_id)
    assert answer["entries"][0]["execution_id"] == "7"
    assert "execution_id" not in answer["entries"][1]
    assert list(answer["entries"][0]) == [
        "keychain_name", "scope_type", "execution_id", "expires_at", "expired", "access_count", "accessed_at",
        "created_at",
    ]  # fmt: skip


async def test_writes_are_counted_once_their_body_is_understood(
    client: RawClient, secrets: Secrets, catalog_id: int
) -> None:
    await put(client, catalog_id)
    await put(client, catalog_id, expires_at="x")
    await put(client, catalog_id, scope_type="bogus")
    await put(client, catalog_id, expires_at=None)
    assert secrets.writes == [("keychain_set", True), ("keychain_set", False), ("keychain_set", False)]


async def test_the_sweep_deletes_what_is_long_expired_and_not_renewed(
    client: RawClient, secrets: Secrets, catalog_id: int
) -> None:
    day = 86_400
    await put(client, catalog_id, "old", expires_at=None, expires_in=-day - 60)
    await put(client, catalog_id, "renewed", expires_at=None, expires_in=-day - 60, auto_renew=True)
    await put(client, catalog_id, "recent", expires_at=None, expires_in=-day + 60)
    await KeychainStore(secrets.database).delete_expired()
    states = {name: (await client.get(f"/api/keychain/{catalog_id}/{name}")).json["status"] for name in
              ("old", "renewed", "recent")}  # fmt: skip
    assert states == {"old": "not_found", "renewed": "expired", "recent": "expired"}
