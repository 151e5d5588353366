"""Records how a reference server answers about results, variables, forms, SQL, the schema, the system, the dashboard.

Usage: ``python -m tests.golden.record_client_routes http://host:port`` writes
``tests/golden/client_routes/<group>.json``: steps (`tests.golden.recording`) in the order to repeat them. ``{run}``
stands for a number that no other recording has used. The recording leaves catalog entries and results behind.
"""

from __future__ import annotations

import argparse
import base64
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.golden.forms import FORMS, PLAYBOOK
from tests.golden.recording import Names, call, record, write

if TYPE_CHECKING:
    from tests.golden.recording import Step

FOLDER = Path(__file__).parent / "client_routes"


def results() -> list[Step]:
    put = "/api/result/{run}"
    array = (422, "an array is not taken for an object")
    nul = (422, "U+0000 is refused by name")
    stored = [
        '{"name":"step1","data":{"rows":[1,2,3],"columns":["a"]}}',
        '{"name":"a/b c?é","data":null,"scope":"x y","source_step":"s","store":"kv","ttl":null,'
        '"correlation":5,"compress":true}',
        '{"name":"n","data":"p\\u00e4\\"\\\\ \\u001f\\b\\t\\n\\f\\r/\\u007f\\ud83d\\ude00"}',
        '{"name":"n","data":[0.1,1.0,1e16,1e15,150000000000000000000.0,1e-5,1e-7,-0.0,-0,1.5e17,0.00001,5e-324]}',
        '{"name":"n","data":[18446744073709551615,18446744073709551616,-9223372036854775808,-9223372036854775809]}',
        '{"name":"n","data":{"b":{"z":1,"é":2,"a":3},"a":[],"":{},"aa":true,"a":{"x":false}}}',
        '{"name":"n","data": 1}',
        '{"name":"n","data":1.7976931348623157e308}',
        '{"data":{"x":1},"name":"n","scope":"execution","unknown":[{"deep":[]}]}',
    ]  # fmt: skip
    refused = [
        "", "{}", '{"name":"n"}', '{"data":1}', '{"name":5,"data":1}', '{"name":null,"data":1}',
        '{"name":"n","data":1,"scope":null}', '{"name":"n","data":1,"source_step":5}',
        '{"name":"n","data":1,"store":5}',
        '{"name":"n","data":1,"ttl":5}', '{"name":"n","data":1,"compress":null}', '{"name":"n","data":1,"compress":1}',
        '{"name":"n","data":1e400}', '{"name":"n","data":"\\ud800"}', '{"name":"n","data":NaN}', '{"name":"n","data":1',
        '{"name":"n","data":1} x', "null",
    ]  # fmt: skip
    uris = [
        "", "http://x", "noetl:/execution/1/result/a/2", "noetl://", "noetl://a/b/c", "noetl://execution/1/result/2",
        "noetl://workflow/1/result/a/2", "noetl://execution/1/artifact/a/2", "noetl://execution/x/result/a/2",
        "noetl://execution/1/result/a/x", "noetl://execution/1/result//2", "noetl://execution//result/a/2",
        "noetl://execution/1/result/a/", 'noetl://execution/1/result/a"\n\\é\x00\x7f\u200b/x',
        "noetl://execution/+1/result/a/-2", "noetl://execution/ 1/result/a/2",
        "noetl://execution/9223372036854775808/result/a/2", "noetl://execution/1/result/a/b/c/2",
        "noetl://execution/1/result/a/2", "NOETL://execution/1/result/a/2", "noetl://execution/1/result///2",
    ]  # fmt: skip
    return [
        *(call("PUT", put, body) for body in stored),
        *(
            call(
                "GET",
                f"/api/result/resolve?ref={{ref {number}}}",
                deviation=(200, "a number of 309 digits is shown, not a cut connection") if number == 8 else None,
            )
            for number in range(1, len(stored) + 1)
        ),
        *(call("PUT", put, body) for body in refused),
        call("PUT", put, '["n",1]', deviation=array),
        call("PUT", put, '{"name":"n","name":"m","data":1}', deviation=(200, "the last of two members counts")),
        call("PUT", put, '{"name":"","data":1}', deviation=(422, "it could never be resolved")),
        call("PUT", put, '{"name":"n","data":"\\u0000"}', deviation=nul),
        call("PUT", put, '{"name":"n\\u0000","data":1}', deviation=nul),
        call("PUT", put, "{}", content_type="text/plain"),
        call("PUT", put, "{}", content_type=None),
        call("PUT", "/api/result/abc", "{"),
        call("PUT", "/api/result/-5", '{"name":"n","data":1}'),
        call("GET", "/api/result/5"),
        call("PUT", "/api/result/resolve"),
        *(call("GET", f"/api/result/resolve?ref={quote(uri)}") for uri in uris),
        call("GET", "/api/result/resolve"),
        call("GET", "/api/result/resolve?ref=a&ref=b"),
        call("GET", "/api/result/resolve?ref=noetl%3A%2F%2Fexecution%2F{run}%2Fresult%2Fother%2F1"),
    ]


def variables() -> list[Step]:
    base = "/api/vars/{run}"
    worker = (200, "the real worker posts a map from names to values")

    def post(body: Any, deviation: tuple[int, str] | None = None) -> Step:
        return call("POST", base, body, deviation=deviation)

    return [
        call("GET", base),
        post({"variables": [
            {"var_name": "b", "var_value": {"z": 1, "b": 2}, "unknown": 5},
            {"var_name": "a", "var_value": None, "var_type": "step_result", "source_step": "s"},
            {"var_name": "é/x", "var_value": 1.0, "source_step": None},
        ]}),
        call("GET", base),
        call("GET", f"{base}/b"),
        call("GET", f"{base}/b"),
        call("GET", f"{base}/%C3%A9%2Fx"),
        post({"variables": [{"var_name": "b", "var_value": [1], "var_type": "computed", "source_step": "t"}]}),
        call("GET", f"{base}/b"),
        call("HEAD", f"{base}/b"),
        post({"variables": [{"var_name": "d", "var_value": 1}, {"var_name": "d", "var_value": 2}]}),
        call("GET", f"{base}/d"),
        post({"variables": []}),
        post({"variables": [{"var_name": "x", "var_value": 1, "var_type": "bogus"}]}),
        post({"variables": [{"var_name": "x", "var_value": 1, "var_type": ""}]}),
        post({"variables": [{"var_name": "", "var_value": 1}]}, (422, "an empty name could never be read")),
        post({"variables": [{"var_name": "n", "var_value": "\0"}]}, (422, "U+0000 is refused by name")),
        post({"variables": [{"var_name": "n\0", "var_value": 1}]}, (422, "U+0000 is refused by name")),
        post({"worker": 1}, worker),
        post({"variables": {"worker": 1}}, worker),
        *(
            post(body)
            for body in (
                "", "null", "[", "5", '{"variables":null}', '{"variables":5}', '{"variables":[5]}',
                '{"variables":[{"var_value":1}]}', '{"variables":[{"var_name":"n"}]}',
                '{"variables":[{"var_name":5,"var_value":1}]}',
                '{"variables":[{"var_name":"n","var_value":1,"var_type":null}]}',
                '{"variables":[{"var_name":"n","var_value":1,"var_type":5}]}',
                '{"variables":[{"var_name":"n","var_value":1,"source_step":5}]}',
            )
        ),
        post("{}", (200, "an empty map sets nothing")),
        call("GET", f"{base}/nope"),
        call("GET", f"{base}/"),
        call("GET", f"{base}/%ff"),
        call("GET", "/api/vars/abc/x"),
        call("GET", "/api/vars/abc"),
        call("POST", "/api/vars/abc", "{"),
        call("POST", base, "{}", content_type="text/plain"),
        call("DELETE", "/api/vars/abc"),
        call("PUT", base),
        call("POST", f"{base}/b"),
        call("DELETE", f"{base}/nope"),
        call("DELETE", f"{base}/d"),
        call("DELETE", base),
        call("DELETE", base),
        call("GET", base),
    ]  # fmt: skip


def ui_schema() -> list[Step]:
    steps: list[Step] = []
    for name, rest in FORMS.items():
        text = PLAYBOOK.format(name=name) + rest
        steps.append(call("POST", "/api/catalog/register", {"content": text}))
        steps.append(call("GET", f"/api/catalog/golden/forms/{{run}}/{name}/ui_schema"))
    windows = (PLAYBOOK.format(name="windows") + FORMS["directives"]).replace("\n", "\r\n")
    base = "/api/catalog/golden/forms/{run}/kinds/ui_schema"
    return [
        *steps,
        call("POST", "/api/catalog/register", {"content": windows}),
        call("GET", "/api/catalog/golden/forms/{run}/windows/ui_schema"),
        call("GET", "/api/catalog/golden%2Fforms%2F{run}/kinds/ui_schema"),
        *(
            call("GET", f"{base}?version={version}")
            for version in ("1", "latest", "", "%2B1", "2", "-1", "x", "1.0", "40000", "1&version=1")
        ),
        call("GET", f"{base}/"),
        *(
            call("GET", f"/api/catalog/{tail}")
            for tail in (
                "golden/forms/{run}/nope/ui_schema", "ui_schema", "/ui_schema", "foo", "foo/ui_schemas",
                "%ff/ui_schema",
                "foo%2Fui_schema", "a%20b", "", "list", "list/Playbook", "resource",
            )
        ),
        call("POST", "/api/catalog/foo/ui_schema"),
        call("HEAD", base),
    ]  # fmt: skip


def sql() -> list[Step]:
    target = "/api/postgres/execute"
    encoded = base64.b64encode(b"SELECT 1 AS n").decode()

    def run(query: str, deviation: tuple[int, str] | None = None) -> Step:
        return call("POST", target, {"query": query}, deviation=deviation)

    types = (200, "values of every type are shown")
    mistake = (422, "a mistake of the caller is no failure of the server")
    return [
        run("SELECT 1::int4 AS i, 2::int8 AS big, 1.5::float8 AS f, 'NaN'::float8 AS nan, true AS yes"),
        run("SELECT '{\"b\":1,\"a\":[1.50,null]}'::json AS j, '{\"bb\":1,\"a\":{}}'::jsonb AS jb, 'null'::jsonb AS jn"),
        run("SELECT 'a'::text AS t, 'b'::varchar AS v, 'c'::char(3) AS c, 'd'::name AS n, 'é\"\\' AS e"),
        run("SELECT '2026-01-01 00:00:00.5+00'::timestamptz AS a, '2026-01-01 12:34:56.123456+02'::timestamptz AS b"),
        run("SELECT '2026-01-01 00:00:00+00'::timestamptz AS a"),
        run("SELECT NULL::int4 AS i, NULL::text AS t, NULL::jsonb AS j, NULL::timestamptz AS z, NULL::bool AS b"),
        run("SELECT 1 AS zz, 2 AS a, 3 AS a"),
        run("SELECT 1 WHERE false"),
        run("  SELECT 1 AS n  ;  "),
        run("SELECT 1 AS n -- comment"),
        run(""), run("  "),
        run("SET LOCAL work_mem TO '4MB'"),
        run("SELECT 1::int2 AS s, 0.1::float4 AS f, 1.50::numeric AS n, 2::oid AS o, ARRAY[1,2] AS a", types),
        call("POST", target, {"query_base64": encoded}),
        call("POST", target, {"query_base64": encoded, "query": "SELECT 2 AS n"}),
        call("POST", target, {"query_base64": None, "query": "SELECT 2 AS n"}),
        call("POST", target, {"procedure": "SELECT 3 AS n"}),
        call("POST", target, {"query": "SELECT 2 AS n", "procedure": "SELECT 3 AS n"}),
        call("POST", target, {"query_base64": ""}),
        call("POST", target, {"query": "SELECT 1 AS n", "parameters": []}),
        call("POST", target, {"query": "SELECT 1 AS n", "schema": "noetl"}),
        call("POST", target, {"query": "SELECT 1 AS n", "db_schema": "noetl", "unknown": 1}),
        call("POST", target, {"query": "SELECT 1 AS n", "db_schema": None}),
        call("POST", target, {}),
        call("POST", target, {"query": None, "procedure": None}),
        call("POST", target, {"query_base64": "###"}),
        call("POST", target, {"query_base64": "YQ"}),
        call("POST", target, {"query_base64": "/w=="}),
        call("POST", target, {"query": "SELECT 1", "schema": "a", "db_schema": "b"}),
        *(
            call("POST", target, body)
            for body in (
                "", "null", '{"query":5}', '{"query_base64":5}', '{"procedure":5}', '{"schema":5}', '{"parameters":{}}',
                '{"database":5}', '{"connection_string":5}', '{"credential":5}',
            )
        ),
        run("SELEC 1", mistake),
        run("SELECT * FROM nope_{run}", mistake),
        run("SELECT 1/0", mistake),
        run("SELECT 1; SELECT 2", mistake),
        run("SELECT $1::int", mistake),
        call("POST", target, {"query": "SELECT 1", "connection_string": "x"}, deviation=(422, "not supported")),
        call("GET", target),
        call("POST", target, "{}", content_type="text/plain"),
    ]  # fmt: skip


def database() -> list[Step]:
    return [
        call("POST", "/api/db/init"),
        call("POST", "/api/db/init", "{", content_type="text/plain"),
        call("GET", "/api/db/init"),
        call("GET", "/api/db/validate", shape=True),
        call("POST", "/api/db/validate"),
    ]


def system() -> list[Step]:
    paths = ("/api/status", "/api/threads", "/api/profiler/status")
    return [
        *(call("GET", path, shape=True) for path in paths),
        *(
            call("POST", f"/api/profiler/memory/{word}", "{", content_type=None, shape=True)
            for word in ("start", "stop")
        ),
        *(call("POST", path) for path in paths),
        call("GET", "/api/profiler/memory/start"),
        call("GET", "/api/profiler/memory/stop"),
    ]


def dashboard() -> list[Step]:
    return [
        call("GET", "/api/dashboard/stats", shape=True),
        call("GET", "/api/dashboard/widgets", shape=True),
        call("POST", "/api/dashboard/stats"),
        call("POST", "/api/dashboard/widgets"),
    ]


GROUPS = {
    "results": results,
    "variables": variables,
    "ui_schema": ui_schema,
    "sql": sql,
    "database": database,
    "system": system,
    "dashboard": dashboard,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    url = parser.parse_args().url
    run = time.time_ns()
    write(FOLDER, {name: record(url, group(), Names(run=run)) for name, group in GROUPS.items()})


if __name__ == "__main__":
    main()
