"""The key of stored secrets is replaced while real servers run, and while one is killed in the middle (spec 40, 12)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from noetl.client import NoetlClient
from tests.conftest import INTERNAL_TOKEN
from tests.integration.http.rawhttp import JSON, RawClient
from tests.integration.http.secret_application import local_wallet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeDatabase, MakeServer

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
CREDENTIALS, ENTRIES = 300, 40
TABLES = ("credential", "keychain")


def environment(current: bytes, *former: bytes) -> dict[str, str]:
    return {
        "NOETL_ENCRYPTION_KEY": base64.b64encode(current).decode(),
        "NOETL_ENCRYPTION_KEY_PREVIOUS": ",".join(base64.b64encode(key).decode() for key in former),
    }


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Any]:
    connection = cast("Any", await asyncpg.connect(database_url))
    yield connection
    await connection.close()


async def fill(database: Any) -> None:
    """Rows under the old key, whose values are their numbers, and a table with how they were wrapped then."""
    wallet = local_wallet(OLD)
    catalog_id = await database.fetchval(
        "INSERT INTO noetl.catalog (path, version, kind, content) VALUES ('p', 1, 'playbook', '') RETURNING catalog_id"
    )
    await database.executemany(
        "INSERT INTO noetl.credential (id, name, type, data_encrypted) VALUES ($1, $2, 't', $3)",
        [(number, f"c{number}", await wallet.seal(number)) for number in range(1, CREDENTIALS + 1)],
    )
    await database.executemany(
        "INSERT INTO noetl.keychain (cache_key, keychain_name, catalog_id, credential_type, cache_type, scope_type,"
        " data_encrypted, expires_at) VALUES ($1, 'k', $2, 'secret', 'secret', 'global', $3, now() + '1 day')",
        [(f"k{number}", catalog_id, await wallet.seal(number)) for number in range(1, ENTRIES + 1)],
    )
    await database.execute(
        "CREATE TABLE wrapped AS SELECT data_encrypted::jsonb AS record FROM noetl.credential"
        " UNION ALL SELECT data_encrypted::jsonb FROM noetl.keychain"
    )


LEFT = " UNION ALL ".join(
    f"SELECT 1 FROM noetl.{table} JOIN wrapped ON record -> 'dek' = data_encrypted::jsonb -> 'dek'" for table in TABLES
)
"""The rows that are still wrapped as they were under the old key."""
OTHERS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
LOST = " UNION ALL ".join(
    f"SELECT 1 FROM noetl.{table} WHERE data_encrypted::jsonb ->> 'ct' NOT IN (SELECT record ->> 'ct' FROM wrapped)"
    for table in TABLES
)
"""The rows whose value is another than it was."""


async def count(database: Any, rows: str) -> int:
    return await database.fetchval(f"SELECT count(*) FROM ({rows}) AS found")


async def values_under(database: Any, key: bytes) -> dict[str, list[int]]:
    """The values that open with nothing but this key and AES-GCM, by table."""
    found: dict[str, list[int]] = {}
    for table in TABLES:
        opened: list[int] = []
        for row in await database.fetch(f"SELECT data_encrypted FROM noetl.{table}"):
            record = json.loads(row["data_encrypted"])
            wrapped, sealed = (base64.b64decode(part) for part in (record["dek"]["ct"], record["ct"]))
            try:
                data_key = AESGCM(key).decrypt(wrapped[:12], wrapped[12:], None)
            except InvalidTag:
                continue
            opened.append(json.loads(AESGCM(data_key).decrypt(sealed[:12], sealed[12:], None)))
        found[table] = sorted(opened)
    return found


async def rotate(server: ServerProcess, body: str = "{}") -> dict[str, Any]:
    client = RawClient("127.0.0.1", server.port)
    headers = [JSON, ("authorization", f"Bearer {INTERNAL_TOKEN}")]
    try:
        return (await client.request("POST", "/api/internal/wallet/rotate-kek", body, headers)).json
    finally:
        client.close()


async def states(server: ServerProcess) -> dict[str, Any]:
    async with NoetlClient(server.url, token=INTERNAL_TOKEN) as client:
        return (await client.call("GET", "/api/internal/wallet/key-status?states=true"))["states"]


async def assert_all_are_read(server: ServerProcess) -> None:
    async with NoetlClient(server.url) as client:
        for number in range(1, CREDENTIALS + 1):
            credential = await client.call("GET", f"/api/credentials/c{number}?include_data=true")
            assert credential["data"] == number


async def test_a_server_that_is_killed_in_the_middle_loses_nothing(
    make_server: MakeServer, database: Any, database_url: str
) -> None:
    server = await make_server(environment(NEW, OLD))
    await fill(database)
    blocking = cast("Any", await asyncpg.connect(database_url))
    try:
        async with blocking.transaction():
            await blocking.execute("SELECT 1 FROM noetl.credential WHERE id = 150 FOR UPDATE")
            rotating = asyncio.create_task(rotate(server))
            async with asyncio.timeout(20):
                while await count(database, LEFT) > CREDENTIALS + ENTRIES - 149:  # noqa: ASYNC110 (another process)
                    await asyncio.sleep(0.02)
            await server.kill()
    finally:
        await blocking.close()
    await asyncio.gather(rotating, return_exceptions=True)
    async with asyncio.timeout(20):  # what the killed server had sent is carried out, or not, by now
        while await count(database, OTHERS):  # noqa: ASYNC110 (the database tells of no end)
            await asyncio.sleep(0.02)
    left = await count(database, LEFT)
    assert CREDENTIALS + ENTRIES - 150 <= left <= CREDENTIALS + ENTRIES - 149

    await server.start()
    await assert_all_are_read(server)
    assert await states(server) == {
        "credential": {"current": CREDENTIALS + ENTRIES - left, "former": left - ENTRIES, "unreadable": 0},
        "keychain": {"current": 0, "former": ENTRIES, "unreadable": 0},
    }
    first = await rotate(server, '{"batch_size":20,"max_batches":2}')
    assert (first["credential"]["rewrapped"], first["keychain"]["rewrapped"]) == (40, 40)
    assert await count(database, LEFT) == left - 80
    await rotate(server)

    assert await count(database, LEFT) == 0
    assert await count(database, LOST) == 0
    assert await values_under(database, OLD) == {"credential": [], "keychain": []}
    assert await values_under(database, NEW) == {
        "credential": [*range(1, CREDENTIALS + 1)],
        "keychain": [*range(1, ENTRIES + 1)],
    }
    assert [await count(database, f"SELECT 1 FROM noetl.{table}") for table in TABLES] == [CREDENTIALS, ENTRIES]

    await server.stop()
    server.environment.update(environment(NEW))
    await server.start()
    await assert_all_are_read(server)
    assert (await states(server))["credential"] == {"current": CREDENTIALS, "former": 0, "unreadable": 0}


async def test_servers_change_the_key_one_after_another(make_server: MakeServer, make_database: MakeDatabase) -> None:
    """Each step of the documented order overlaps with the one before: what either writes, both read."""
    steps = [environment(OLD), environment(OLD, NEW), environment(NEW, OLD), environment(NEW)]
    url = await make_database()
    servers: list[ServerProcess] = []
    for number, step in enumerate(steps):
        servers.append(await make_server({**step, "NOETL_SERVER_MACHINE_ID": str(number + 1)}, database_url=url))
        if number == 3:
            await rotate(servers[2])
        overlapping = servers[-2:]
        for writer in overlapping:
            async with NoetlClient(writer.url) as client:
                await client.call("POST", "/api/credentials", {"name": "n", "type": "t", "data": writer.port})
            for reader in overlapping:
                async with NoetlClient(reader.url) as client:
                    read = await client.call("GET", "/api/credentials/n?include_data=true")
                    assert read["data"] == writer.port
        if number:
            await servers[-2].stop()
