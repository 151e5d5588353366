"""Records how a reference server answers malformed, misdirected and refused requests.

Usage: ``python -m tests.golden.record_http http://host:port`` writes ``tests/golden/http/<group>.json``, steps as in
`tests.golden.recording`. No request here changes anything on the server.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tests.golden.recording import JSON, Names, call, record, write

if TYPE_CHECKING:
    from tests.golden.recording import Step

FOLDER = Path(__file__).parent / "http"


def post(target: str, *bodies: str) -> list[Step]:
    return [call("POST", target, body) for body in bodies]


def conventions() -> list[Step]:
    targets = [
        "/", "/nope", "/health/", "//health", "/Health", "/healt%68", "/api/execute/", "/api/commands/",
        "/api/commands", "/api/commands/1/", "/api/commands/1/claim/", "/api/commands/1/other", "/api/events/",
        "/api/worker/pools/", "/api/worker", "/api/runtime/shard-info/", "/api/runtimes", "/api/events/batch/1",
    ]  # fmt: skip
    wrong_methods = [
        ("POST", "/health"), ("PUT", "/api/health"), ("GET", "/api/execute"), ("HEAD", "/api/execute"),
        ("DELETE", "/api/events"), ("GET", "/api/events/batch"), ("POST", "/api/commands/1"),
        ("GET", "/api/commands/1/claim"), ("GET", "/api/worker/pool/register"), ("PUT", "/api/worker/pool/heartbeat"),
        ("POST", "/api/worker/pools"), ("POST", "/api/runtime/shard-info"), ("PATCH", "/api/pool/status"),
        ("POST", "/metrics"), ("OPTIONS", "/api/execute"), ("OPTIONS", "/nope"), ("OPTIONS", "/api/commands/1"),
        ("OPTIONS", "/api/worker/pools"), ("HEAD", "/health"), ("HEAD", "/nope"),
    ]  # fmt: skip
    ids = [
        "abc", "1.5", "%20", "-", "9223372036854775808", "-9223372036854775809", "%D9%A1", "1_0", "5%2F", "%ff", "+-5",
        "%zz", "1%00", "+1", "-1", "007", "%31", "9223372036854775807",
    ]  # fmt: skip
    return [
        *(call("GET", target) for target in targets),
        *(call(method, target) for method, target in wrong_methods),
        *(call("GET", f"/api/commands/{text}") for text in ids),
        *(call("POST", f"/api/commands/{text}/claim", "{") for text in ("abc", "%ff", "", "1")),
    ]


def content_types() -> list[Step]:
    strict = (400, "what is not JSON is told before a wrong shape, also behind and inside what nobody reads")
    hidden = {"{} {}", '{"a":"\\ud800"}', '{"a":1e400}'}
    return [
        call(
            "POST", target, body, content_type=content_type, deviation=strict if body in hidden else None
        )
        for target in ("/api/execute", "/api/events", "/api/commands/1/claim", "/api/worker/pool/register")
        for body, content_type in (
            ("{}", None), ("{}", "text/plain"), ("{}", "application/jsonp"), ("{}", "application/json; charset=utf-8"),
            ("{}", "APPLICATION/JSON"), ("{}", "application/vnd.api+json"), ("{", "text/json"), ("", JSON), ("{", JSON),
            ("nul", JSON), ("{'a':1}", JSON), ('{"a":NaN}', JSON), ('{"a":1,}', JSON), ("\ufeff{}", JSON),
            ('{"a":"\\ud800"}', JSON), ('{"a":1e400}', JSON), ("{} {}", JSON), ('{"a":"\t"}', JSON),
        )
    ]  # fmt: skip


def events() -> list[Step]:
    base = '{"execution_id":5,"step":"a","event_type":"x",%s}'
    unknown = (404, "an execution without events is not found (the reference cannot fill catalog_id: 500)")
    refused = [
        "{}", '{"step":"a","event_type":"x"}', '{"execution_id":5,"event_type":"x"}', '{"execution_id":5,"step":"a"}',
        '{"execution_id":5.0,"step":"a","event_type":"x"}', '{"execution_id":true,"step":"a","event_type":"x"}',
        '{"execution_id":null,"step":"a","event_type":"x"}', '{"execution_id":"","step":"a","event_type":"x"}',
        '{"execution_id":" 5","step":"a","event_type":"x"}', '{"execution_id":"x","step":"a","event_type":"x"}',
        '{"execution_id":9223372036854775808,"step":"a","event_type":"x"}',
        '{"execution_id":5,"step":null,"event_type":"x"}', '{"execution_id":5,"step":"a","event_type":5}',
        base % '"name":"y"', base % '"step":"b"', base % '"payload":{},"context":{}', base % '"event_id":"zz"',
        base % '"event_id":true', base % '"created_at":5', base % '"created_at":"2026-11-23T14:47:12"',
        base % '"created_at":"now"', base % '"created_at":"2026-11-23T14:47:12.Z"', base % '"actionable":null',
        base % '"informative":"yes"', base % '"result_kind":null', base % '"event_ids":["a"]', base % '"worker_id":5',
        base % '"status":5', base % '"result_uri":5', "null", '"a"',
    ]  # fmt: skip
    accepted = [
        base % '"created_at":"2026-11-23t14:47:12z"', base % '"created_at":"2026-11-23 14:47:12+02:00"',
        base % '"created_at":"2026-11-23T14:47:60Z"', base % '"created_at":"2026-11-23T14:47:12 +0200"',
        base % '"meta":null,"created_at":null,"status":null,"event_id":null,"worker_id":null,"payload":null',
        base % '"unknown":1', '{"execution_id":"+5","step":"","name":"x"}',
    ]  # fmt: skip
    batch = [
        "{}", '{"execution_id":5}', '{"execution_id":5,"events":{}}', '{"execution_id":"x","events":[]}',
        '{"execution_id":"x","events":[{"step":"a","event_type":"x"}]}', '{"execution_id":5,"events":[{"step":"a"}]}',
        '{"execution_id":5,"events":[{"event_type":"x"}]}', '{"events":[]}', '{"execution_id":null,"events":[]}',
    ]  # fmt: skip
    return [
        *post("/api/events", *refused),
        *(call("POST", "/api/events", body, deviation=unknown) for body in accepted),
        *post("/api/events/batch", *batch),
    ]


def execute() -> list[Step]:
    lenient = (404, "digit strings, a null payload and a version are understood")
    return [
        *post(
            "/api/execute",
            "{}", '{"path":null}', '{"path":5}', '{"catalog_id":1.0}', '{"catalog_id":9223372036854775808}',
            '{"catalog_id":true}', '{"path":"no/such/path"}', '{"catalog_id":1}', '{"catalog_id":1,"path":"x"}',
            '{"path":"no/such/path","payload":[]}', '{"path":"no/such/path","payload":"{}"}',
            '{"path":"no/such/path","payload":{},"workload":{}}', '{"path":"no/such/path","path":"b"}',
            '{"path":"no/such/path","parent_execution_id":1.5}', "null", '{"path":""}', '{"path":"/no/such/path"}',
        ),
        *(
            call("POST", "/api/execute", body, deviation=lenient)
            for body in (
                '{"catalog_id":"1"}', '{"path":"no/such/path","payload":null}',
                '{"path":"no/such/path","parent_execution_id":"5"}',
            )
        ),
    ]  # fmt: skip


def claims() -> list[Step]:
    return post(
        "/api/commands/1/claim",
        "{}", '{"worker_id":null}', '{"worker_id":5}', '{"worker_id":"a","worker_id":"b"}', '{"worker_id":"a"}', "null",
    )  # fmt: skip


def registry() -> list[Step]:
    return [
        *post(
            "/api/worker/pool/register",
            "{}", '{"name":5}', '{"name":"w","status":null}', '{"name":"w","kind":null}', '{"name":"w","kind":"zz"}',
            '{"name":"w","kind":"broker","component_type":"broker"}', '{"name":"w","capacity":4.0}',
            '{"name":"w","capacity":"4"}', '{"name":"w","capacity":2147483648}', '{"name":"w","hostname":5}',
            '{"name":"w","name":"w"}', '{"name":"w","uri":5}',
        ),
        *post("/api/worker/pool/heartbeat", "{}", '{"name":null}', '{"name":"w","kind":"a","component_type":"b"}'),
        *(
            call("GET", f"/api/runtime/shard-info?{query}")
            for query in (
                "", "execution_id=1", "shard_count=2", "shard_count=x", "execution_id=x&shard_count=-1",
                "execution_id=1&shard_count=4294967296", "execution_id=1&shard_count=", "execution_id=1&shard_count",
                "shard_count=2&execution_id=1&shard_count=2", "execution_id=abc&shard_count=0",
                "execution_id=&shard_count=2", "execution_id=+7&shard_count=2", "execution_id=%2B7&shard_count=%2B2",
                "execution_id=9223372036854775808&shard_count=2", "execution_id=1&shard_count=0",
                "execution_id=a%22b%0a%C3%A9%00%7f%E2%80%8B%27%5C&shard_count=2", "execution_id=1&shard_count=1025",
                "execution_id=1&shard_count=16", "execution_id=-1&shard_count=1024", "execution_id=-0&shard_count=4",
                "EXECUTION_ID=1&shard_count=2", "&&execution_id=1&&shard_count=2&other=1&other=2",
                "execution_id=%ff&shard_count=2",
            )
        ),
    ]  # fmt: skip


GROUPS = {
    "conventions": conventions,
    "content_types": content_types,
    "events": events,
    "execute": execute,
    "claims": claims,
    "registry": registry,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    url = parser.parse_args().url
    write(FOLDER, {name: record(url, group(), Names()) for name, group in GROUPS.items()})


if __name__ == "__main__":
    main()
