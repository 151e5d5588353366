"""Counts the recorded request and answer pairs by route: ``python -m tests.golden.count``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parent
PAIRS = ("client_routes", "http", "internal", "scenarios", "secrets")
ROUTES = [
    "/api/catalog/register", "/api/catalog/list", "/api/catalog/resource", "/api/catalog/{path...}",
    "/api/commands/{event_id}/claim", "/api/commands/{event_id}", "/api/credentials/{name}/sealed",
    "/api/credentials/{name}", "/api/credentials", "/api/dashboard/stats", "/api/dashboard/widgets", "/api/db/init",
    "/api/db/validate", "/api/events/batch", "/api/events", "/api/execute", "/api/executions",
    "/api/executions/{execution_id}/status", "/api/executions/{execution_id}/cancel",
    "/api/executions/{execution_id}/cancellation-check", "/api/executions/{execution_id}/finalize",
    "/api/executions/{execution_id}", "/api/health", "/api/internal/container-callback/{execution_id}/{step}",
    "/api/internal/events/project", "/api/internal/outbox/claim", "/api/internal/outbox/mark-failed",
    "/api/internal/outbox/mark-published", "/api/internal/outbox/pending-count", "/api/keychain/catalog/{catalog_id}",
    "/api/keychain/{catalog_id}/{name}", "/api/pool/status", "/api/postgres/execute", "/api/profiler/memory/start",
    "/api/profiler/memory/stop", "/api/profiler/status", "/api/replay/state", "/api/result/resolve",
    "/api/result/{execution_id}", "/api/runtime/shard-info", "/api/status", "/api/threads", "/api/vars/{execution_id}",
    "/api/vars/{execution_id}/{var_name}", "/api/worker/pool/deregister", "/api/worker/pool/heartbeat",
    "/api/worker/pool/register", "/api/worker/pools", "/health", "/healthz", "/readyz", "/metrics",
]  # fmt: skip
"""Literal segments before parameters: the first that fits is the route."""


def route_of(target: str) -> str:
    """The template of a target, or ``(no route)``."""
    segments = target.partition("?")[0].split("/")
    for template in ROUTES:
        wanted = template.split("/")
        if template.endswith("...}"):
            if segments[: len(wanted) - 1] == wanted[:-1] and len(segments) >= len(wanted):
                return template
        elif len(wanted) == len(segments) and all(
            name == segment or name.startswith("{") for name, segment in zip(wanted, segments, strict=True)
        ):
            return template
    return "(no route)"


def pairs() -> Iterator[tuple[str, bool]]:
    """Route and whether the answer was a success, of every recorded pair."""
    for folder in PAIRS:
        for file in sorted((GOLDEN / folder).glob("*.json")):
            content: Any = json.loads(file.read_text())
            for step in content if isinstance(content, list) else content.get("steps", []):
                if "answer" in step:
                    yield f"{step['method']} {route_of(step['target'])}", 200 <= step["answer"]["status"] < 300
    for file in sorted((GOLDEN / "replay").glob("*.json")):
        for case in json.loads(file.read_text()):
            for answer in case["answers"]:
                yield "GET /api/replay/state", answer["status"] == 200
    for file in sorted((GOLDEN / "playbook").glob("*.json")):
        for case in json.loads(file.read_text()):
            path = "/api/execute" if case["route"] == "execute" else "/api/catalog/register"
            yield f"POST {path}", case["status"] == 200


def main() -> None:
    """Print the counts."""
    successes: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for route, is_success in pairs():
        (successes if is_success else failures)[route] += 1
    print(f"{'route':<66}{'success':>9}{'failure':>9}")
    for route in sorted(successes | failures, key=lambda name: (name.partition(" ")[2], name)):
        print(f"{route:<66}{successes[route]:>9}{failures[route]:>9}")
    print(f"{'all':<66}{successes.total():>9}{failures.total():>9}")


if __name__ == "__main__":
    main()
