"""Entries under ``keychain:`` of a playbook: from the start event over residency and providers to what is kept."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.integration.http.inprocess import InProcessClient
from tests.integration.http.secret_application import local_wallet, secret_application
from tests.unit.secrets.authority import Authority
from tests.unit.secrets.cloud import running_cloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.http.rawhttp import Reply
    from tests.integration.http.secret_application import Secrets
    from tests.unit.secrets.cloud import Cloud

MINT = "POST http://iam.test/v1/projects/-/serviceAccounts/a@b:generateAccessToken"
EXECUTION_IDS = itertools.count(7_000_000_000_000_000_000, 1000)


def vault(path: str) -> str:
    return f"GET http://vault.test/v1/secret/data/{path}"


def secret(**data: Any) -> dict[str, Any]:
    return {"data": {"data": data, "metadata": {"version": 1}}}


def minted(seconds: float, token: str = "minted") -> dict[str, str]:
    return {"accessToken": token, "expireTime": (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()}


@dataclass
class Site:
    """An application with its clouds."""

    secrets: Secrets
    client: InProcessClient
    cloud: Cloud
    catalog_ids: dict[int, int] = field(default_factory=dict)

    async def start(
        self, *entries: dict[str, Any], workload: Any = None, catalog_id: int | None = None, parent: int | None = None
    ) -> int:
        """An execution of a fresh playbook with these entries."""
        database, execution_id = self.secrets.database, next(EXECUTION_IDS)
        if catalog_id is None:
            playbook = {
                "apiVersion": "noetl.io/v2",
                "kind": "Playbook",
                "metadata": {"name": "p", "path": "p"},
                "keychain": list(entries),
                "workflow": [{"step": "start", "tool": {"kind": "noop"}}],
            }
            catalog_id = await database.fetchval(
                "INSERT INTO noetl.catalog (path, version, kind, content)"
                " VALUES (gen_random_uuid()::text, 1, 'playbook', $1) RETURNING catalog_id",
                yaml.safe_dump(playbook), retry=False,
            )  # fmt: skip
        assert isinstance(catalog_id, int)
        await database.execute(
            "INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, status, context,"
            " parent_execution_id) VALUES ($1::bigint, $1::bigint + 1, $2, 'playbook_started', 'STARTED',"
            " $3::text::jsonb, $4)",
            execution_id, catalog_id, json.dumps({"workload": workload or {}}), parent,
        )  # fmt: skip
        self.catalog_ids[execution_id] = catalog_id
        return execution_id

    async def read(self, alias: str, execution_id: int) -> Reply:
        return await self.client.get(f"/api/credentials/{alias}?include_data=true&execution_id={execution_id}")

    async def value(self, alias: str, execution_id: int) -> Any:
        reply = await self.read(alias, execution_id)
        assert reply.status == 200, reply.text
        return reply.json["data"]

    async def rows(self, execution_id: int) -> list[tuple[str, float, bool]]:
        """Scope, remaining seconds and ``auto_renew`` of what is kept for the execution's playbook."""
        rows = await self.secrets.database.fetch(
            "SELECT scope_type, extract(epoch FROM expires_at - now())::float8 AS left, auto_renew"
            " FROM noetl.keychain WHERE catalog_id = $1 ORDER BY scope_type", self.catalog_ids[execution_id],
        )  # fmt: skip
        return [(row["scope_type"], row["left"], row["auto_renew"]) for row in rows]

    async def expire(self, seconds: float) -> None:
        """Let everything that is kept end so many seconds from now."""
        await self.secrets.database.execute(
            "UPDATE noetl.keychain SET expires_at = now() + $1", timedelta(seconds=seconds)
        )

    def resolved(self, *labels: str) -> float:
        return self.secrets.metrics.secret_resolves.labels(*labels).current()

    def refreshes(self) -> dict[str, float]:
        outcomes = ("triggered", "stampede_collapsed", "succeeded", "failed")
        return {outcome: self.secrets.metrics.secret_refreshes.labels(outcome).current() for outcome in outcomes}


@pytest.fixture
async def site(migrated_database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with running_cloud(tmp_path) as cloud:
        (tmp_path / "regions.pem").write_text(cloud.authority.pem)
        environment = {
            "ALL_PROXY": cloud.proxy_url,
            "VAULT_ADDR": "http://vault.test",
            "VAULT_TOKEN": "vt",
            "NOETL_SERVER_REGION": getattr(request, "param", "us-east-1"),
            "NOETL_SECRET_BROKER_REGISTRY": '{"eu-central-1": "https://broker.test/"}',
            "NOETL_SECRET_BROKER_CA_FILE": str(tmp_path / "regions.pem"),
            "NOETL_SECRET_BROKER_TIMEOUT_SECS": "5",
            "NOETL_INTERNAL_API_TOKEN": "between-regions",
            "NOETL_GCP_IAM_CREDENTIALS_ENDPOINT": "http://iam.test/v1",
            "NOETL_GCP_METADATA_TOKEN_URL": "http://metadata.test/token",
        }
        cloud.answers["GET http://metadata.test/token"] = {"access_token": "w", "expires_in": 3600}
        async with secret_application(migrated_database_url, local_wallet(), environment=environment) as secrets:
            yield Site(secrets, InProcessClient(secrets.application), cloud)
            await secrets.database.execute(
                "TRUNCATE noetl.keychain, noetl.credential, noetl.runtime, noetl.secret_audit"
            )


async def test_an_entry_with_a_map_is_an_object(site: Site) -> None:
    site.cloud.answers = {vault("app/prod"): secret(user="u", password="hunter2"), vault("plain"): secret(only="x")}
    entry = {
        "name": "db", "provider": "vault",
        "map": {
            "db_user": "secret/{{ path }}#user", "db_password": "secret/{{ workload.path }}#password",
            "other": "secret/plain",
        },
    }  # fmt: skip
    execution_id = await site.start(entry, workload={"path": "app/prod"})
    reply = await site.read("db", execution_id)
    document = reply.json
    assert (document["id"], document["name"], document["type"]) == ("0", "db", "keychain")
    assert document["description"] == "resolved from keychain provider"
    assert document["data"] == {"db_password": "hunter2", "db_user": "u", "other": "x"}
    assert list(document["data"]) == sorted(document["data"])
    assert site.resolved("vault", "us-east-1", "ok") == 1
    assert await site.secrets.audited() == [("db", "get_credential", "ok")]


async def test_an_entry_without_a_map_is_its_own_reference(site: Site) -> None:
    site.cloud.answers[vault("app/{{ x }}")] = secret(k="v")
    site.cloud.answers[vault("app")] = secret(k="v")
    assert await site.value("app", await site.start({"name": "app", "provider": "vault"})) == "v"


async def test_an_empty_map_asks_nobody(site: Site) -> None:
    assert await site.value("none", await site.start({"name": "none", "provider": "vault", "map": {}})) == {}
    assert site.cloud.asked == []


@pytest.mark.parametrize(
    ("members", "stored", "kind", "data"),
    [
        ({"type": "bearer"}, "t", "bearer", {"token": "t"}),
        ({"token_type": "bearer_token"}, "t", "bearer_token", {"token": "t"}),
        ({"type": "api_key"}, "t", "api_key", {"api_key": "t"}),
        ({"type": "postgres"}, '{"db_user":"u"}', "postgres", {"db_user": "u"}),
        ({"type": "basic"}, "no object", "basic", "no object"),
        ({"type": "bearer", "map": {"token": "secret/app"}}, "t", "bearer", {"token": "t"}),
        ({"type": "oauth2"}, "t", "keychain", "t"),
    ],
)
async def test_an_entry_names_the_type_that_its_worker_gets(
    site: Site, members: dict[str, Any], stored: str, kind: str, data: Any
) -> None:
    site.cloud.answers[vault("app")] = secret(k=stored)
    execution_id = await site.start({"name": "app", "provider": "vault", **members})
    for _ in range(2):  # from the provider, then from the keychain
        document = (await site.read("app", execution_id)).json
        assert (document["type"], document["data"]) == (kind, data)
    assert len(site.cloud.asked) == 1


async def test_what_is_missing_is_not_found(site: Site) -> None:
    execution_id = await site.start({"name": "bare"}, {"name": "x", "provider": "vault", "map": {"a": "x"}})
    for alias, execution in (("other", execution_id), ("bare", execution_id), ("x", 12345), ("X", execution_id)):
        reply = await site.read(alias, execution)
        assert (reply.status, reply.json["error"]) == (404, f"Credential '{alias}' not found")
    assert (await site.client.get("/api/credentials/x?include_data=true")).status == 404
    assert (await site.client.get(f"/api/credentials/x?execution_id={execution_id}")).status == 404
    assert site.cloud.asked == []


async def test_the_first_entry_of_a_name_counts(site: Site) -> None:
    site.cloud.answers = {vault("a"): secret(k="first"), vault("b"): secret(k="second")}
    entries = [{"name": "x", "provider": "vault", "map": {"v": f"secret/{path}"}} for path in ("a", "b")]
    assert await site.value("x", await site.start(*entries)) == {"v": "first"}


async def test_a_stored_credential_wins(site: Site) -> None:
    execution_id = await site.start({"name": "both", "provider": "vault"})
    await site.client.post("/api/credentials", {"name": "both", "type": "bearer", "data": {"token": "stored"}})
    assert await site.value("both", execution_id) == {"token": "stored"}


async def test_an_entry_can_name_a_stored_credential(site: Site) -> None:
    entries = (
        {"name": "pg", "kind": "credential", "credential": "pg_{{ workload.env }}"},
        {"name": "no", "credential": "x"},
    )
    execution_id = await site.start(*entries, workload={"env": "prod"})
    await site.client.post("/api/credentials", {"name": "pg_prod", "type": "postgres", "data": {"db_user": "u"}})
    document = (await site.read("pg", execution_id)).json
    assert (document["name"], document["type"], document["data"]) == ("pg", "postgres", {"db_user": "u"})
    assert await site.secrets.audited() == [("pg_prod", "resolve_keychain", "ok"), ("pg", "get_credential", "ok")]
    assert (await site.read("no", execution_id)).status == 404


@pytest.mark.parametrize(
    ("entry", "status", "error"),
    [
        (
            {"provider": "bogus"}, 500,
            "unsupported keychain secret provider 'bogus'"
            " (supported: gcp, gcp_iam, k8s, vault, aws, aws_sts, azure, azure_oauth)",
        ),
        (
            {"provider": "vault", "map": {"a": "secret/gone"}}, 502,
            "vault: HTTP 404 reading 'secret/gone': nothing at GET http://vault.test/v1/secret/data/gone"
            " (keychain entry 'x', provider 'vault')",
        ),
        (
            {"provider": "vault", "map": {"a": "../sys/x"}}, 500,
            "vault: invalid reference '../sys/x' (expected '[<mount>/]<path>#<key>' or '[<mount>/]<path>')"
            " (keychain entry 'x', provider 'vault')",
        ),
        (
            {"provider": "aws_sm"}, 500,
            "AWS Secrets Manager: AWS_ACCESS_KEY_ID is not set (required for the `aws` secret provider)"
            " (keychain entry 'x', provider 'aws')",
        ),
    ],
)  # fmt: skip
async def test_failures_name_entry_and_provider(site: Site, entry: dict[str, Any], status: int, error: str) -> None:
    reply = await site.read("x", await site.start({"name": "x", **entry}))
    assert reply.json == {"error": error, "status": status}
    assert await site.secrets.audited() == [("x", "get_credential", "provider_fetch_error")]


async def test_a_reference_that_cannot_be_rendered_is_told(site: Site) -> None:
    entry = {"name": "x", "provider": "vault", "map": {"a": "{{ a | nosuch }}"}}
    reply = await site.read("x", await site.start(entry))
    assert reply.status == 500
    assert reply.json["error"].startswith("Template render error: ")
    assert reply.json["error"].endswith("(keychain entry 'x')")
    assert await site.secrets.audited() == [("x", "get_credential", "template_error")]
    assert site.resolved("vault", "us-east-1", "template_error") == 1


async def test_a_workload_cannot_lead_out_of_the_mount(site: Site) -> None:
    entry = {"name": "x", "provider": "vault", "map": {"a": "kv/{{ w }}"}}
    reply = await site.read("x", await site.start(entry, workload={"w": "../../sys/x#token"}))
    assert reply.status == 500
    assert site.cloud.asked == []


async def test_a_busy_provider_is_asked_again(site: Site) -> None:
    site.cloud.answers[vault("app")] = [(503, b"sealed"), secret(k="v")]
    assert await site.value("app", await site.start({"name": "app", "provider": "vault"})) == "v"
    assert len(site.cloud.asked) == 2


async def test_many_readers_are_one_request(site: Site) -> None:
    site.cloud.answers[vault("app")] = secret(k="v")
    site.cloud.hold = asyncio.Event()
    first = await site.start({"name": "app", "provider": "vault"})
    second = await site.start(catalog_id=site.catalog_ids[first])
    readers = [asyncio.create_task(site.value("app", execution_id)) for execution_id in [first, second] * 5]
    await site.cloud.arrived.wait()
    site.cloud.hold.set()
    assert await asyncio.gather(*readers) == ["v"] * 10
    assert len(site.cloud.asked) == 1


async def test_a_value_is_kept_for_its_execution(site: Site) -> None:
    site.cloud.answers[vault("app")] = secret(k="v")
    execution_id = await site.start({"name": "app", "provider": "vault"})
    await site.value("app", execution_id)
    ((scope, left, auto_renew),) = await site.rows(execution_id)
    assert (scope, auto_renew) == ("local", False)
    assert 590 < left <= 600


async def test_planted_values_are_served_from_the_local_scope_only(site: Site) -> None:
    execution_id = await site.start()
    planted = {"data": {"k": "local"}, "expires_in": 600}
    path = f"/api/keychain/{site.catalog_ids[execution_id]}/any"
    await site.client.post(path, {**planted, "scope_type": "global"})
    await site.client.post(path, {**planted, "scope_type": "shared", "execution_id": execution_id})
    assert (await site.read("any", execution_id)).status == 404
    await site.client.post(path, {**planted, "scope_type": "local", "execution_id": execution_id})
    assert await site.value("any", execution_id) == {"k": "local"}


@pytest.mark.parametrize("damage", ["expires_at = now() - interval '1 s'", "data_encrypted = 'damaged'"])
async def test_what_cannot_be_used_is_resolved_again(site: Site, damage: str) -> None:
    site.cloud.answers[vault("app")] = secret(k="v")
    execution_id = await site.start({"name": "app", "provider": "vault"})
    await site.value("app", execution_id)
    await site.secrets.database.execute(f"UPDATE noetl.keychain SET {damage}")
    assert await site.value("app", execution_id) == "v"
    assert site.resolved("vault", "us-east-1", "ok") == 2
    ((_, left, _),) = await site.rows(execution_id)
    assert left > 590


@pytest.mark.parametrize(("life", "kept"), [(30, None), (70, 10), (62, 5), (300, 240), (3600, 600)], ids=str)
async def test_a_token_is_kept_for_less_than_it_lives(site: Site, life: int, kept: int | None) -> None:
    site.cloud.answers[MINT] = minted(life)
    execution_id = await site.start({"name": "gcp", "provider": "gcp_iam", "map": {"t": "a@b"}})
    assert await site.value("gcp", execution_id) == {"t": "minted"}
    rows = await site.rows(execution_id)
    if kept is None:
        assert rows == []
        assert site.secrets.metrics.secret_cache_skips.labels("already_expired").current() == 1
    else:
        assert kept - 3 < rows[0][1] <= kept


async def test_the_earliest_end_counts(site: Site) -> None:
    site.cloud.answers[MINT] = minted(3600)
    site.cloud.answers[MINT.replace("a@b", "c@d")] = minted(160)
    site.cloud.answers[vault("app")] = secret(k="v")
    execution_id = await site.start({"name": "gcp", "provider": "gcp_iam", "map": {"t": "a@b", "u": "c@d"}})
    await site.value("gcp", execution_id)
    ((_, left, _),) = await site.rows(execution_id)
    assert 95 < left <= 100


async def test_a_reader_near_the_end_gets_the_old_value_and_the_next_one_the_new(site: Site) -> None:
    assert site.secrets.resolution is not None
    site.cloud.answers[vault("app")] = [secret(k="old"), secret(k="new")]
    execution_id = await site.start({"name": "app", "provider": "vault"})
    assert await site.value("app", execution_id) == "old"
    await site.expire(30)
    site.cloud.hold = asyncio.Event()
    assert [await site.value("app", execution_id) for _ in range(5)] == ["old"] * 5
    site.cloud.hold.set()
    await site.secrets.resolution.refresher.settle()
    assert await site.value("app", execution_id) == "new"
    assert site.refreshes() == {"triggered": 5, "stampede_collapsed": 4, "succeeded": 1, "failed": 0}
    assert len(site.cloud.asked) == 2


async def test_a_renewal_that_fails_leaves_the_value(site: Site) -> None:
    assert site.secrets.resolution is not None
    site.cloud.answers[vault("app")] = [secret(k="old"), (403, b"no")]
    execution_id = await site.start({"name": "app", "provider": "vault"})
    await site.value("app", execution_id)
    await site.expire(30)
    await site.value("app", execution_id)
    await site.secrets.resolution.refresher.settle()
    assert await site.value("app", execution_id) == "old"
    assert site.refreshes()["failed"] == 1
    assert ("app", "resolve_keychain", "provider_fetch_error") in await site.secrets.audited()


@pytest.mark.parametrize(("scope", "shared_with_others"), [("local", False), ("shared", False), ("global", True)])
async def test_the_scope_says_who_shares_a_value(site: Site, scope: str, shared_with_others: bool) -> None:
    site.cloud.answers[MINT] = [minted(3600, "one"), minted(3600, "two"), minted(3600, "three")]
    first = await site.start({"name": "t", "provider": "gcp_iam", "scope": scope, "map": {"t": "a@b"}}, parent=5)
    sibling = await site.start(catalog_id=site.catalog_ids[first], parent=5)
    other = await site.start(catalog_id=site.catalog_ids[first], parent=6)
    reads = []
    for execution_id in (first, sibling, other):
        await site.value("t", execution_id)
        reads.append(site.resolved("gcp_iam", "us-east-1", "ok"))
    assert reads == ([1, 2, 3] if scope == "local" else [1, 1, 1] if shared_with_others else [1, 1, 2])
    assert {row[0] for row in await site.rows(first)} == {scope}


async def test_a_value_that_the_workload_chooses_is_never_shared(site: Site) -> None:
    site.cloud.answers = {vault("a"): secret(k="a"), vault("b"): secret(k="b")}
    entry = {"name": "t", "provider": "vault", "scope": "global", "map": {"v": "secret/{{ which }}"}}
    first = await site.start(entry, workload={"which": "a"})
    second = await site.start(workload={"which": "b"}, catalog_id=site.catalog_ids[first])
    assert await site.value("t", first) == {"v": "a"}
    assert await site.value("t", second) == {"v": "b"}


@pytest.mark.parametrize("scope", ["local", "shared", "global"])
async def test_auto_renew_renews_what_is_used_before_it_ends(site: Site, scope: str) -> None:
    assert site.secrets.resolution is not None
    site.cloud.answers[MINT] = [minted(3600, "old"), minted(3600, "new")]
    entry = {"name": "t", "provider": "gcp_iam", "scope": scope, "auto_renew": True, "map": {"t": "a@b"}}
    execution_id = await site.start(entry)
    assert await site.value("t", execution_id) == {"t": "old"}
    renewal = site.secrets.resolution.renewal
    await renewal.sweep()
    assert site.refreshes()["triggered"] == 0
    await site.expire(30)
    await renewal.sweep()
    await site.secrets.resolution.refresher.settle()
    ((kept_in, left, auto_renew),) = await site.rows(execution_id)
    assert (kept_in, auto_renew) == (scope, True)
    assert left > 590
    assert await site.value("t", execution_id) == {"t": "new"}
    await site.secrets.audit.flush(5)
    notes = await site.secrets.database.fetchval(
        "SELECT notes FROM noetl.secret_audit WHERE operation = 'resolve_keychain' AND outcome = 'ok'", retry=False
    )
    assert notes == "renewal from provider gcp_iam"


@pytest.mark.parametrize(
    "state",
    [
        "UPDATE noetl.keychain SET accessed_at = now() - interval '2 hours'",
        "UPDATE noetl.keychain SET auto_renew = false",
        "INSERT INTO noetl.execution (execution_id, catalog_id, status, end_time)"
        " SELECT execution_id, catalog_id, 'COMPLETED', now() FROM noetl.keychain",
    ],
    ids=["not used", "not wanted", "execution ended"],
)
async def test_auto_renew_leaves_the_rest_alone(site: Site, state: str) -> None:
    assert site.secrets.resolution is not None
    site.cloud.answers[vault("app")] = secret(k="v")
    await site.value("app", await site.start({"name": "app", "provider": "vault", "auto_renew": True}))
    await site.expire(30)
    await site.secrets.database.execute(state)
    await site.secrets.resolution.renewal.sweep()
    assert site.refreshes()["triggered"] == 0


async def test_rows_of_clients_with_auto_renew_are_theirs(site: Site) -> None:
    assert site.secrets.resolution is not None
    execution_id = await site.start({"name": "app", "provider": "vault"})
    path = f"/api/keychain/{site.catalog_ids[execution_id]}/app"
    await site.client.post(path, {"data": 1, "expires_in": 30, "auto_renew": True})
    await site.secrets.resolution.renewal.sweep()
    assert site.refreshes()["triggered"] == 0


RESIDENCY = {"name": "eu", "provider": "vault", "map": {"v": "secret/app"}, "region": "eu-central-1"}
VIOLATION = "Residency violation: credential 'eu' is region-locked to 'eu-central-1'; this server is in 'us-east-1'"


@pytest.mark.parametrize(
    ("members", "decision"),
    [
        ({"region": "", "residency": "strict"}, "allowed_same_region"),
        ({"residency": "none"}, "allowed_no_policy"),
        ({"region": "us-east-1", "residency": "strict"}, "allowed_same_region"),
        ({"residency": "strict", "allowed_regions": ["", "us-east-1"]}, "allowed_in_allowlist"),
        ({"residency": "advisory"}, "violation_allowed"),
        ({"residency": "strict", "allowed_regions": ["", "eu-west-1"]}, "violation_blocked"),
    ],
)
async def test_residency_says_where_a_secret_may_be_read(site: Site, members: dict[str, Any], decision: str) -> None:
    site.cloud.answers[vault("app")] = secret(k="v")
    reply = await site.read("eu", await site.start({**RESIDENCY, **members}))
    policy = members.get("residency", "none")
    assert site.secrets.metrics.secret_residency_checks.labels(policy, decision).current() == 1
    if decision == "violation_blocked":
        assert reply.json == {"error": VIOLATION, "status": 403}
        assert site.cloud.asked == []
        assert await site.secrets.audited() == [("eu", "get_credential", "residency_violation")]
    else:
        assert reply.json["data"] == {"v": "v"}


@pytest.mark.parametrize("site", [""], indirect=True)
@pytest.mark.parametrize(("region", "status"), [("", 200), ("eu-central-1", 403)])
async def test_a_server_without_a_region_is_in_none(site: Site, region: str, status: int) -> None:
    site.cloud.answers[vault("app")] = secret(k="v")
    entry = {**RESIDENCY, "region": region, "residency": "strict", "allowed_regions": [""]}
    assert (await site.read("eu", await site.start(entry))).status == status


async def test_residency_is_checked_before_the_settings_of_the_provider(site: Site) -> None:
    entry = {**RESIDENCY, "residency": "strict", "provider": "aws"}
    assert (await site.read("eu", await site.start(entry))).status == 403


async def test_residency_also_holds_for_what_is_kept(site: Site) -> None:
    execution_id = await site.start({**RESIDENCY, "residency": "strict"})
    kept = {"data": {"v": "hunter2"}, "expires_in": 600, "scope_type": "local", "execution_id": execution_id}
    await site.client.post(f"/api/keychain/{site.catalog_ids[execution_id]}/eu", kept)
    reply = await site.read("eu", execution_id)
    assert reply.json == {"error": VIOLATION, "status": 403}
    assert await site.secrets.audited() == [("eu", "get_credential", "residency_violation")]


async def test_a_type_that_is_no_text_is_none(site: Site) -> None:
    site.cloud.answers[vault("app")] = secret(k="v")
    reply = await site.read("app", await site.start({"name": "app", "provider": "vault", "type": ["bearer"]}))
    assert (reply.status, reply.json["type"]) == (200, "keychain")


async def test_a_defect_in_a_provider_is_audited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert site.secrets.resolution is not None

    async def broken(*_arguments: object) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(site.secrets.resolution.resolver, "resolve", broken)
    reply = await site.read("app", await site.start())
    assert reply.status == 500
    assert "hunter2" not in reply.text
    assert await site.secrets.audited() == [("app", "get_credential", "provider_fetch_error")]


BROKER = "POST https://broker.test/api/internal/cross-region/resolve"
ENVELOPE = {"alg": "x25519-hkdf-sha256-chacha20-poly1305", "v": 1, "eph_pub": "AA==", "ciphertext": "AA=="}


async def sealed(site: Site, entry: dict[str, Any], parent: int | None = None) -> tuple[Reply, int, str]:
    """The answer to a worker; its execution and its key."""
    key = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    body = {"name": "w1", "component_type": "worker_pool", "runtime": {"worker_public_key": key}}
    assert (await site.client.post("/api/worker/pool/register", body)).status == 200
    execution_id = await site.start(entry)
    more = "" if parent is None else f"&parent_execution_id={parent}"
    reply = await site.client.get(f"/api/credentials/eu/sealed?worker_id=w1&execution_id={execution_id}{more}")
    return reply, execution_id, key


async def test_a_worker_gets_the_envelope_of_the_secrets_region(site: Site) -> None:
    site.cloud.answers[BROKER] = {**ENVELOPE, "extra": "dropped"}
    reply, execution_id, key = await sealed(site, {**RESIDENCY, "residency": "strict"}, parent=9)
    assert (reply.status, reply.json) == (200, ENVELOPE)
    (asked,) = site.cloud.asked
    assert json.loads(asked.body) == {
        "alias": "eu", "worker_public_key_b64": key, "worker_id": "w1", "execution_id": execution_id,
        "parent_execution_id": 9, "expected_entry_region": "eu-central-1", "requesting_region": "us-east-1",
    }  # fmt: skip
    assert asked.headers["authorization"] == "Bearer between-regions"
    assert site.secrets.metrics.secret_broker_calls.labels("eu-central-1", "ok").current() == 1
    assert ("ok_via_broker",) in site.secrets.counts


@pytest.mark.parametrize(
    "members", [{"region": "sa-east-1"}, {"no_broker_fallback": True}], ids=["unknown region", "forbidden"]
)
async def test_without_a_broker_it_stays_a_violation(site: Site, members: dict[str, Any]) -> None:
    reply, _, _ = await sealed(site, {**RESIDENCY, "residency": "strict", **members})
    assert reply.status == 403
    assert site.cloud.asked == []


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ((404, b"r" * 300), f"broker returned HTTP 404 Not Found: {'r' * 200}"),
        (b"?", "decode broker response: JSON is malformed"),
        ({"alg": "x"}, "decode broker response: Object missing required field"),
    ],
)
async def test_a_broker_that_fails_is_told(site: Site, answer: object, cause: str) -> None:
    site.cloud.answers[BROKER] = answer
    reply, _, _ = await sealed(site, {**RESIDENCY, "residency": "strict"})
    assert reply.status == 502
    assert reply.json["error"].startswith(f"Cross-region broker https://broker.test/ unreachable: {cause}")
    assert site.secrets.metrics.secret_broker_calls.labels("eu-central-1", "unreachable").current() == 1


@pytest.mark.parametrize(
    ("bundle", "cause"),
    [(None, "No such file or directory"), ("no PEM", "not valid PEM"), (Authority().pem, "certificate not trusted")],
)
async def test_a_server_of_another_region_must_be_one_that_is_trusted(
    site: Site, tmp_path: Path, bundle: str | None, cause: str
) -> None:
    file = tmp_path / "regions.pem"
    file.unlink() if bundle is None else file.write_text(bundle)
    reply, _, _ = await sealed(site, {**RESIDENCY, "residency": "strict"})
    assert reply.status == 502
    assert cause in reply.json["error"]
    assert site.cloud.asked == []


@pytest.mark.parametrize("metric", ["noetl_secret_resolve_total", "noetl_secret_provider_build_total"])
async def test_metrics_name_no_secret(site: Site, metric: str) -> None:
    site.cloud.answers[vault("app")] = secret(k="hunter2")
    await site.value("app", await site.start({"name": "app", "provider": "vault"}))
    text = site.secrets.metrics.render().decode()
    assert f'{metric}{{provider="vault",region="us-east-1",status="ok"}} 1' in text
    assert "hunter2" not in text
