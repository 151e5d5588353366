"""SQL of callers, and the schema: who may, what is shown, what is refused, and that nothing leaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from noetl.store import sql as sql_module
from noetl.store.migrations import load_migrations
from tests.integration.http.client_application import TOKEN, client_application

if TYPE_CHECKING:
    from tests.conftest import MakeDatabase
    from tests.integration.http.client_application import ClientRoutes
    from tests.integration.http.rawhttp import RawClient, Reply, Serve

EXECUTE = "/api/postgres/execute"


async def run(client: RawClient, query: str, *parameters: Any, **members: Any) -> Reply:
    return await client.post(EXECUTE, {"query": query, "parameters": list(parameters), **members})


async def value(client: RawClient, expression: str, *parameters: Any) -> Any:
    reply = await run(client, f"SELECT {expression} AS v", *parameters)
    assert reply.status == 200, reply.text
    return reply.json["result"][0]["v"]


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Basic x", f"Bearer {TOKEN}x", "Bearer"])
@pytest.mark.parametrize("path", [EXECUTE, "/api/db/init"])
async def test_without_the_token_nobody_runs_sql(
    migrated_database_url: str, serve: Serve, path: str, authorization: str | None
) -> None:
    async with client_application(migrated_database_url, sql_api="token") as opened:
        client = await serve(opened.application)
        headers = [] if authorization is None else [("authorization", authorization)]
        reply = await client.request("POST", path, "no json", headers)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        assert list(reply.json) == ["error", "status"]
        assert "NOETL_SQL_API" in reply.json["error"]
        assert TOKEN not in reply.text
        assert (await client.get("/api/db/validate")).status == 200
        client.close()


async def test_with_the_token_sql_runs(migrated_database_url: str, serve: Serve) -> None:
    async with client_application(migrated_database_url, sql_api="token") as opened:
        client = await serve(opened.application)
        headers = ("authorization", f"Bearer {TOKEN}")
        assert (await client.post(EXECUTE, {"query": "SELECT 1 AS n"}, headers)).json["result"] == [{"n": 1}]
        assert (await client.request("POST", "/api/db/init", None, [headers])).status == 200
        client.close()


async def test_unset_token_refuses_everybody(migrated_database_url: str, serve: Serve) -> None:
    async with client_application(migrated_database_url, sql_api="token", token=None) as opened:
        client = await serve(opened.application)
        reply = await client.post(EXECUTE, {"query": "SELECT 1"}, ("authorization", "Bearer "))
        assert reply.status == 401
        assert "NOETL_INTERNAL_API_TOKEN" in reply.json["error"]
        client.close()


async def test_switched_off_routes_are_unknown(migrated_database_url: str, serve: Serve) -> None:
    async with client_application(migrated_database_url, sql_api="off") as opened:
        client = await serve(opened.application)
        for path in (EXECUTE, "/api/db/init"):
            reply = await client.request("POST", path, None, [("authorization", f"Bearer {TOKEN}")])
            assert (reply.status, reply.body) == (404, b"")
        assert (await client.get("/api/db/validate")).status == 200
        client.close()


@pytest.mark.parametrize(
    ("expression", "shown"),
    [
        ("1::int2", 1), ("-5::int8", -5), ("7::oid", 7), ("0.1::float4", 0.1), ("'NaN'::float4", None),
        ("'Infinity'::float8", None), ("1.50::numeric", 1.5), ("12345678901234567890::numeric", 12345678901234567890),
        ("'NaN'::numeric", None), ("'-Infinity'::numeric", None), ("true", True), ("NULL", None),
        ("date '2026-01-02'", "2026-01-02"), ("timestamp '2026-01-02 03:04:05.06'", "2026-01-02T03:04:05.060"),
        ("time '03:04'", "03:04:00"), ("'infinity'::timestamptz", "infinity"),
        ("'2026-01-02 03:04:05.1234+01'::timestamptz", "2026-01-02T02:04:05.123400+00:00"),
        ("'{00000000-0000-0000-0000-000000000001}'::uuid", "00000000-0000-0000-0000-000000000001"),
        ("'1 mon 2 days'::interval", "1 mon 2 days"), ("'10.0.0.1/8'::inet", "10.0.0.1/8"),
        ("'\\x00ff'::bytea", "\\x00ff"), ("'a'::\"char\"", "a"), ("'ab'::char(3)", "ab "), ("B'101'", "101"),
        ("'[1,5)'::int4range", "[1,5)"), ("'{[1,2),[3,4)}'::int4multirange", "{[1,2),[3,4)}"),
        ("ROW(1, 'a b')", "(1,\"a b\")"), ("'1 2'::int2vector", "1 2"), ("ARRAY[1,NULL]", [1, None]),
        ("ARRAY[[1.5],[2]]::numeric[]", [[1.5], [2]]), ("'{}'::text[]", []), ("ARRAY['[1,5)'::int4range]", ["[1,5)"]),
        ("ARRAY['{\"b\":1,\"a\":2}'::jsonb]", [{"a": 2, "b": 1}]), ("'pg_class'::regclass", "pg_class"),
 ("1::money", "$1.00"), ("'null'::jsonb", None), ("'1e400'::jsonb", 10**400),
        ("c::information_schema.cardinal_number FROM (VALUES (1)) AS t (c)", 1),
    ],
)  # fmt: skip
async def test_value_of_every_type_is_shown(client: RawClient, expression: str, shown: Any) -> None:
    if " FROM " in expression:
        reply = await run(client, f"SELECT {expression.replace(' FROM', ' AS v FROM')}")
        assert reply.json["result"] == [{"v": shown}]
    else:
        assert await value(client, expression) == shown


async def test_enum_and_composite_are_shown_as_text(client: RawClient) -> None:
    assert (await run(client, "CREATE TYPE mood AS ENUM ('so so', 'well')")).json["result"] == []
    assert (await run(client, "CREATE TYPE pair AS (a int, b mood)")).json["result"] == []
    assert await value(client, "'so so'::mood") == "so so"
    assert await value(client, "ARRAY['so so'::mood]") == ["so so"]
    assert await value(client, "ROW(1,'well')::pair") == "(1,well)"
    assert await value(client, "ARRAY[ROW(1,'so so')::pair]") == ['(1,"so so")']
    assert await value(client, "$1::mood", "well") == "well"


async def test_columns_without_form_keep_their_names_beside_others(client: RawClient) -> None:
    reply = await run(client, "SELECT '[1,2)'::int4range AS r, 1 AS a, 2 AS a -- comment")
    assert reply.text == '{"status":"ok","result":[{"a":2,"r":"[1,2)"}]}'
    await run(client, "CREATE TABLE ranged (r int4range)")
    refused = await run(client, "INSERT INTO ranged VALUES ('[1,2)') RETURNING r")
    assert (refused.status, "cast it to text" in refused.json["error"]) == (422, True)
    assert (await run(client, "TABLE ranged;")).json["result"] == []
    returned = await run(client, "INSERT INTO ranged VALUES ('[1,2)') RETURNING r::text")
    assert returned.json["result"] == [{"r": "[1,2)"}]


async def test_parameters_take_the_types_of_the_statement(client: RawClient) -> None:
    assert await value(client, "$1::int + $2::int8", 1, "2") == 3
    assert await value(client, "$1::text", 5) == "5"
    assert await value(client, "$1::jsonb", {"b": 1, "a": [None]}) == {"a": [None], "b": 1}
    assert await value(client, "$1::int[]", [1, None]) == [1, None]
    assert await value(client, "$1::bool", False) is False
    assert await value(client, "$1::timestamptz", "2026-01-01T00:00:00Z") == "2026-01-01T00:00:00+00:00"
    assert await value(client, "$1::text", None) is None
    assert await value(client, "$1::text", "'; DROP TABLE noetl.event; --") == "'; DROP TABLE noetl.event; --"


@pytest.mark.parametrize(
    ("query", "parameters", "reason"),
    [
        ("SELECT $1::int", [], "The statement has 1 parameters, 0 were given"),
        ("SELECT 1", [1], "The statement has 0 parameters, 1 were given"),
        ("SELECT $1::int", ["x"], 'invalid input syntax for type integer: "x"'),
        ("SELECT $1::int[]", [5], "parameter|argument|Invalid"),
        ("SELECT $1::int4range", ["[1,2)"], "Range"),
        ("SELECT $1::int4range, $2::int", ["[1,2)", 1], "cast it"),
        ("SELECT nope", [], 'column "nope" does not exist'),
        ("SELECT (SELECT 1 UNION ALL SELECT 2)", [], "more than one row"),
        ("INSERT INTO noetl.catalog (path) VALUES (NULL)", [], "violates not-null constraint"),
        ("DO $$ BEGIN RAISE EXCEPTION 'mine'; END $$", [], "mine"),
        ("SELECT 1; SELECT 2", [], "cannot insert multiple commands into a prepared statement"),
        ("VACUUM", [], "VACUUM cannot run inside a transaction block"),
        ("SELECT '\0'", [], "query must not contain U+0000"),
    ],
)
async def test_mistake_of_the_caller_is_told(client: RawClient, query: str, parameters: list[Any], reason: str) -> None:
    reply = await run(client, query, *parameters)
    assert reply.status == 422, reply.text
    assert any(word in reply.json["error"] for word in reason.split("|")), reply.text


async def test_too_many_rows_and_too_much_text_are_refused(client: RawClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len((await run(client, "SELECT generate_series(1, 10000)")).json["result"]) == 10_000
    reply = await run(client, "SELECT generate_series(1, 10001)")
    assert (reply.status, reply.json["error"]) == (422, "The statement has more than 10000 rows; add a LIMIT")
    monkeypatch.setattr(sql_module, "HIGHEST_BYTES", 1 << 20)
    reply = await run(client, "SELECT repeat('x', 100000) FROM generate_series(1, 1000)")
    assert (reply.status, reply.json["error"]) == (422, "The rows have more than 1 MiB; add a LIMIT")


async def test_slow_statement_is_cut(client: RawClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await value(client, "current_setting('statement_timeout')") == "1min"
    monkeypatch.setattr(sql_module, "STATEMENT_SECONDS", 0.1)
    reply = await run(client, "SELECT pg_sleep(30)")
    assert (reply.status, "statement timeout" in reply.json["error"]) == (422, True)


async def test_schema_applies_to_its_statement_only(client: RawClient) -> None:
    assert (await run(client, "SELECT count(*) AS n FROM catalog", db_schema="noetl")).json["result"] == [{"n": 0}]
    assert (await run(client, "SELECT count(*) FROM catalog")).status == 422
    shown = await run(client, "SHOW search_path", schema=' Foo , "B""x",public')
    assert shown.json["result"] == [{"search_path": '"foo", "B""x", "public"'}]


@pytest.mark.parametrize("text", ["", " ", "a,", ",a", "a b", "a;b", "'a'", "a, (SELECT 1)", '"a', "1a", '""', "a\0"])
async def test_schema_that_is_no_list_of_names_is_refused(client: RawClient, text: str) -> None:
    reply = await run(client, "SELECT 1", schema=text)
    assert (reply.status, reply.json["error"]) == (422, "db_schema must be schema names separated by commas")


async def test_nothing_of_a_statement_stays_behind(client: RawClient, routes: ClientRoutes) -> None:
    for query in (
        "BEGIN", "SET search_path TO nowhere", "SET SESSION statement_timeout = 1", "LISTEN x", "PREPARE p AS SELECT 1",
        "CREATE TEMP TABLE leaked (a int)", "SELECT pg_advisory_lock(4711)", "COMMIT", "ROLLBACK", "SET ROLE NONE",
    ):  # fmt: skip
        assert (await run(client, query)).status == 200, query
    pools = await asyncio.gather(*(routes.database.fetchval("SHOW search_path") for _ in range(10)))
    assert set(pools) == {'"$user", public'}
    idle = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    assert await routes.database.fetchval(idle) == 0
    assert await routes.database.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    assert (await run(client, "SELECT * FROM leaked")).status == 422


async def test_statement_that_fails_changes_nothing(client: RawClient) -> None:
    await run(client, "CREATE TABLE kept (a int PRIMARY KEY)")
    assert (await run(client, "INSERT INTO kept SELECT * FROM (VALUES (1), (1)) AS t RETURNING a")).status == 422
    assert (await run(client, "INSERT INTO kept VALUES (1), (2) RETURNING a")).json["result"] == [{"a": 1}, {"a": 2}]
    assert (await run(client, "SELECT count(*) AS n FROM kept")).json["result"] == [{"n": 2}]


async def test_many_statements_at_once_all_run(routes: ClientRoutes, serve: Serve) -> None:
    clients = [await serve(routes.application) for _ in range(12)]
    replies = await asyncio.gather(*(run(one, "SELECT pg_sleep(0.02), 1 AS n") for one in clients))
    assert [reply.status for reply in replies] == [200] * 12


async def test_init_creates_the_schema_once(make_database: MakeDatabase, serve: Serve) -> None:
    newest = load_migrations()[-1].version
    async with client_application(await make_database(), schema="other") as opened:
        clients = [await serve(opened.application) for _ in range(2)]
        before = (await clients[0].get("/api/db/validate")).json
        assert (before["valid"], before["tables"], len(before["missing"])) == (False, [], 8)
        assert before["message"].startswith("Missing tables: resource, catalog, transient, event, credential, runtime")
        replies = await asyncio.gather(*(one.request("POST", "/api/db/init") for one in clients))
        created = f"Schema 'other' is up to date (migration {newest})."
        again = "Schema 'other' already exists. Run noetlctl db init to reinitialize."
        assert {reply.status for reply in replies} == {200}
        assert all(reply.json["valid"] and reply.json["message"] in (created, again) for reply in replies)
        assert created in [reply.json["message"] for reply in replies]
        assert (await clients[0].request("POST", "/api/db/init")).json == {
            "status": "ok", "message": again, "valid": True,
        }  # fmt: skip
        after = (await clients[0].get("/api/db/validate")).json
        assert (after["valid"], after["message"], after["missing"]) == (True, "Database schema is valid", [])
        assert after["tables"] == sorted(after["tables"])
        await opened.database.execute("DROP TABLE other.schedule, other.keychain CASCADE")
        dropped = (await clients[0].get("/api/db/validate")).json
        assert dropped["message"] == "Missing tables: schedule, keychain"
        for client in clients:
            client.close()


async def test_init_without_the_right_to_create_says_so(make_database: MakeDatabase, serve: Serve) -> None:
    url = await make_database()
    async with client_application(url) as owner:
        await owner.database.execute("CREATE ROLE weak LOGIN")
    async with client_application(url.replace("postgres@", "weak@"), schema="mine") as opened:
        client = await serve(opened.application)
        reply = await client.request("POST", "/api/db/init")
        assert (reply.status, reply.json) == (200, {
            "status": "ok", "message": "Schema 'mine' does not exist. Run noetlctl db init to create it.",
            "valid": False,
        })  # fmt: skip
        client.close()


async def test_schema_routes_serve_while_the_server_waits_for_its_schema(
    make_database: MakeDatabase, serve: Serve
) -> None:
    async with client_application(await make_database()) as opened:
        opened.application.hold()
        client = await serve(opened.application)
        assert (await client.get("/api/db/validate")).json["valid"] is False
        assert (await client.request("POST", "/api/db/init")).json["valid"] is True
        client.close()
