"""The audit on a real table: what it shows, and that a required one guards the secret (spec 40, section 13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from noetl.errors import DatabaseUnavailableError
from noetl.http.secret_audit import MAX_LIMIT
from noetl.store import secret_audit as store_module
from noetl.store.secret_audit import SecretAuditStore
from tests.integration.http.secret_application import catalog_entry, internal, local_wallet, secret_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from noetl.store.secret_audit import AuditRow
    from tests.integration.http.rawhttp import RawClient, Reply, Serve
    from tests.integration.http.secret_application import Secrets

MEMBERS = [
    "audit_id", "occurred_at", "credential", "operation", "outcome", "worker_id", "execution_id",
    "parent_execution_id", "server_region", "broker_region", "kek_version", "notes",
]  # fmt: skip


@pytest.fixture(scope="module")
async def secrets(migrated_database_url: str) -> AsyncIterator[Secrets]:
    async with secret_application(migrated_database_url, local_wallet(), required=True) as opened:
        yield opened


@pytest.fixture
async def client(secrets: Secrets, serve: Serve) -> RawClient:
    await secrets.database.execute("TRUNCATE noetl.secret_audit, noetl.credential")
    return await serve(secrets.application)


async def rows(client: RawClient, query: str = "") -> list[dict[str, Any]]:
    reply = await internal(client, f"secret-audit?{query}")
    assert reply.status == 200, reply.text
    return reply.json["rows"]


async def fill(secrets: Secrets, count: int) -> None:
    """Rows 1 to ``count``, one an hour from midnight on the first of January 2026."""
    await secrets.database.execute(
        "INSERT INTO noetl.secret_audit (audit_id, occurred_at, credential, operation, outcome, execution_id)"
        " SELECT number, timestamptz '2026-01-01 00:00:00+00' + (number - 1) * interval '1 hour',"
        " 'c' || number % 2, 'get_credential', 'ok', number % 3 FROM generate_series(1, $1::integer) AS number",
        count,
    )


async def test_a_read_value_leaves_a_row_and_a_read_name_does_not(client: RawClient) -> None:
    await client.post("/api/credentials", {"name": "n", "type": "t", "data": "hunter2"})
    await client.get("/api/credentials/n")
    await client.get("/api/credentials?q=n")
    assert await rows(client) == []
    await client.get("/api/credentials/n?include_data=true&execution_id=5&parent_execution_id=6")
    (row,) = await rows(client)
    assert list(row) == MEMBERS
    assert (row["credential"], row["operation"], row["outcome"]) == ("n", "get_credential", "ok")
    assert (row["execution_id"], row["parent_execution_id"]) == (5, 6)
    assert (row["server_region"], row["kek_version"]) == ("here", "v1")
    assert (row["worker_id"], row["broker_region"], row["notes"]) == (None, None, "client 127.0.0.1")
    assert "hunter2" not in str(row)


async def test_rows_are_found_by_credential_execution_and_time(client: RawClient, secrets: Secrets) -> None:
    await fill(secrets, 6)

    async def found(query: str) -> list[int]:
        return [row["audit_id"] for row in await rows(client, query)]

    assert await found("") == [6, 5, 4, 3, 2, 1]
    assert await found("credential=c1") == [5, 3, 1]
    assert await found("credential=C1") == []
    assert await found("execution_id=2") == [5, 2]
    assert await found("from=2026-01-01T02:00:00Z") == [6, 5, 4, 3]
    assert await found("to=2026-01-01T02:00:00Z") == [2, 1]
    assert await found("from=" + quote("2026-01-01T03:00:00+01:00") + "&to=2026-01-01T03:00:00Z") == [3]
    assert await found("credential=c1&execution_id=2&limit=1") == [5]
    assert await found("operation=get_credential&outcome=ok&credential=c0") == [6, 4, 2]
    assert await found("operation=get_sealed") == []
    assert await found("outcome=no_pubkey") == []
    assert await found("worker_id=w") == []
    await secrets.database.execute("UPDATE noetl.secret_audit SET worker_id = 'w' WHERE audit_id = 3")
    assert await found("worker_id=w") == [3]
    assert await found("limit=0") == [6]
    assert await found("limit=-9") == [6]
    assert await found("limit=2") == [6, 5]


async def test_one_answer_is_bounded(client: RawClient, secrets: Secrets) -> None:
    await fill(secrets, MAX_LIMIT + 5)
    assert len(await rows(client)) == 100
    assert len(await rows(client, "limit=100000000")) == MAX_LIMIT


async def test_every_end_of_a_keychain_read_leaves_a_row(client: RawClient, secrets: Secrets) -> None:
    catalog_id = await catalog_entry(secrets.database)
    target = f"/api/keychain/{catalog_id}/k"
    await client.get(f"{target}?scope_type=local&execution_id=7")
    await client.post(target, {"data": "hunter2", "expires_in": 60})
    assert (await client.get(target)).json["data"] == "hunter2"
    await client.post(target, {"data": "hunter2", "expires_in": -60})
    await client.get(target)
    await secrets.database.execute("UPDATE noetl.keychain SET data_encrypted = 'x', expires_at = now() + '1 hour'")
    assert (await client.get(target)).status == 500
    found = list(reversed(await rows(client, "operation=get_keychain&credential=k")))
    assert [row["outcome"] for row in found] == ["credential_not_found", "ok", "expired", "decryption_failed"]
    assert [row["execution_id"] for row in found] == [7, None, None, None]
    assert [row["kek_version"] for row in found] == [None, "v1", None, None]
    assert found[1]["notes"] == f"entry k:{catalog_id}:global; client 127.0.0.1"
    assert "hunter2" not in str(found)


async def test_what_is_older_than_its_retention_is_deleted_in_batches(
    secrets: Secrets, client: RawClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "DELETE_BATCH_ROWS", 4)
    await secrets.database.execute(
        "INSERT INTO noetl.secret_audit (audit_id, occurred_at, credential, operation, outcome)"
        " SELECT number, now() - make_interval(days => number) + interval '1 minute', 'c', 'get_credential', 'ok'"
        " FROM generate_series(1, 20) AS number"
    )
    store = SecretAuditStore(secrets.database)
    assert await store.delete_older(7) == 13
    assert await store.delete_older(7) == 0
    assert sorted(row["audit_id"] for row in await rows(client)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "query",
    ["limit=x", "execution_id=x", "from=2026-01-01", "to=yesterday", "from=2026-01-01T00:00:00", "limit=1&limit=2"],
)
async def test_a_malformed_query_is_refused_as_text(client: RawClient, query: str) -> None:
    reply = await internal(client, f"secret-audit?{query}")
    assert reply.status == 400
    assert reply.text.startswith("Failed to deserialize query string: ")


class BrokenSink:
    """A table that takes nothing."""

    async def insert(self, _rows: Sequence[AuditRow]) -> None:
        raise DatabaseUnavailableError("down")


async def stored_then_read(url: str, serve: Serve, *, required: bool) -> tuple[Reply, list[tuple[str, ...]]]:
    async with secret_application(url, local_wallet(), required=required, sink=BrokenSink()) as opened:
        client = await serve(opened.application)
        await client.post("/api/credentials", {"name": "n", "type": "t", "data": "hunter2"})
        reply = await client.get("/api/credentials/n?include_data=true")
        return reply, opened.counts


async def test_a_required_row_that_cannot_be_written_keeps_the_secret(migrated_database_url: str, serve: Serve) -> None:
    reply, counts = await stored_then_read(migrated_database_url, serve, required=True)
    assert reply.status == 500
    assert "hunter2" not in reply.text
    assert counts == [("get_credential", "ok", "failed_strict")]


async def test_a_row_in_the_background_never_delays_the_secret(migrated_database_url: str, serve: Serve) -> None:
    reply, counts = await stored_then_read(migrated_database_url, serve, required=False)
    assert reply.json["data"] == "hunter2"
    assert counts == []
