"""Who gets in: every route of a running server without a token, with a wrong one and with the right one.

    NOETL_UPDATE_SECURITY_TABLE=1 python -m pytest tests/integration/test_security.py

writes the table into docs/security.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.conftest import INTERNAL_TOKEN
from tests.integration.http.rawhttp import JSON, RawClient

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN: Final = "<!-- the table is written by tests/integration/security_table.py -->\n"
END: Final = "<!-- end of the table -->\n"

EXPOSED: Final = {
    "/api/internal/wallet": "rotation and state of the keys; no secret",
    "/api/internal/secret-audit": "who read which secret and when",
    "/api/internal/outbox": "notifications that wait, and their end",
    "/api/internal/events/project": "writes events as they come",
    "/api/internal/container-callback": "reports the end of a container",
    "/api/internal": "internal routes",
    "/api/postgres/execute": "everything in the database, to read and write",
    "/api/db/init": "creates what the schema lacks",
    "/api/db/validate": "whether the schema is complete",
    "/api/credentials": "credentials, with their values on demand",
    "/api/keychain": "tokens of executions, with their values",
    "/api/catalog": "playbooks, to read and register",
    "/api/execute": "starts any registered playbook",
    "/api/executions": "executions with inputs, results and errors; cancels and ends them",
    "/api/events": "writes events of any execution",
    "/api/commands": "work orders with their inputs; claims them",
    "/api/result": "results of steps, to read and write",
    "/api/vars": "variables of executions, to read and write",
    "/api/replay": "the state of an execution at any event",
    "/api/worker": "registry of the workers, to read and write",
    "/api/runtime": "which shard an execution is on",
    "/api/dashboard": "numbers of executions",
    "/api/context": "inputs and results of an execution",
    "/api/status": "memory and load of the process",
    "/api/threads": "names of the threads",
    "/api/profiler": "nothing: refuses",
    "/api/pool": "use of the connection pool",
    "/api/health": "whether database and NATS answer",
    "/metrics": "counters, without ids or values",
    "/health": "liveness",
    "/healthz": "liveness",
    "/readyz": "readiness",
    "/docs": "the API document as a page",
    "/openapi.json": "the API document",
}
"""What a route gives to whoever gets in, by the longest prefix of its path; a new one must be told here."""


def exposed(template: str) -> str:
    """What the route gives."""
    fitting = [prefix for prefix in EXPOSED if template == prefix or template.startswith(prefix + "/")]
    assert fitting, f"say in EXPOSED what {template} gives"
    return EXPOSED[max(fitting, key=len)]


async def access(client: RawClient, method: str, template: str) -> tuple[str, str, str]:
    """``refused`` or ``open`` without a token, with a wrong one and with the right one."""
    target = "/".join("1" if segment.startswith("{") else segment for segment in template.split("/"))
    body = "{}" if method in {"POST", "PUT", "PATCH"} else None
    found: list[str] = []
    for token in (None, INTERNAL_TOKEN + "x", INTERNAL_TOKEN):
        headers = [JSON] if token is None else [JSON, ("authorization", f"Bearer {token}")]
        reply = await client.request(method, target, body, headers)
        found.append("refused" if reply.status in {401, 403} else "open")
    return found[0], found[1], found[2]


async def security_table(client: RawClient, routes: Sequence[tuple[str, str]]) -> str:
    """The table as Markdown, by path."""
    lines = ["| Route | No token | Wrong token | Right token | What it gives |", "|---|---|---|---|---|"]
    methods: dict[tuple[str, tuple[str, str, str]], list[str]] = {}
    for method, template in sorted(routes, key=lambda route: (route[1], route[0])):
        methods.setdefault((template, await access(client, method, template)), []).append(method)
    for (template, answers), names in methods.items():
        lines.append(f"| `{' '.join(names)} {template}` | {' | '.join(answers)} | {exposed(template)} |")
    return "\n".join(lines) + "\n"
