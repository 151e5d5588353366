"""Secrets of one region for workers of another (spec 40, sections 10 and 11): two servers, one asks the other."""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from noetl.secrets.sealed import SealedEnvelope, open_sealed
from tests.integration.http.conftest import running
from tests.integration.http.inprocess import InProcessClient
from tests.integration.http.secret_application import TOKEN, local_wallet, secret_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeDatabase
    from tests.integration.http.rawhttp import Reply
    from tests.integration.http.secret_application import Secrets

ROUTE = "/api/internal/cross-region/resolve"
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: p, path: p}
keychain: [{name: eu_only, provider: vault, region: eu-central-1, residency: strict}]
workflow: [{step: start, tool: {kind: noop}}]
"""
WORKER = X25519PrivateKey.generate()
KEY = base64.b64encode(WORKER.public_key().public_bytes_raw()).decode()
WANTED: dict[str, Any] = {
    "alias": "eu_only", "worker_public_key_b64": KEY, "worker_id": "w1", "expected_entry_region": "eu-central-1",
    "requesting_region": "us-east-1",
}  # fmt: skip


@pytest.fixture(scope="module")
async def europe(migrated_database_url: str) -> AsyncIterator[Secrets]:
    """The server of Europe, with a credential."""
    environment = {"NOETL_SERVER_REGION": "eu-central-1", "VAULT_TOKEN": "t", "VAULT_ADDR": "http://127.0.0.1:1"}
    async with secret_application(migrated_database_url, local_wallet(), environment=environment) as secrets:
        body = {"name": "eu_only", "type": "bearer", "data": {"token": "hunter2"}}
        assert (await InProcessClient(secrets.application).post("/api/credentials", body)).status == 200
        yield secrets


async def ask(europe: Secrets, token: str | None = TOKEN, **members: Any) -> Reply:
    headers = [] if token is None else [("authorization", f"Bearer {token}")]
    await europe.audited()
    europe.counts.clear()
    return await InProcessClient(europe.application).post(ROUTE, {**WANTED, **members}, *headers)


def opened(reply: Reply) -> dict[str, Any]:
    assert reply.status == 200, reply.text
    return json.loads(open_sealed(msgspec.json.decode(reply.body, type=SealedEnvelope), WORKER))


async def test_the_secret_is_sealed_to_the_workers_key(europe: Secrets) -> None:
    reply = await ask(europe, execution_id=None)
    assert opened(reply)["data"] == {"token": "hunter2"}
    assert b"hunter2" not in reply.body
    assert europe.counts == [("eu-central-1", "ok")]
    await europe.audit.flush(5)
    row = await europe.database.fetchrow("SELECT operation, outcome, worker_id, notes FROM noetl.secret_audit")
    assert row is not None
    assert tuple(row.values()) == ("cross_region_broker_serve", "ok", "w1", "for region us-east-1; client 127.0.0.1")


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_without_the_token_nothing_is_told(europe: Secrets, token: str | None) -> None:
    assert (await ask(europe, token, alias="nothing")).status == 401
    assert await europe.audited() == []


@pytest.mark.parametrize(
    ("members", "status", "error", "outcome"),
    [
        (
            {"expected_entry_region": "us-east-1"}, 403,
            "cross-region broker: this server is in region 'eu-central-1', not 'us-east-1' as the requesting peer"
            " expected",
            ("us-east-1", "wrong_region"),
        ),
        (
            {"expected_entry_region": ""}, 403,
            "cross-region broker: this server is in region 'eu-central-1', not '' as the requesting peer expected",
            ("-", "wrong_region"),
        ),
        (
            {"worker_public_key_b64": "%%%%"}, 400,
            "cross-region: invalid worker_public_key_b64: base64 decode: Invalid symbol 37, offset 0.",
            ("eu-central-1", "bad_pubkey"),
        ),
        (
            {"worker_public_key_b64": "YWJj"}, 400,
            "cross-region: invalid worker_public_key_b64: expected 32 bytes, got 3", ("eu-central-1", "bad_pubkey"),
        ),
        (
            {"worker_public_key_b64": base64.b64encode(bytes(32)).decode()}, 400,
            "cross-region: invalid worker_public_key_b64: is not a valid X25519 key", ("eu-central-1", "bad_pubkey"),
        ),
        ({"alias": "nothing"}, 404, "Credential 'nothing' not found", ("eu-central-1", "resolve_error")),
    ],
)  # fmt: skip
async def test_what_cannot_be_served_is_told(
    europe: Secrets, members: dict[str, Any], status: int, error: str, outcome: tuple[str, str]
) -> None:
    reply = await ask(europe, **members)
    assert reply.json == {"error": error, "status": status}
    assert europe.counts == [outcome]


@pytest.mark.parametrize("member", ["alias", "worker_public_key_b64", "worker_id", "expected_entry_region"])
async def test_the_members_are_required(europe: Secrets, member: str) -> None:
    body = {name: value for name, value in WANTED.items() if name != member}
    reply = await InProcessClient(europe.application).post(ROUTE, body, ("authorization", f"Bearer {TOKEN}"))
    assert reply.status == 422
    assert f"missing field `{member}`" in reply.text


async def test_blanks_around_the_key_do_not_matter_and_null_is_no_region(europe: Secrets) -> None:
    assert opened(await ask(europe, worker_public_key_b64=f" {KEY}\n"))["name"] == "eu_only"
    assert (await ask(europe, requesting_region=None)).status == 422


async def test_a_worker_of_another_region_gets_it_through_its_own_server(
    europe: Secrets, make_database: MakeDatabase, schema_template: str
) -> None:
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(running(europe.application))
        environment = {
            "NOETL_SERVER_REGION": "us-east-1",
            "NOETL_SECRET_BROKER_REGISTRY": json.dumps({"eu-central-1": f"http://127.0.0.1:{port}/"}),
            "NOETL_INTERNAL_API_TOKEN": TOKEN,
        }
        america = await stack.enter_async_context(
            secret_application(await make_database(schema_template), local_wallet(), environment=environment)
        )
        client = InProcessClient(america.application)
        await america.database.execute(
            "WITH entry AS (INSERT INTO noetl.catalog (path, version, kind, content) VALUES ('p', 1, 'playbook', $1)"
            " RETURNING catalog_id) INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, context)"
            " SELECT 77, 78, catalog_id, 'playbook_started', '{}' FROM entry", PLAYBOOK,
        )  # fmt: skip
        body = {"name": "w1", "component_type": "worker_pool", "runtime": {"worker_public_key": KEY}}
        await client.post("/api/worker/pool/register", body)
        assert (await client.get("/api/credentials/eu_only?include_data=true&execution_id=77")).status == 403
        reply = await client.get("/api/credentials/eu_only/sealed?worker_id=w1&execution_id=77")
        assert opened(reply)["data"] == {"token": "hunter2"}
        assert await america.audited() == [
            ("eu_only", "get_credential", "residency_violation"),
            ("eu_only", "get_sealed", "ok"),
        ]
