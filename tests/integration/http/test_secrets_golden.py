"""Our answers and rows beside those recorded from the reference (spec 40, sections 3, 5, 6 and 7)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden.record_secrets import mask
from tests.integration.http.rawhttp import JSON
from tests.integration.http.secret_application import catalog_entry, local_wallet, secret_application
from tests.integration.http.test_golden import comparable_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Reply, Serve
    from tests.integration.http.secret_application import Secrets

FOLDER = Path(__file__).parents[2] / "golden" / "secrets"
ROWS = json.loads((FOLDER / "rows.json").read_text())
KEY = base64.b64decode(ROWS["key"])


@pytest.fixture(scope="module")
async def secrets(migrated_database_url: str) -> AsyncIterator[Secrets]:
    async with secret_application(migrated_database_url, local_wallet(KEY)) as opened:
        yield opened


@pytest.fixture
async def client(secrets: Secrets, serve: Serve) -> RawClient:
    return await serve(secrets.application)


async def test_every_answer_is_the_recorded_one(client: RawClient, secrets: Secrets) -> None:
    catalog_id = await catalog_entry(secrets.database)
    for step in json.loads((FOLDER / "answers.json").read_text()):
        headers = [JSON] if "body" in step else []
        target = step["target"].replace("{catalog_id}", str(catalog_id))
        compare(await client.request(step["method"], target, step.get("body"), headers), step, catalog_id)


def compare(reply: Reply, step: dict[str, Any], catalog_id: int) -> None:
    answer = step["answer"]
    about = f"{step} {reply.status} {reply.text}"
    if "deviation" in step:
        assert reply.status == step["deviation"]["status"], about
    elif answer["status"] == 500:
        assert reply.status == 500, about
        assert reply.json["status"] == 500, about
    else:
        assert (reply.status, reply.headers.get("content-type")) == (answer["status"], answer["content_type"]), about
        assert comparable_text(mask(reply.text, catalog_id)) == comparable_text(answer["body"]), about


@pytest.mark.parametrize("row", ROWS["rows"], ids=lambda row: f"{row['table']}-{json.dumps(row['value'])[:20]}")
async def test_rows_of_the_reference_are_read(client: RawClient, secrets: Secrets, row: dict[str, Any]) -> None:
    catalog_id = await catalog_entry(secrets.database)
    if row["table"] == "credential":
        await secrets.database.execute(
            "INSERT INTO noetl.credential (name, type, data_encrypted) VALUES ($1, 't', $2)",
            f"r{catalog_id}",
            row["stored"],
        )
        reply = await client.request("GET", f"/api/credentials/r{catalog_id}?include_data=true")
    else:
        await secrets.database.execute(
            "INSERT INTO noetl.keychain (cache_key, keychain_name, catalog_id, credential_type, cache_type, scope_type,"
            " data_encrypted, expires_at) VALUES ($1, 'k', $2, 'secret', 'secret', 'global', $3, '255536-10-21')",
            f"k:{catalog_id}:global", catalog_id, row["stored"],
        )  # fmt: skip
        reply = await client.request("GET", f"/api/keychain/{catalog_id}/k")
        assert reply.json["expires_at"] == "9999-12-31T23:59:59Z"
    assert reply.json["data"] == row["value"]
