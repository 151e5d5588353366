"""The playbooks that the scenarios run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from benchmarks.load.servers import Target


def playbook(path: str, steps: list[dict[str, Any]]) -> str:
    """A playbook as JSON, which is YAML."""
    return orjson.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path, "path": path},
            "workload": {"n": 0},
            "workflow": steps,
        }
    ).decode()


def chain(length: int) -> list[dict[str, Any]]:
    """So many noop steps in a row."""
    names = ["start", *(f"s{number}" for number in range(1, length - 1)), "end"]
    return [
        {"step": name, "tool": {"kind": "noop"}, **({"next": [{"step": following}]} if following else {})}
        for name, following in zip(names, [*names[1:], None], strict=True)
    ]


LOOP: Final = [
    {"step": "start", "tool": {"kind": "noop"}, "next": [{"step": "many"}]},
    {
        "step": "many",
        "tool": {"kind": "noop"},
        "loop": {"in": "{{ n }}", "iterator": "item", "spec": {"mode": "parallel"}},
        "next": [{"step": "end"}],
    },
    {"step": "end", "tool": {"kind": "noop"}},
]


async def register(target: Target, path: str, steps: list[dict[str, Any]]) -> None:
    """Put a playbook into the catalog."""
    connection = target.connect()
    answer = await connection.call("POST", "/api/catalog/register", {"content": playbook(path, steps)})
    connection.close()
    if answer.status not in (200, 201):
        raise RuntimeError(f"{target.name}: cannot register {path}: {answer.status} {answer.body[:300]!r}")


async def execute(target: Target, path: str, payload: dict[str, Any] | None = None) -> str:
    """Start a registered playbook; returns the execution id."""
    connection = target.connect()
    answer = await connection.call("POST", "/api/execute", {"path": path, "payload": payload or {}})
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{target.name}: cannot execute {path}: {answer.status} {answer.body[:300]!r}")
    return str(answer.json["execution_id"])
