"""The worker registry on a real database, and shard arithmetic (spec 20, section 11; spec 10, section 9)."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
import xxhash

from noetl.config import load_settings
from noetl.http.application import HttpApplication
from noetl.http.runtime import RuntimeRoutes
from noetl.store.database import Database
from noetl.store.runtime import RuntimeStore
from tests.integration.http.rawhttp import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Reply, Serve

SHAPE = "Failed to deserialize the JSON body into the target type: "
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z")
MEMBERS = [
    "runtime_id", "name", "kind", "uri", "status", "labels", "capabilities", "capacity", "runtime", "heartbeat",
    "created_at", "updated_at",
]  # fmt: skip


class Writes:
    """Keeps what the metrics are told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bool]] = []

    def observe_write(self, endpoint: str, ok: bool, seconds: float) -> None:
        self.seen.append((endpoint, ok))


@pytest.fixture(scope="module")
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    opened = await Database.connect(load_settings({"DATABASE_URL": migrated_database_url}).database)
    yield opened
    await opened.close()


@pytest.fixture
async def store(database: Database) -> RuntimeStore:
    await database.execute("DELETE FROM noetl.runtime")
    return RuntimeStore(database)


@pytest.fixture(scope="module")
def writes() -> Writes:
    return Writes()


@pytest.fixture(scope="module")
async def connection(serve: Serve, database: Database, writes: Writes) -> RawClient:
    application = HttpApplication()
    ids = itertools.count(2**53 + 1)
    routes = RuntimeRoutes(RuntimeStore(database), lambda: next(ids), shard_index=1, shard_count=4, observer=writes)
    routes.register(application)
    return await serve(application)


@pytest.fixture
def client(connection: RawClient, store: RuntimeStore, writes: Writes) -> RawClient:
    writes.seen.clear()
    return connection


async def register(client: RawClient, **members: Any) -> Reply:
    return await client.post("/api/worker/pool/register", {"name": "w", **members})


async def age(database: Database, name: str, seconds: float) -> None:
    await database.execute(
        "UPDATE noetl.runtime SET heartbeat = now() - make_interval(secs => $2) WHERE name = $1", name, seconds
    )


async def test_minimal_registration_answers_with_all_members(client: RawClient, writes: Writes) -> None:
    reply = await register(client)
    assert reply.status == 200
    row = reply.json
    assert list(row) == MEMBERS
    assert row["runtime_id"] > 2**53
    assert (row["name"], row["kind"], row["status"]) == ("w", "worker_pool", "active")
    assert [row[name] for name in ("uri", "labels", "capabilities", "capacity", "runtime")] == [None] * 5
    assert row["heartbeat"] == row["created_at"] == row["updated_at"]
    assert MOMENT.fullmatch(row["heartbeat"])
    assert writes.seen == [("runtime_register", True)]


async def test_registration_again_overwrites_all_but_id_and_creation(client: RawClient) -> None:
    full = {
        "component_type": "broker", "uri": "http://w:1", "status": "ready", "labels": {"b": 1, "a": [True]},
        "capabilities": ["python"], "capacity": 2**31 - 1, "runtime": {"worker_public_key": "k"}, "hostname": "h",
    }  # fmt: skip
    first = (await register(client, **full)).json
    assert first["kind"] == "broker"
    for name in ("uri", "status", "labels", "capabilities", "capacity", "runtime"):
        assert first[name] == full[name]
    second = (await register(client, kind="broker")).json
    assert (second["runtime_id"], second["created_at"]) == (first["runtime_id"], first["created_at"])
    assert second["heartbeat"] > first["heartbeat"]
    assert second["status"] == "active"
    assert [second[name] for name in ("uri", "labels", "capabilities", "capacity", "runtime")] == [None] * 5


async def test_stored_json_is_compact_and_sorted(client: RawClient) -> None:
    reply = await register(client, labels={"bb": {"d": 1, "c": 2}, "a": 1.5})
    assert b'"labels":{"a":1.5,"bb":{"c":2,"d":1}},' in reply.body


async def test_concurrent_first_registrations_all_succeed(serve: Serve, client: RawClient, database: Database) -> None:
    application = HttpApplication()
    RuntimeRoutes(RuntimeStore(database), itertools.count(1).__next__).register(application)
    clients = [await serve(application) for _ in range(8)]
    replies = await asyncio.gather(*(register(each) for each in clients))
    assert [reply.status for reply in replies] == [200] * 8
    assert len({reply.json["runtime_id"] for reply in replies}) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{}", f"{SHAPE}missing field `name`"),
        ('{"name":5}', f"{SHAPE}name: invalid type: integer, expected a string"),
        ('{"name":"w","status":null}', f"{SHAPE}status: invalid type: null, expected a string"),
        ('{"name":"w","kind":null}', f"{SHAPE}kind: invalid type: null, expected a string"),
        ('{"name":"w","kind":"broker","component_type":"broker"}', f"{SHAPE}duplicate field `kind`"),
        ('{"name":"w","name":"w"}', f"{SHAPE}duplicate field `name`"),
        ('{"name":"w","capacity":4.0}', f"{SHAPE}capacity: invalid type: floating point number, expected "),
        ('{"name":"w","capacity":"4"}', f"{SHAPE}capacity: invalid type: string, expected "),
        ('{"name":"w","capacity":2147483648}', f"{SHAPE}capacity: "),
        ('{"name":"w","hostname":5}', f"{SHAPE}hostname: invalid type: integer, expected a string"),
        ('{"name":"w","kind":"zz"}', '{"error":"Invalid runtime kind: zz","status":422}'),
        ('{"name":"w\\u0000"}', '{"error":"name must not contain U+0000","status":422}'),
        ('{"name":"w","labels":{"a":"\\u0000"}}', '{"error":"labels must not contain U+0000","status":422}'),
    ],
)
async def test_bad_registrations_are_422(client: RawClient, body: str, text: str) -> None:
    reply = await client.post("/api/worker/pool/register", body)
    assert reply.status == 422
    assert reply.text.startswith(text), reply.text


async def test_too_long_name_is_422(client: RawClient) -> None:
    assert (await register(client, name="w" * 1000)).status == 200
    assert (await register(client, name="w" * 1001)).json["error"] == "name must not be longer than 1000 bytes"


async def heartbeat(client: RawClient, **members: Any) -> Reply:
    return await client.post("/api/worker/pool/heartbeat", {"name": "w", **members})


async def test_heartbeat_moves_its_moments_only(client: RawClient, writes: Writes) -> None:
    before = (await register(client, status="ready", capacity=3)).json
    reply = await heartbeat(client)
    assert (reply.status, reply.body) == (200, b'{"status":"ok","message":"Heartbeat recorded"}')
    [after] = (await client.get("/api/worker/pools")).json
    assert after["heartbeat"] == after["updated_at"] > before["heartbeat"]
    assert {**after, "heartbeat": 0, "updated_at": 0} == {**before, "heartbeat": 0, "updated_at": 0}
    assert writes.seen == [("runtime_register", True), ("runtime_heartbeat", True)]


@pytest.mark.parametrize("kind", ["worker_pool", "broker", "nonsense"])
async def test_heartbeat_of_an_unknown_runtime_is_404(client: RawClient, writes: Writes, kind: str) -> None:
    reply = await heartbeat(client, kind=kind)
    assert (reply.status, reply.json["error"]) == (404, f"Runtime not found: {kind} w")
    assert writes.seen == [("runtime_heartbeat", False)]


async def test_heartbeat_with_registration_brings_a_lost_row_back(client: RawClient) -> None:
    assert (await heartbeat(client, registration={"status": "ready", "labels": {"a": 1}})).status == 200
    [row] = (await client.get("/api/worker/pools")).json
    assert (row["name"], row["status"], row["labels"]) == ("w", "ready", {"a": 1})
    await heartbeat(client, registration={"status": "other"})
    assert (await client.get("/api/worker/pools")).json[0]["status"] == "ready"


@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_deregistration_deletes_the_row(client: RawClient, method: str) -> None:
    await register(client)
    body = json.dumps({"name": "w"})
    reply = await client.request(method, "/api/worker/pool/deregister", body, [JSON])
    assert reply.body == b'{"status":"ok","message":"Runtime worker_pool w deregistered"}'
    reply = await client.request(method, "/api/worker/pool/deregister", body, [JSON])
    assert (reply.status, reply.json["error"]) == (404, "Runtime not found: worker_pool w")
    assert (await client.request(method, "/api/worker/pool/deregister")).status == 415


async def test_pools_are_filtered_and_ordered(client: RawClient) -> None:
    for name, kind, status in (
        ("b", "worker_pool", "ready"), ("a%c", "worker_pool", "active"), ("c", "broker", "ready"),
        ("abc", "worker_pool", "ready"),
    ):  # fmt: skip
        await register(client, name=name, kind=kind, status=status)

    async def names(query: str) -> list[str]:
        return [row["name"] for row in (await client.get(f"/api/worker/pools{query}")).json]

    assert await names("") == ["a%c", "abc", "b"]
    assert await names("?kind=broker") == ["c"]
    assert await names("?kind=") == []
    assert await names("?status=ready") == ["abc", "b"]
    assert await names("?name=b") == ["abc", "b"]
    assert await names("?name=B") == []
    assert await names("?name=a%25c") == ["a%c", "abc"]
    assert await names("?name=a_c") == ["a%c", "abc"]
    assert await names("?status=&name=") == []
    assert (await client.get("/api/runtimes")).status == 404
    reply = await client.get("/api/worker/pools?name=%00")
    assert (reply.status, reply.json["error"]) == (422, "name must not contain U+0000")


async def test_silent_runtimes_go_offline_and_come_back_with_a_heartbeat(
    client: RawClient, store: RuntimeStore, database: Database
) -> None:
    await register(client, name="silent", status="ready")
    await register(client, name="alive", status="ready")
    await age(database, "silent", 61)
    assert await store.mark_offline(60) == ["silent"]
    assert await store.mark_offline(60) == []
    assert await store.stale_workers(60) == ["silent"]
    health = await store.worker_health(["silent", "alive", "unknown"])
    assert set(health) == {"silent", "alive"}
    assert (health["silent"].offline, health["alive"].offline) == (True, False)
    assert health["silent"].heartbeat_age_seconds >= 61 > health["alive"].heartbeat_age_seconds
    await heartbeat(client, name="silent")
    [row] = (await client.get("/api/worker/pools?name=silent")).json
    assert row["status"] == "ready"
    assert await store.stale_workers(60) == []


async def test_registration_brings_an_offline_runtime_back(client: RawClient, store: RuntimeStore) -> None:
    await register(client)
    await store.set_status("worker_pool", "w", "offline")
    assert await store.stale_workers(60) == ["w"]
    assert (await register(client)).json["status"] == "active"


@pytest.mark.parametrize(
    ("execution_id", "count", "index"),
    [
        ("1", 16, 5), ("42", 16, 3), ("320816801799737344", 16, 14), ("9223372036854775807", 16, 12), ("-1", 16, 9),
        ("-9223372036854775808", 16, 0), ("1", 1024, 405), ("0", 2, 1), ("7", 3, 2), ("383263798816944128", 8, 6),
        ("5", 1, 0),
    ],
)  # fmt: skip
async def test_shard_info_known_values(client: RawClient, execution_id: str, count: int, index: int) -> None:
    reply = await client.get(f"/api/runtime/shard-info?execution_id={execution_id}&shard_count={count}")
    assert reply.text == (
        f'{{"execution_id":{execution_id},"shard_count":{count},"shard_index":{index},"source":"noetl-server",'
        '"hash_function":"twox_hash::XxHash64","seed":0,"server_config":{"shard_index":1,"shard_count":4}}'
    )


async def test_shard_info_equals_the_xxhash_package(client: RawClient) -> None:
    source = random.Random(7)
    for _ in range(50):
        execution_id, count = source.randrange(-(2**63), 2**63), source.randrange(2, 1025)
        expected = xxhash.xxh64_intdigest(execution_id.to_bytes(8, "little", signed=True)) % count
        target = f"/api/runtime/shard-info?execution_id={execution_id}&shard_count={count}"
        assert (await client.get(target)).json["shard_index"] == expected


async def test_shard_info_accepts_signs_and_leading_zeros(client: RawClient) -> None:
    for text, value in (("%2B5", 5), ("007", 7), ("-0", 0)):
        reply = await client.get(f"/api/runtime/shard-info?execution_id={text}&shard_count=%2B4")
        assert (reply.json["execution_id"], reply.json["shard_count"]) == (value, 4)
