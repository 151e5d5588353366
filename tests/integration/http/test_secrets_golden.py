"""Our answers and rows beside those recorded from the reference (spec 40, sections 3, 5, 6 and 7)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden.recording import Names
from tests.integration.http.golden_comparison import ask, compare, recorded
from tests.integration.http.secret_application import catalog_entry, local_wallet, secret_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Serve
    from tests.integration.http.secret_application import Secrets

RECORDED = recorded("secrets")
ROWS = RECORDED["rows"]
KEY = base64.b64decode(ROWS["key"])
CROSS = RECORDED["cross_read"]


@pytest.fixture(scope="module")
async def secrets(migrated_database_url: str) -> AsyncIterator[Secrets]:
    async with secret_application(migrated_database_url, local_wallet(KEY)) as opened:
        yield opened


@pytest.fixture
async def client(secrets: Secrets, serve: Serve) -> RawClient:
    return await serve(secrets.application)


@pytest.fixture(scope="module")
async def shared(migrated_database_url: str) -> AsyncIterator[Secrets]:
    """The application with the key of the database that both servers wrote."""
    async with secret_application(migrated_database_url, local_wallet(base64.b64decode(CROSS["key"]))) as opened:
        yield opened


@pytest.fixture(scope="module")
async def shared_client(shared: Secrets, serve: Serve) -> RawClient:
    return await serve(shared.application)


async def test_every_answer_is_the_recorded_one(client: RawClient, secrets: Secrets) -> None:
    names = Names(catalog_id=await catalog_entry(secrets.database))
    for step in RECORDED["answers"]:
        compare(await ask(client, step, names), step, names)


async def plant(secrets: Secrets, row: dict[str, Any], catalog_id: int) -> str:
    """Store a recorded row; the target that reads it."""
    if row["table"] == "credential":
        await secrets.database.execute(
            "INSERT INTO noetl.credential (name, type, data_encrypted) VALUES ($1, 't', $2)",
            f"r{catalog_id}",
            row["stored"],
        )
        return f"/api/credentials/r{catalog_id}?include_data=true"
    await secrets.database.execute(
        "INSERT INTO noetl.keychain (cache_key, keychain_name, catalog_id, credential_type, cache_type, scope_type,"
        " data_encrypted, expires_at) VALUES ($1, 'k', $2, 'secret', 'secret', 'global', $3, '255536-10-21')",
        f"k:{catalog_id}:global", catalog_id, row["stored"],
    )  # fmt: skip
    return f"/api/keychain/{catalog_id}/k"


@pytest.mark.parametrize("row", ROWS["rows"], ids=lambda row: f"{row['table']}-{json.dumps(row['value'])[:20]}")
async def test_rows_of_the_reference_are_read(client: RawClient, secrets: Secrets, row: dict[str, Any]) -> None:
    catalog_id = await catalog_entry(secrets.database)
    reply = await client.get(await plant(secrets, row, catalog_id))
    if row["table"] == "keychain":
        assert reply.json["expires_at"] == "9999-12-31T23:59:59Z"
    assert reply.json["data"] == row["value"]


def named(row: dict[str, Any]) -> str:
    return f"{row['writer']}-{row['table']}-{CROSS['rows'].index(row)}"


@pytest.mark.parametrize("row", CROSS["rows"], ids=named)
async def test_a_row_is_read_as_the_reference_read_it(
    shared: Secrets, shared_client: RawClient, row: dict[str, Any]
) -> None:
    """Rows of either server, other forms of them and damaged ones, with what the reference answered."""
    reply = await shared_client.get(await plant(shared, row, await catalog_entry(shared.database)))
    answer = row["answer"]
    assert reply.status == answer["status"], reply.text
    if reply.status == 200:
        assert reply.json["data"] == answer["value"]
    else:
        assert reply.json["error"].partition(":")[0] == answer["error"].partition(":")[0]


def shape(stored: str) -> Any:
    """A record without what is random: members in order, the labels, and how long the rest is."""
    record = json.loads(stored)
    lengths = {"ct": len(base64.b64decode(record["ct"])), "key": len(base64.b64decode(record["dek"]["ct"]))}
    assert " " not in stored
    return [*record], [*record["dek"]], record["v"], record["alg"], [*record["dek"].values()][:3], lengths


async def test_what_is_written_now_has_the_shape_of_what_the_reference_reads() -> None:
    wallet = local_wallet(base64.b64decode(CROSS["key"]))
    writers = {"ours", "reference", "ours, then rotated"}
    rows = [row for row in CROSS["rows"] if row["writer"] in writers]
    assert {row["writer"] for row in rows} == writers
    for row in rows:
        assert shape(await wallet.seal(row["answer"]["value"])) == shape(row["stored"])
