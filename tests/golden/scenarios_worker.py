"""A playbook played over HTTP as a worker does, the registry of workers, and the probes (spec 20, sections 3 to 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.golden.recording import call
from tests.golden.scenario import look, query, scenario

if TYPE_CHECKING:
    from tests.golden.recording import Deviation, Step
    from tests.golden.scenario import Scenario

PLAYBOOK = """apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: golden, path: "golden/{run}/flow"}
workload: {greeting: hello, kept: 1}
workflow:
  - step: start
    tool: {kind: python, code: "result = 1", args: {who: "{{ who }}"}}
    next: [{step: middle}]
  - step: middle
    tool: {kind: noop}
    next: [{step: end}]
  - step: end
    tool: {kind: noop}
"""
LOOP = """apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: golden, path: "golden/{run}/loop"}
workload: {items: [a, b, c]}
workflow:
  - step: start
    tool: {kind: noop}
    loop: {in: "{{ items }}", iterator: item, spec: {mode: parallel}}
"""
EXECUTIONS = "/api/executions/{execution}"


def find(name: str, condition: str) -> Step:
    return look(name, f"SELECT max(event_id) FROM noetl.event WHERE {condition}")


def issued(name: str, step: str, execution: str = "execution") -> Step:
    condition = f"execution_id = {{{execution}}} AND event_type = 'command.issued' AND node_name = '{step}'"
    return find(name, condition)


def newest_execution(name: str, path: str) -> Step:
    return look(
        name,
        "SELECT max(event.execution_id) FROM noetl.event JOIN noetl.catalog USING (catalog_id)"
        f" WHERE path = 'golden/{{run}}/{path}'",
    )


def told(event_type: str, step: str, deviation: Deviation | None = None, **members: Any) -> Step:
    body = {"execution_id": "{execution}", "step": step, "event_type": event_type, **members}
    return call("POST", "/api/events", body, superset=True, deviation=deviation)


def claim(command: str, worker: str = "golden-1", deviation: Deviation | None = None) -> Step:
    return call("POST", f"/api/commands/{{{command}}}/claim", {"worker_id": worker}, superset=True, deviation=deviation)


def done(command: str, step: str) -> list[Step]:
    """What a worker says of a command that succeeds."""
    identity = {"command_id": f"{{execution}}:{step}:{{{command}}}"}
    result = {"status": "success", "context": {"status": "success", "data": {"n": 1}}}
    return [
        told("command.started", step, payload=identity, worker_id="golden-1", status="STARTED"),
        told("call.done", step, payload={**identity, "call_index": 0, "result": result}, status="COMPLETED"),
        told("command.completed", step, payload={**identity, "status": "success"}, status="success"),
    ]


def read_everywhere(deviation: Deviation | None = None) -> list[Step]:
    return [
        call("GET", f"{EXECUTIONS}{tail}", superset=True, deviation=deviation)
        for tail in ("", "/status", "/cancellation-check")
    ]


def executing() -> list[Step]:
    path = "golden/{run}/flow"
    entry = "SELECT catalog_id FROM noetl.catalog WHERE path = 'golden/{run}/flow'"
    lenient = (200, "digit strings, null payloads and versions are understood")
    bodies: list[dict[str, Any] | str] = [
        {"path": path}, {"path": path, "workload": {"who": "w"}}, {"path": path, "payload": {}},
        '{"catalog_id":{entry}}', '{"catalog_id":{entry},"path":"nope"}', {"path": path, "parent_execution_id": 77},
        {"path": path, "resource_kind": "Playbook", "execution_pool": "x", "trace": {}},
    ]  # fmt: skip
    named = {"path": path, "payload": None}
    return [
        call("POST", "/api/catalog/register", {"content": PLAYBOOK}),
        call("POST", "/api/catalog/register", {"content": LOOP}),
        look("entry", entry),
        *(call("POST", "/api/execute", body, superset=True) for body in bodies),
        call("POST", "/api/execute", named, deviation=lenient),
        call("POST", "/api/execute", '{"catalog_id":"{entry}"}', deviation=lenient),
        call("POST", "/api/execute", {"path": path, "version": "1"}, superset=True),
        call("POST", "/api/execute", {"path": "golden/{run}/loop"}, superset=True),
        call("POST", "/api/execute", {"path": "golden/{run}/loop", "payload": {"items": "text"}}),
        call("POST", "/api/execute", {"path": f"/{path}"}),
        call("POST", "/api/execute", {"path": path.upper()}),
        call("POST", "/api/execute", {"path": path, "payload": {"who": "golden", "greeting": {"a": [1.5, None]}}}),
        newest_execution("execution", "flow"),
    ]


def working() -> list[Step]:
    terminal = (409, "a command that is done is not given out again")
    twice = (200, "a repeated event is no second one")
    other = (409, "another event under a known id is refused")
    fixed = {"execution_id": "{execution}", "step": "start", "event_type": "golden.note", "event_id": 77}
    note = {"event_type": "golden.note", "step": "start"}
    return [
        issued("first", "start"),
        call("GET", "/api/commands/{first}", superset=True),
        claim("first"),
        claim("first"),
        claim("first", "golden-2"),
        claim("first", ""),
        call("POST", "/api/commands/{first}/claim", '{"worker_id":"golden-1","other":1}', superset=True),
        call("GET", "/api/commands/{execution}"),
        call("POST", "/api/commands/{execution}/claim", {"worker_id": "golden-1"}),
        told("call.progress", "start", payload={"password": "p", "n": 1}, meta={"x": 1}),
        told("golden.null", "start", payload=None, meta=None, status=None),
        told("golden.text", "start", payload="text", result_kind="data", actionable=False, informative=True),
        told("golden.list", "start", payload=[1, {"token": "t"}]),
        told("golden.ref", "start", result_kind="ref", result_uri="noetl://execution/1/result/a/2"),
        told("golden.refs", "start", result_kind="refs", event_ids=[1, 2]),
        told("golden.refs", "start", result_kind="golden"),
        told("golden.time", "start", created_at="2026-11-23T14:47:12.123456789+02:00", worker_id="w"),
        call("POST", "/api/events", {"execution_id": "{execution}", "step": "start", "name": "golden.alias",
            "context": {}}, superset=True),
        call("POST", "/api/events", fixed, superset=True),
        call("POST", "/api/events", fixed, deviation=twice),
        call("POST", "/api/events", {**fixed, "payload": {"n": 2}}, deviation=other),
        *read_everywhere(),
        call("POST", "/api/events/batch", {"execution_id": "{execution}", "events": []}, superset=True),
        call("POST", "/api/events/batch", {"execution_id": "{execution}", "events": [note, note]}, superset=True),
        call("POST", "/api/events/batch", {
            "execution_id": "{execution}", "worker_id": "golden-1", "events": [{**note, "payload": {"secret": "s"}}],
        }, superset=True),
        *done("first", "start"),
        claim("first", deviation=terminal),
        claim("first", "golden-2", terminal),
        *read_everywhere(),
        issued("second", "middle"),
        call("GET", "/api/commands/{second}", superset=True),
        claim("second"),
        *done("second", "middle"),
        issued("third", "end"),
        claim("third"),
        *done("third", "end"),
        *read_everywhere(),
        call("POST", f"{EXECUTIONS}/cancel"),
        query(
            "SELECT event_type, node_name, node_type, status, worker_id, result, error FROM noetl.event"
            " WHERE execution_id = {execution} AND event_type NOT LIKE 'golden.%' ORDER BY event_id"
        ),
    ]  # fmt: skip


def failing() -> list[Step]:
    cancelled = (409, "a cancelled execution gives out no command")
    return [
        call("POST", "/api/execute", {"path": "golden/{run}/flow", "payload": {"who": "fails"}}, superset=True),
        newest_execution("execution", "flow"),
        issued("fourth", "start"),
        claim("fourth"),
        *(
            told(kind, "start", payload={"command_id": "{execution}:start:{fourth}", "error": "boom"}, status="FAILED")
            for kind in ("call.error", "command.failed")
        ),
        *read_everywhere(),
        call("POST", f"{EXECUTIONS}/cancel"),
        call("POST", "/api/execute", {"path": "golden/{run}/flow", "payload": {"who": "is cancelled"}}, superset=True),
        newest_execution("execution", "flow"),
        issued("fifth", "start"),
        call("POST", f"{EXECUTIONS}/cancel", superset=True),
        claim("fifth", deviation=cancelled),
        *read_everywhere((200, "there is no claim in the log")),
    ]  # fmt: skip


def worker() -> Scenario:
    return scenario([*executing(), *working(), *failing()])


def pools() -> Scenario:
    register, heartbeat, deregister = (f"/api/worker/pool/{word}" for word in ("register", "heartbeat", "deregister"))
    full = {
        "name": "golden-full", "kind": "worker_pool", "uri": "http://w:1", "status": "ready",
        "labels": {"b": 1, "a": []},
        "capabilities": ["python"], "capacity": 4, "runtime": {"worker_public_key": "k"}, "hostname": "h", "other": 1,
    }  # fmt: skip
    posted = (200, "real workers send POST")
    return scenario(
        [
            call("POST", register, {"name": "golden-bare"}),
            call("POST", register, full),
            call("POST", register, {"name": "golden-full"}),
            call("POST", register, {**full, "capacity": -1, "labels": None}),
            call("POST", register, {"name": "golden-broker", "component_type": "broker", "capacity": 2147483647}),
            call("POST", register, {"name": "golden-api", "kind": "server_api", "status": "golden"}),
            call("POST", register, {"name": "golden é/%_", "runtime": 5}),
            *(
                call("GET", f"/api/worker/pools?{query}")
                for query in (
                    "name=golden", "name=golden-f", "name=GOLDEN", "name=golden%25full", "name=golden_full",
                    "name=golden&status=ready", "name=golden&status=active", "name=golden&status=", "name=",
                    "kind=broker&name=golden", "kind=server_api&name=golden", "kind=nope", "kind=&name=golden",
                    "kind=worker_pool&name=golden%20", "name=golden&name=x", "other=1&name=golden-bare",
                )
            ),
            call("POST", heartbeat, {"name": "golden-full"}),
            call("POST", heartbeat, {"name": "golden-full", "kind": "worker_pool", "other": 1}),
            call("POST", heartbeat, {"name": "golden-broker", "component_type": "broker"}),
            call("POST", heartbeat, {"name": "golden-broker"}),
            call("POST", heartbeat, {"name": "golden-nobody"}),
            call("POST", heartbeat, {"name": "golden-nobody", "kind": "nonsense"}),
            call("DELETE", deregister, {"name": "golden-broker", "kind": "broker"}),
            call("DELETE", deregister, {"name": "golden-broker", "kind": "broker"}),
            call("DELETE", deregister, {"name": "golden-api", "component_type": "server_api"}),
            call("DELETE", deregister, {"name": "golden-full", "kind": "broker"}),
            call("DELETE", deregister),
            call("DELETE", deregister, "{}"),
            call("DELETE", deregister, "{", content_type="text/plain"),
            call("POST", deregister, {"name": "golden-full"}, deviation=posted),
            call("GET", deregister, deviation=(405, "DELETE and POST are allowed")),
            call("GET", "/api/worker/pools?name=golden-full", deviation=(200, "it is gone", [])),
            call("DELETE", register),
        ],
        clean=["DELETE FROM noetl.runtime WHERE name LIKE 'golden%'"],
        prepare=["DELETE FROM noetl.runtime WHERE name LIKE 'golden%'"],
    )  # fmt: skip


def probes() -> Scenario:
    paths = ("/health", "/api/health", "/api/pool/status", "/metrics")
    added = (200, "a probe of the deployment specification")
    return scenario(
        [
            call("GET", "/health"),
            call("GET", "/health?unknown=1"),
            *(call("GET", path, shape=True, superset=True) for path in ("/api/health", "/api/pool/status")),
            *(call("HEAD", path) for path in paths[:3]),
            *(call(method, path) for path in paths for method in ("POST", "DELETE", "OPTIONS")),
            *(call("GET", path, deviation=added) for path in ("/healthz", "/readyz")),
            *(call("GET", f"{path}/") for path in paths),
        ]
    )
