"""Registering and reading the catalog over HTTP (spec 10, section 4; 00-decisions, 1)."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY

import pytest

from noetl.config import load_settings
from noetl.http.application import HttpApplication
from noetl.http.catalog import CatalogRoutes
from noetl.store.catalog import CatalogStore
from noetl.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Reply, Serve

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z")
DOCUMENT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata:
  name: hello
  path: b/c
  labels: {x: 1, y: [true]}
workload: {k: 1.0, n: null}
workflow:
  - step: start
"""
FAULTY = """\
kind: Playbook
apiVersion: noetl.io/v2
metadata: {name: faulty, path: try/faulty}
executor: {}
workflow:
  - step: start
    tool: {kind: pyton}
  - step: second
    tool: {kind: noop}
    next: [{step: thrid}]
"""
PROBLEMS = [
    {
        "step": "start",
        "field": "workflow[0].tool.kind",
        "message": ANY,
        "line": 7,
        "column": 18,
    },
    {
        "step": "second",
        "field": "workflow[1].next[0]",
        "message": "Step 'second' references unknown step 'thrid' in next",
        "line": 10,
        "column": 12,
    },
]


@pytest.fixture(scope="module")
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    opened = await Database.connect(load_settings({"DATABASE_URL": migrated_database_url}).database)
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def application(database: Database) -> HttpApplication:
    served = HttpApplication()
    CatalogRoutes(CatalogStore(database)).register(served)
    return served


@pytest.fixture
async def client(application: HttpApplication, database: Database, serve: Serve) -> RawClient:
    await database.execute("DELETE FROM noetl.catalog")
    await database.execute("DELETE FROM noetl.resource WHERE meta IS NULL")
    return await serve(application)


async def register(client: RawClient, content: str, **members: Any) -> Reply:
    return await client.post("/api/catalog/register", {"content": content, **members})


def document(path: str = "p", kind: str = "kind: Playbook", rest: str = "") -> str:
    return f"{kind}\nmetadata: {{path: {path}}}\n{rest}"


async def test_a_playbook_is_registered_and_read_back(client: RawClient) -> None:
    answer = (await register(client, DOCUMENT)).json
    catalog_id = answer.pop("catalog_id")
    assert catalog_id.isdecimal()
    assert answer == {
        "status": "success",
        "message": "Resource 'b/c' version '1' registered.",
        "path": "b/c",
        "version": 1,
        "kind": "Playbook",
        "problems": ANY,
    }
    entry = (await client.post("/api/catalog/resource", {"catalog_id": catalog_id})).json
    assert MOMENT.fullmatch(entry.pop("created_at"))
    assert entry == {
        "catalog_id": catalog_id,
        "path": "b/c",
        "kind": "Playbook",
        "version": 1,
        "content": DOCUMENT,
        "layout": [{"step": "start"}],
        "payload": {"k": 1.0, "n": None},
        "meta": {"x": 1, "y": [True]},
    }


async def validated(client: RawClient, content: str, **members: Any) -> dict[str, Any]:
    reply = await client.post("/api/catalog/validate", {"content": content, **members})
    assert reply.status == 200, reply.text
    return reply.json


async def test_registering_tells_all_that_would_keep_a_playbook_from_running(client: RawClient) -> None:
    answer = (await register(client, FAULTY)).json
    assert (answer["status"], answer["version"], answer["problems"]) == ("success", 1, PROBLEMS)
    assert "problems" not in (await register(client, document(kind="kind: Credential"))).json


async def test_validation_tells_the_same_with_warnings_and_stores_nothing(
    client: RawClient, database: Database
) -> None:
    plain = await validated(client, FAULTY)
    assert plain == {
        "valid": False,
        "path": "try/faulty",
        "kind": "Playbook",
        "problems": PROBLEMS,
        "warnings": [{"step": None, "field": "executor", "message": ANY, "line": 4, "column": 1}],
    }
    assert await validated(client, base64.b64encode(FAULTY.encode()).decode()) == plain
    assert await database.fetchval("SELECT count(*) FROM noetl.catalog") == 0


async def test_what_registration_refuses_is_not_valid(client: RawClient) -> None:
    answer = await validated(client, "kind: Credential\ndata: {}\n")
    assert (answer["valid"], answer["path"], answer["kind"]) == (False, None, "Credential")
    assert [problem["message"] for problem in answer["problems"]] == ["Missing 'metadata' section"]
    answer = await validated(client, "a: [1")
    assert (answer["valid"], answer["path"], answer["kind"], len(answer["problems"])) == (False, None, None, 1)
    assert (answer["problems"][0]["line"], answer["problems"][0]["column"]) == (2, 1)
    (problem,) = (await validated(client, "a: \0"))["problems"]
    assert (problem["line"], problem["column"]) == (None, None)


async def test_other_kinds_need_no_workflow(client: RawClient) -> None:
    answer = await validated(client, "metadata: {path: a/agent}", resource_type="agent")
    assert answer == {"valid": True, "path": "a/agent", "kind": "agent", "problems": [], "warnings": []}


async def test_validation_refuses_what_is_no_request_like_registration(client: RawClient) -> None:
    for body in ("{", {}, {"content": 5}, {"content": "a: 1", "resource_type": None}):
        registered, dry = [await client.post(f"/api/catalog/{route}", body) for route in ("register", "validate")]
        assert (dry.status, dry.text) == (registered.status, registered.text)
        assert dry.status in {400, 422}
    reply = await client.post("/api/catalog/validate", {"content": "a: 1", "resource_type": "\0"})
    assert (reply.status, reply.json["error"]) == (422, "resource_type must not contain U+0000")


@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (base64.b64encode(DOCUMENT.encode()).decode(), DOCUMENT),
        ('{"metadata": {"name": "json"}}', '{"metadata": {"name": "json"}}'),
        ("\ufeffmetadata: {name: n}", "\ufeffmetadata: {name: n}"),
    ],
)
async def test_content_is_base64_or_plain(client: RawClient, content: str, stored: str) -> None:
    catalog_id = (await register(client, content)).json["catalog_id"]
    assert (await client.post("/api/catalog/resource", {"catalog_id": catalog_id})).json["content"] == stored


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Missing 'metadata' section"),
        ("[1]", "Missing 'metadata' section"),
        ("kind: Playbook", "Missing 'metadata' section"),
        ("metadata: null", "Missing 'path' or 'name' in metadata"),
        ("metadata: {path: 5}", "Missing 'path' or 'name' in metadata"),
        ("metadata: {path: ''}", "metadata.path must not be empty"),
        # base64 broken over lines, and base64 of no UTF-8: plain texts
        (base64.b64encode(DOCUMENT.encode()).decode()[:76] + "\n", "Missing 'metadata' section"),
        ("//8=", "Missing 'metadata' section"),
    ],
)
async def test_what_lacks_a_path_is_refused(client: RawClient, content: str, message: str) -> None:
    reply = await register(client, content)
    assert (reply.status, reply.json) == (422, {"error": message, "status": 422})


@pytest.mark.parametrize(
    "content",
    [
        "a: [", "a: 1\na: 2", "--- 1\n--- 2", "a: \0", 'metadata: {path: "a\\0b"}', "a:\n\t- b",
        "a: 340282366920938463463374607431768211455",
    ],
)  # fmt: skip
async def test_what_is_no_yaml_is_refused(client: RawClient, content: str) -> None:
    reply = await register(client, content)
    assert reply.status == 422
    assert reply.json["error"].startswith("Invalid YAML: ")


@pytest.mark.parametrize(
    ("kind", "members", "stored"),
    [
        ("kind: Playbook", {}, "Playbook"),
        ("kind: playbook", {}, "playbook"),
        ("kind: !tagged Mcp", {}, "Mcp"),
        ("kind: 5", {}, "Playbook"),
        ("", {}, "Playbook"),
        ("", {"resource_type": "agent"}, "agent"),
        ("kind: Credential", {"resource_type": "agent"}, "Credential"),
    ],
)
async def test_the_kind_is_stored_as_written_and_gets_its_resource_row(
    client: RawClient, database: Database, kind: str, members: dict[str, str], stored: str
) -> None:
    reply = await register(client, document(kind=kind), **members)
    assert reply.status == 200
    assert reply.json["kind"] == stored
    assert await database.fetchval("SELECT count(*) FROM noetl.resource WHERE name = $1", stored) == 1


async def test_fields_of_another_type_are_refused(client: RawClient) -> None:
    for body in ({}, {"content": 5}, {"content": "a", "resource_type": None}):
        reply = await client.post("/api/catalog/register", body)
        assert (reply.status, reply.headers["content-type"]) == (422, "text/plain; charset=utf-8")


async def test_members_without_a_json_form_are_null(client: RawClient, database: Database) -> None:
    await register(client, document(rest="workload: {? [1] : 2}\nworkflow: null"))
    record = await database.fetchrow("SELECT payload, layout, meta FROM noetl.catalog")
    assert record is not None
    assert tuple(record.values()) == ("null", "null", None)


async def test_concurrent_registrations_of_one_path_get_distinct_versions(
    application: HttpApplication, client: RawClient, serve: Serve
) -> None:
    clients = [client, *[await serve(application) for _ in range(9)]]
    replies: list[Reply] = []

    async def five(one: RawClient) -> None:
        for _ in range(5):
            replies.append(await register(one, document(kind="kind: Rare")))

    await asyncio.gather(*(five(one) for one in clients))
    assert {reply.status for reply in replies} == {200}
    assert sorted(reply.json["version"] for reply in replies) == list(range(1, 51))


async def test_a_server_that_takes_no_lock_does_not_fail_a_registration(client: RawClient, database: Database) -> None:
    await register(client, document())
    async with database.transaction() as other:
        await other.execute("INSERT INTO noetl.catalog (path, version, kind) VALUES ('p', 2, 'Playbook')")
        registering = asyncio.create_task(register(client, document()))
        blocked = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        async with asyncio.timeout(10):
            while not await database.fetchval(blocked):  # noqa: ASYNC110 (the lock queue sends no event)
                await asyncio.sleep(0.01)
    assert (await registering).json["version"] == 3


async def test_the_last_version_is_the_last(client: RawClient, database: Database) -> None:
    await register(client, document())
    await database.execute("UPDATE noetl.catalog SET version = 32766")
    assert (await register(client, document())).json["version"] == 32767
    reply = await register(client, document())
    assert (reply.status, reply.json["error"]) == (409, "Version limit 32767 reached for 'p'")


async def test_the_list_is_newest_first_and_filters_kinds_without_case(client: RawClient) -> None:
    for number, kind in enumerate(("Playbook", "playbook", "Mcp")):
        await register(client, document(path=f"p{number}", kind=f"kind: {kind}"))

    async def listed(**body: Any) -> list[str]:
        reply = await client.post("/api/catalog/list", body)
        assert reply.status == 200
        return [entry["path"] for entry in reply.json["entries"]]

    assert await listed() == ["p2", "p1", "p0"]
    assert await listed(resource_type=None) == ["p2", "p1", "p0"]
    assert await listed(resource_type="PLAYBOOK") == ["p1", "p0"]
    assert await listed(resource_type="") == []
    assert await listed(limit=1) == ["p2"]
    assert await listed(limit=1, offset=1) == ["p1"]
    assert await listed(limit=0) == []
    await register(client, document(path="p0"))
    assert await listed() == ["p0", "p2", "p1", "p0"]
    assert await listed(latest_only=True) == ["p0", "p2", "p1"]
    assert (await client.post("/api/catalog/list", {"limit": -1})).status == 422


async def test_a_large_catalog_is_listed_whole(client: RawClient, database: Database) -> None:
    await register(client, document())
    await database.execute(
        "INSERT INTO noetl.catalog (path, version, kind, content, created_at)"
        " SELECT 'many', n, 'Playbook', repeat('x', 2000), now() - interval '1 day'"
        " FROM generate_series(1, 500) AS n"
    )
    reply = await client.post("/api/catalog/list", {})
    assert reply.headers["transfer-encoding"] == "chunked"
    entries = reply.json["entries"]
    assert len(entries) == 501
    assert len({entry["catalog_id"] for entry in entries}) == 501
    reply = await client.post("/api/catalog/list", {"include_content": False, "limit": 450})
    assert [entry["content"] for entry in reply.json["entries"]] == [None] * 450


async def test_an_empty_catalog_has_an_empty_list(client: RawClient) -> None:
    assert (await client.post("/api/catalog/list", {})).json == {"entries": []}


async def test_an_entry_is_found_by_id_or_by_path_and_version(client: RawClient) -> None:
    first = (await register(client, document())).json["catalog_id"]
    second = (await register(client, document())).json["catalog_id"]
    for body, catalog_id in (
        ({"catalog_id": first, "path": "p"}, first),
        ({"catalog_id": int(first)}, first),
        ({"path": "p"}, second),
        ({"path": "p", "version": None}, second),
        ({"path": "p", "version": "latest"}, second),
        ({"path": "p", "version": "1"}, first),
        ({"path": "p", "version": "+1"}, first),
        ({"path": "p", "version": 1}, first),
    ):
        assert (await client.post("/api/catalog/resource", body)).json["catalog_id"] == catalog_id


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, "Either 'catalog_id' or 'path' must be provided"),
        ({"catalog_id": ""}, 422, "Invalid catalog_id"),
        ({"catalog_id": "x"}, 422, "Invalid catalog_id"),
        ({"catalog_id": "9223372036854775808"}, 422, "Invalid catalog_id"),
        ({"catalog_id": "01"}, 404, "Catalog entry '01' not found"),
        ({"path": "nope"}, 404, "Catalog entry 'nope' not found"),
        ({"path": "nope", "version": "latest"}, 404, "Catalog entry 'nope' not found"),
        ({"path": "a", "version": "9"}, 404, "Catalog entry 'a' version 9 not found"),
        ({"path": "a", "version": "LATEST"}, 422, "Invalid version number"),
        ({"path": "a", "version": ""}, 422, "Invalid version number"),
        ({"path": "a", "version": "32768"}, 422, "Invalid version number"),
        ({"path": "a", "version": "-32768"}, 404, "Catalog entry 'a' version -32768 not found"),
    ],
)
async def test_what_is_not_found_or_not_understood(
    client: RawClient, body: dict[str, Any], status: int, message: str
) -> None:
    reply = await client.post("/api/catalog/resource", body)
    assert (reply.status, reply.json) == (status, {"error": message, "status": status})


async def test_an_entry_without_content_is_shown(client: RawClient, database: Database) -> None:
    await register(client, document())
    await database.execute("UPDATE noetl.catalog SET content = NULL")
    assert (await client.post("/api/catalog/resource", {"path": "p"})).json["content"] is None
    assert (await client.post("/api/catalog/list", {})).json["entries"][0]["content"] is None


async def test_u0000_in_a_path_is_refused(client: RawClient) -> None:
    reply = await client.post("/api/catalog/resource", '{"path": "a\\u0000"}')
    assert (reply.status, reply.json["error"]) == (422, "path must not contain U+0000")
