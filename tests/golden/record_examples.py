"""Records the examples of the API document: one story of requests, as a server of ours answers it.

What the story deletes it has made for that, so that the other requests can be repeated.

Usage: ``python tests/golden/record_examples.py http://host:port token`` against an empty database writes
``noetl/http/openapi/examples.json``. The token is NOETL_INTERNAL_API_TOKEN. No worker may run: the story plays one.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from noetl.http.openapi import examples
from noetl.http.openapi.examples import Exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKER: Final = "worker-1"
WORKER_ROW: Final = {
    "name": WORKER,
    "kind": "worker_pool",
    "uri": "http://worker-1:9000",
    "status": "ready",
    "capacity": 4,
    "labels": {"zone": "a"},
    "runtime": {"worker_public_key": base64.b64encode(bytes([9] + [0] * 31)).decode()},
}
CREDENTIAL: Final = {
    "name": "warehouse",
    "type": "postgres",
    "data": {"db_host": "db", "db_password": "not-a-real-one"},
    "meta": {"env": "prod"},
    "tags": ["sql"],
    "description": "Reports",
}
KEYCHAIN_ENTRY: Final = {"data": {"access_token": "not-a-real-one"}, "scope_type": "global", "expires_in": 3600}
OLD_EXECUTION: Final = 320816801799737344
PATH: Final = "examples/weather"
PLAYBOOK: Final = f"""\
apiVersion: noetl.io/v2
kind: Playbook
metadata:
  name: weather
  path: {PATH}
  description: Fetches a **forecast**
  exposed_in_ui: true
workload:
  city: Oslo   # ui:enum=[Oslo, Bergen]
  days: 3
workflow:
  - step: start
    tool:
      kind: python
      code: "result = {{'degrees': 21}}"
    next:
      arcs:
        - step: report
  - step: report
    tool: {{kind: noop}}
"""


class Story:
    """Sends requests to a server and keeps the exchanges."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._address = (parts.hostname, parts.port or 80)
        self._headers = {"Authorization": f"Bearer {token}"}
        self.exchanges: list[Exchange] = []

    def tell(
        self,
        title: str,
        method: str,
        path: str,
        body: Any = msgspec.UNSET,
        *,
        within: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        status: int = 200,
    ) -> Any:
        """Send a request and keep it; ``within`` are the parameters of the path. The answer has to have ``status``."""
        exchange = self.ask(title, method, path, body, within or {}, query or {})
        assert exchange.status == status, exchange
        self.exchanges.append(exchange)
        return exchange.answer

    def ask(
        self, title: str, method: str, path: str, body: Any, within: dict[str, Any], query: dict[str, Any]
    ) -> Exchange:
        """Send a request."""
        target = path.format(**{name: quote(str(value), safe="") for name, value in within.items()})
        if query:
            texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in query.items()}
            target += f"?{urlencode(texts)}"
        headers = dict(self._headers)
        data = None
        if body is not msgspec.UNSET:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        connection.request(method, target, data, headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        is_json = response.headers["content-type"] == "application/json"
        return Exchange(
            title=title,
            method=method,
            path=path,
            parameters={**within, **query},
            body=body,
            status=response.status,
            answer=json.loads(text) if is_json else text.decode(),
        )


def play(url: str, token: str) -> list[Exchange]:
    """The whole story."""
    story = Story(url, token)
    catalog_id = play_catalog(story)
    execution_id = play_execution(story, catalog_id)
    play_data(story, execution_id)
    play_secrets(story, execution_id, catalog_id)
    play_internal(story, execution_id)
    play_system(story)
    return story.exchanges


def play_catalog(story: Story) -> str:
    tell = story.tell
    registered = tell("Plain text", "POST", "/api/catalog/register", {"content": PLAYBOOK, "resource_type": "Playbook"})
    encoded = base64.b64encode(PLAYBOOK.encode()).decode()
    tell("Base64", "POST", "/api/catalog/register", {"content": encoded})
    tell(
        "A draft",
        "POST",
        "/api/catalog/validate",
        {"content": "kind: Playbook\nmetadata: {name: draft}\nworkflow: []\n"},
    )
    tell("Newest playbooks without their texts", "POST", "/api/catalog/list", {
        "resource_type": "Playbook", "latest_only": True, "include_content": False,
    })  # fmt: skip
    tell("By path", "POST", "/api/catalog/resource", {"path": PATH, "version": "latest"})
    tell("Form", "GET", "/api/catalog/{path}/ui_schema", within={"path": PATH})
    return registered["catalog_id"]


def play_execution(story: Story, catalog_id: str) -> int:
    """One execution to its end, one that is cancelled, one that is finalized."""
    tell = story.tell
    tell("Worker", "POST", "/api/worker/pool/register", WORKER_ROW)
    tell("Worker", "POST", "/api/worker/pool/heartbeat", {"name": WORKER})
    tell("Workers", "GET", "/api/worker/pools")
    started = tell("By path", "POST", "/api/execute", {"path": PATH, "payload": {"city": "Bergen"}})
    tell("By catalog id", "POST", "/api/execute", {"catalog_id": catalog_id})
    execution_id = int(started["execution_id"])
    within = {"execution_id": execution_id}
    issued = _issued(story, execution_id)
    tell("Command", "GET", "/api/commands/{event_id}", within={"event_id": issued})
    order = tell("Claim", "POST", "/api/commands/{event_id}/claim", {"worker_id": WORKER}, within={"event_id": issued})
    command = {"command_id": order["meta"]["command_id"]}
    tell("Running", "GET", "/api/executions/{execution_id}/status", within=within)
    events = [
        ("command.started", "STARTED", command),
        ("call.done", "COMPLETED", {**command, "result": {"status": "success", "context": {"degrees": 21}}}),
        ("command.completed", "COMPLETED", {**command, "status": "success"}),
    ]
    for event_type, status, context in events:
        tell(event_type, "POST", "/api/events", {
            "execution_id": str(execution_id), "event_type": event_type, "step": order["node_name"], "status": status,
            "context": context, "worker_id": WORKER, "meta": command,
        })  # fmt: skip
    issued = _issued(story, execution_id)
    order = tell("Second step", "POST", "/api/commands/{event_id}/claim", {"worker_id": WORKER},
                 within={"event_id": issued})  # fmt: skip
    command = {"command_id": order["meta"]["command_id"]}
    tell("Start and end of a command", "POST", "/api/events/batch", {
        "execution_id": str(execution_id), "worker_id": WORKER, "events": [
            {"step": order["node_name"], "event_type": event_type, "context": command, "meta": command,
             "actionable": event_type == "command.completed"}
            for event_type in ("command.started", "call.done", "command.completed")
        ],
    })  # fmt: skip
    tell("Ended", "GET", "/api/executions/{execution_id}/status", within=within)
    tell("A page of its events", "GET", "/api/executions/{execution_id}", within=within,
         query={"page": 1, "page_size": 3})  # fmt: skip
    tell("Cancelled or not", "GET", "/api/executions/{execution_id}/cancellation-check", within=within)
    tell("State", "GET", "/api/replay/state", query={"execution_id": execution_id})
    for title, path, body in (
        ("With a reason", "/api/executions/{execution_id}/cancel", {"reason": "no longer needed", "cascade": True}),
        ("Failed", "/api/executions/{execution_id}/finalize", {"status": "FAILED", "error": "upstream is gone"}),
    ):
        other = story.ask("", "POST", "/api/execute", {"path": PATH}, {}, {}).answer
        tell(title, "POST", path, body, within={"execution_id": int(other["execution_id"])})
    tell("Newest", "GET", "/api/executions", query={"limit": 2, "status": "COMPLETED", "path": "weather"})
    tell("Shard", "GET", "/api/runtime/shard-info", query={"execution_id": execution_id, "shard_count": 16})
    return execution_id


def _issued(story: Story, execution_id: int) -> int:
    """The newest command of an execution."""
    path, query = "/api/executions/{execution_id}", {"event_type": "command.issued", "page_size": 1}
    return story.ask("", "GET", path, msgspec.UNSET, {"execution_id": execution_id}, query).answer["events"][0][
        "event_id"
    ]


def play_data(story: Story, execution_id: int) -> None:
    tell, within = story.tell, {"execution_id": execution_id}
    stored = tell("Table", "PUT", "/api/result/{execution_id}", {
        "name": "report", "data": {"columns": ["a"], "rows": [1, 2, 3]}, "source_step": "report",
    }, within=within)  # fmt: skip
    tell("Table", "GET", "/api/result/resolve", query={"ref": stored["ref"]})
    tell("List", "POST", "/api/vars/{execution_id}", {"variables": [
        {"var_name": "limits", "var_value": {"max": 5}},
        {"var_name": "cursor", "var_value": 17, "var_type": "iterator_state", "source_step": "start"},
    ]}, within=within)  # fmt: skip
    tell("Map", "POST", "/api/vars/{execution_id}", {"seen": ["a", "b"]}, within=within)
    tell("All", "GET", "/api/vars/{execution_id}", within=within)
    tell("One", "GET", "/api/vars/{execution_id}/{var_name}", within={**within, "var_name": "limits"})
    tell("One", "DELETE", "/api/vars/{execution_id}/{var_name}", within={**within, "var_name": "seen"})
    story.ask("", "POST", f"/api/vars/{OLD_EXECUTION}", {"limits": 1, "cursor": 2}, {}, {})
    tell("All", "DELETE", "/api/vars/{execution_id}", within={"execution_id": OLD_EXECUTION})


def play_secrets(story: Story, execution_id: int, catalog_id: str) -> None:
    tell = story.tell
    tell("PostgreSQL", "POST", "/api/credentials", CREDENTIAL)
    tell("By type", "GET", "/api/credentials", query={"type": "postgres"})
    credential = {"identifier": "warehouse"}
    tell("With its value", "GET", "/api/credentials/{identifier}", within=credential, query={"include_data": True})
    sealed = {"worker_id": WORKER, "execution_id": execution_id}
    tell("Sealed", "GET", "/api/credentials/{identifier}/sealed", within=credential, query=sealed)
    story.ask("", "POST", "/api/credentials", {**CREDENTIAL, "name": "warehouse-old"}, {}, {})
    tell("By name", "DELETE", "/api/credentials/{identifier}", within={"identifier": "warehouse-old"})
    entry = {"catalog_id": int(catalog_id), "keychain_name": "token"}
    tell("For an hour", "POST", "/api/keychain/{catalog_id}/{keychain_name}", KEYCHAIN_ENTRY, within=entry)
    tell("Found", "GET", "/api/keychain/{catalog_id}/{keychain_name}", within=entry)
    tell("Not found", "GET", "/api/keychain/{catalog_id}/{keychain_name}", within={**entry, "keychain_name": "nope"})
    tell("All", "GET", "/api/keychain/catalog/{catalog_id}", within={"catalog_id": int(catalog_id)})
    old = {**entry, "keychain_name": "token-old"}
    story.ask("", "POST", "/api/keychain/{catalog_id}/{keychain_name}", KEYCHAIN_ENTRY, old, {})
    tell("Deleted", "DELETE", "/api/keychain/{catalog_id}/{keychain_name}", within=old)
    tell(
        "Sealed",
        "POST",
        "/api/internal/cross-region/resolve",
        {
            "alias": "warehouse",
            "worker_public_key_b64": WORKER_ROW["runtime"]["worker_public_key"],
            "worker_id": WORKER,
            "expected_entry_region": "",
            "requesting_region": "eu-central-1",
        },
    )
    tell("All", "POST", "/api/internal/wallet/rotate-kek", {"batch_size": 100})
    tell("Versions", "GET", "/api/internal/wallet/key-status")


def play_internal(story: Story, execution_id: int) -> None:
    tell = story.tell
    statement = (
        "INSERT INTO noetl.outbox (outbox_id, event_id, execution_id, subject, payload)"
        " VALUES (9100000001, 11, $1, 'noetl.events.x', '{\"a\": 1}')"
    )
    story.ask("", "POST", "/api/postgres/execute", {"query": statement, "parameters": [execution_id]}, {}, {})
    tell("With a parameter", "POST", "/api/postgres/execute", {
        "query": "SELECT subject, attempts, payload FROM noetl.outbox WHERE execution_id = $1",
        "parameters": [execution_id],
    })  # fmt: skip
    tell("Waiting", "GET", "/api/internal/outbox/pending-count")
    tell("Up to ten", "POST", "/api/internal/outbox/claim", {"limit": 10})
    tell("Broker away", "POST", "/api/internal/outbox/mark-failed", {
        "outbox_id": 9100000001, "error": "broker away", "attempts": 1,
    })  # fmt: skip
    tell("Sent", "POST", "/api/internal/outbox/mark-published", {"outbox_ids": [9100000001]})
    tell("One event", "POST", "/api/internal/events/project", {"events": [{
        "event_id": 11, "execution_id": execution_id, "event_type": "metric.sampled", "node_name": "report",
        "status": "COMPLETED", "timestamp": "2026-01-02T03:04:05.678Z",
        "result": {"status": "success", "context": {"rows": 3}},
    }]})  # fmt: skip
    tell("Succeeded", "POST", "/api/internal/container-callback/{execution_id}/{step}", {
        "state": "succeeded", "job_name": "report-7", "completed_at": "2026-01-02T03:04:06Z", "exit_code": 0,
    }, within={"execution_id": execution_id, "step": "report"}, status=202)  # fmt: skip
    tell("Newest", "GET", "/api/internal/secret-audit", query={"credential": "warehouse", "limit": 2})


def play_system(story: Story) -> None:
    tell = story.tell
    for method, path, title in (
        ("POST", "/api/db/init", "Current"),
        ("GET", "/api/db/validate", "Valid"),
        ("GET", "/api/dashboard/stats", "Numbers"),
        ("GET", "/api/dashboard/widgets", "Widgets"),
        ("GET", "/health", "Alive"),
        ("GET", "/healthz", "Alive"),
        ("GET", "/api/health", "Healthy"),
        ("GET", "/readyz", "Ready"),
        ("GET", "/api/pool/status", "Idle"),
        ("GET", "/api/status", "Usage"),
        ("GET", "/api/threads", "Threads"),
        ("GET", "/api/profiler/status", "None"),
        ("POST", "/api/profiler/memory/start", "None"),
        ("POST", "/api/profiler/memory/stop", "None"),
    ):
        tell(title, method, path)
    for method in ("POST", "DELETE"):
        story.ask("", "POST", "/api/worker/pool/register", {"name": "worker-old"}, {}, {})
        tell("Worker", method, "/api/worker/pool/deregister", {"name": "worker-old", "kind": "worker_pool"})


def written(exchanges: Sequence[Exchange]) -> str:
    """The file's text: one exchange a line."""
    lines = ",\n".join(msgspec.json.encode(exchange).decode() for exchange in exchanges)
    return f"[\n{lines}\n]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("token")
    arguments = parser.parse_args()
    from pathlib import Path

    file = Path(examples.__file__).with_name(examples.FILE)
    file.write_text(written(play(arguments.url, arguments.token)))


if __name__ == "__main__":
    main()
