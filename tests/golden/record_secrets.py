"""Records how a reference server stores and answers credentials and keychain entries.

Usage: ``python -m tests.golden.record_secrets http://host:port --database DSN --key BASE64`` writes
``tests/golden/secrets/answers.json``, steps as in `tests.golden.recording`, and ``tests/golden/secrets/rows.json``: the
key, and the encrypted columns that the reference wrote with the value of each. ``{catalog_id}`` stands for a catalog
entry. All names begin with ``golden-``; what is left at the end is deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.golden.recording import Names, call, check_database, record, write

if TYPE_CHECKING:
    from tests.golden.recording import Step

FOLDER = Path(__file__).parent / "secrets"
CREDENTIALS = "/api/credentials"
KEYCHAIN = "/api/keychain/{catalog_id}"

VALUES: dict[str, Any] = {
    "plain": {"x": 1},
    "unsorted": {"zeta": 1, "db_host": "h", "nested": {"b": 1, "a": [1, 2.0, None, True, "é"]}},
    "null": None,
    "text": "p\u00e4ss\U0001f511\u0000",
    "number": -0.5,
    "empty": {},
}


def credential_steps() -> list[Step]:
    array = (422, "an array is not taken for an object")
    nul = (422, "texts with U+0000 are refused as everywhere")
    name = '{"name":"golden-bad","type":"t"%s}'
    return [
        *(
            call("POST", CREDENTIALS, {"name": f"golden-{name}", "type": "postgres", "data": value})
            for name, value in VALUES.items()
        ),
        call("POST", CREDENTIALS, {
            "name": "golden-full", "type": "bearer", "data": {"token": "t"}, "meta": {"env": "prod", "a": 1},
            "tags": ["t2", "t1"], "description": "Prod DB", "unknown": 5,
        }),
        call("GET", f"{CREDENTIALS}/golden-full"),
        call("GET", f"{CREDENTIALS}/golden-full?include_data=true"),
        call("POST", CREDENTIALS, {"name": "golden-full", "type": "api_key", "data": {"api_key": "k"}, "tags": []}),
        call("GET", f"{CREDENTIALS}/golden-full?include_data=true&execution_id=5&parent_execution_id=-6&other=1"),
        *(call("GET", f"{CREDENTIALS}/golden-{name}?include_data=true") for name in VALUES),
        call("POST", CREDENTIALS, '{"name":"golden-numbers","type":"","data":[1e5,2.0,-0.0,{"a":1,"a":2}]}'),
        call("GET", f"{CREDENTIALS}/golden-numbers?include_data=true"),
        call("POST", CREDENTIALS, {"name": "golden-a/b", "type": "t", "data": 1, "meta": [1, "x"]}),
        call("GET", f"{CREDENTIALS}/golden-a%2Fb"),
        call("GET", f"{CREDENTIALS}/golden-a/b"),
        call("POST", CREDENTIALS, {"name": "golden-meta", "type": "golden", "data": 1, "meta": "m", "description": ""}),
        call("POST", CREDENTIALS, {
            "name": "golden-meta2", "type": "golden", "data": 1, "meta": None, "tags": None, "description": None,
        }),
        call("GET", f"{CREDENTIALS}?type=golden"),
        call("GET", f"{CREDENTIALS}?q=GOLDEN-META&type=golden&limit=1"),
        call("GET", f"{CREDENTIALS}?q=golden%25full"),
        call("GET", f"{CREDENTIALS}?q=golden-ful_"),
        call("GET", f"{CREDENTIALS}?type=golden-none"),
        call("GET", f"{CREDENTIALS}?type=golden-none&q="),
        call("GET", f"{CREDENTIALS}?type=a&type=b"),
        *(call("GET", f"{CREDENTIALS}/golden-full?include_data={value}") for value in ("1", "True", "", "false")),
        call("GET", f"{CREDENTIALS}/golden-full?include_data=true&include_data=true"),
        call("GET", f"{CREDENTIALS}/golden-full?execution_id=x"),
        call("GET", f"{CREDENTIALS}/golden-full?parent_execution_id="),
        call("GET", f"{CREDENTIALS}/golden-nobody"),
        call("GET", f"{CREDENTIALS}/golden-nobody?include_data=true"),
        call("GET", f"{CREDENTIALS}/golden-nobody?include_data=true&execution_id=5"),
        call("GET", f"{CREDENTIALS}/99999999999999999999"),
        call("GET", f"{CREDENTIALS}/+5"),
        call("GET", f"{CREDENTIALS}/%ff"),
        call("GET", f"{CREDENTIALS}/golden-full/"),
        call("GET", f"{CREDENTIALS}/"),
        call("PUT", f"{CREDENTIALS}/golden-full"),
        call("PATCH", CREDENTIALS),
        call("POST", CREDENTIALS, ""),
        call("POST", CREDENTIALS, "null"),
        call("POST", CREDENTIALS, '["golden-array","t",{}]', deviation=array),
        call("POST", CREDENTIALS, '{"name":5,"type":"t","data":1}'),
        call("POST", CREDENTIALS, '{"name":"golden-bad","type":null,"data":1}'),
        call("POST", CREDENTIALS, '{"name":"golden-bad","data":1}'),
        *(
            call("POST", CREDENTIALS, name % members)
            for members in (
                "", ',"data":1,"tags":5', ',"data":1,"tags":[5]', ',"data":1,"description":5', ',"data":1,"data":2',
                ',"data":1,"name":"x"', ',"data":1e400', ',"data":1} x',
            )
        ),
        call("POST", CREDENTIALS, '{"name":"golden-\\u0000","type":"t","data":1}', deviation=nul),
        call("GET", f"{CREDENTIALS}/golden-full/sealed"),
        call("GET", f"{CREDENTIALS}/golden-full/sealed?worker_id=golden-nobody"),
        call("GET", f"{CREDENTIALS}/golden-full/sealed?worker_id=golden-nobody&execution_id=x"),
        call("GET", f"{CREDENTIALS}/golden-nobody/sealed?worker_id=golden-nobody"),
    ]  # fmt: skip


def keychain_steps() -> list[Step]:
    soon = {"expires_at": "2099-01-02T03:04:05.5+01:00"}
    late = (400, "a date that RFC 3339 cannot write is refused")
    wrong = (422, "the request is wrong, not the server")
    unknown = (404, "the request is wrong, not the server")
    return [
        call("GET", f"{KEYCHAIN}/golden"),
        call("POST", f"{KEYCHAIN}/golden", {"data": {"b": 1, "a": "é"}, **soon}),
        call("GET", f"{KEYCHAIN}/golden"),
        call("GET", f"{KEYCHAIN}/golden?scope_type=bogus&execution_id=7"),
        call("GET", f"{KEYCHAIN}/golden?scope_type="),
        call("GET", f"{KEYCHAIN}/golden?scope_type=local"),
        call("POST", f"{KEYCHAIN}/golden", {
            "data": None, "scope_type": "local", "execution_id": -7, "auto_renew": True, "renew_config": {}, **soon,
        }),
        call("GET", f"{KEYCHAIN}/golden?scope_type=local&execution_id=-7"),
        call("POST", f"{KEYCHAIN}/golden", {"data": 1, "scope_type": "local", **soon}),
        call("POST", f"{KEYCHAIN}/golden", {"data": 1, "scope_type": "shared", **soon}),
        call("POST", f"{KEYCHAIN}/golden", {"data": 1, "scope_type": "shared", "execution_id": 8, **soon}),
        call("GET", f"{KEYCHAIN}/golden?scope_type=shared&execution_id=8"),
        call("POST", f"{KEYCHAIN}/golden%2Fx:y", {"data": 1, **soon}),
        call("GET", f"{KEYCHAIN}/golden%2Fx:y"),
        call("POST", f"{KEYCHAIN}/golden-old", {"data": 1, "expires_at": "2001-02-03T04:05:06Z", "expires_in": 1000}),
        call("GET", f"{KEYCHAIN}/golden-old"),
        call("POST", f"{KEYCHAIN}/golden-old", {"data": 1}, deviation=wrong),
        call("POST", f"{KEYCHAIN}/golden-old", {"data": 1, "scope_type": "bogus", **soon}, deviation=wrong),
        call("POST", "/api/keychain/5/golden", {"data": 1, **soon}, deviation=unknown),
        call("GET", "/api/keychain/5/golden"),
        call("GET", "/api/keychain/catalog/5"),
        call("GET", "/api/keychain/catalog/{catalog_id}"),
        call("POST", "/api/keychain/catalog/{catalog_id}", {"data": 1}),
        *(
            call("POST", f"{KEYCHAIN}/golden-bad", body)
            for body in (
                "", "{}", '{"data":1,"scope_type":null}', '{"data":1,"auto_renew":null}', '{"data":1,"expires_in":"5"}',
                '{"data":1,"expires_in":5.0}', '{"data":1,"execution_id":"5"}', '{"data":1,"expires_at":"2026-01-01"}',
                '{"data":1,"expires_at":5}', '{"data":1,"expires_at":"2026-01-01T00:00:00"}', '{"data":1,"data":2}',
            )
        ),
        call("GET", "/api/keychain/abc/golden"),
        call("GET", "/api/keychain/catalog/abc"),
        call("GET", f"{KEYCHAIN}/golden?execution_id=x"),
        call("PUT", f"{KEYCHAIN}/golden"),
        call("POST", f"{KEYCHAIN}/golden-old", {"data": 1, "expires_in": 8_000_000_000_000}, deviation=late),
    ]  # fmt: skip


def closing_steps() -> list[Step]:
    return [
        call("DELETE", f"{KEYCHAIN}/golden?scope_type=shared"),
        call("DELETE", f"{KEYCHAIN}/golden?scope_type=shared"),
        call("DELETE", f"{CREDENTIALS}/golden-full"),
        call("DELETE", f"{CREDENTIALS}/golden-full"),
        call("DELETE", f"{CREDENTIALS}/golden-nobody"),
    ]


async def record_all(url: str, database: str, key: str) -> None:
    store: Any = await asyncpg.connect(database)
    try:
        await check_database(url, store)
        names = Names(
            catalog_id=await store.fetchval("SELECT catalog_id FROM noetl.catalog ORDER BY catalog_id LIMIT 1")
        )
        steps = record(url, [*credential_steps(), *keychain_steps()], names)
        rows = {"key": key, "rows": await stored_rows(store)}
        write(FOLDER, {"answers": [*steps, *record(url, closing_steps(), names)]})
        (FOLDER / "rows.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    finally:
        await store.execute("DELETE FROM noetl.credential WHERE name LIKE 'golden-%'")
        await store.execute("DELETE FROM noetl.keychain WHERE keychain_name LIKE 'golden%'")
        await store.close()


async def stored_rows(store: Any) -> list[dict[str, Any]]:
    """The encrypted columns of the rows whose values are known."""
    found = await store.fetch(
        "SELECT name, data_encrypted FROM noetl.credential WHERE name LIKE 'golden-%' ORDER BY name"
    )
    names = {f"golden-{name}": value for name, value in VALUES.items()}
    rows = [
        {"table": "credential", "stored": row["data_encrypted"], "value": names[row["name"]]}
        for row in found
        if row["name"] in names
    ]
    entry = await store.fetchval("SELECT data_encrypted FROM noetl.keychain WHERE cache_key LIKE 'golden:%:global'")
    return [*rows, {"table": "keychain", "stored": entry, "value": {"a": "é", "b": 1}}]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--database", required=True)
    parser.add_argument("--key", required=True, help="the server's NOETL_ENCRYPTION_KEY; must protect nothing else")
    arguments = parser.parse_args()
    asyncio.run(record_all(arguments.url, arguments.database, arguments.key))
