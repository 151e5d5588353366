"""Random workflows, and the model that knows which commands each of them must issue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import random

NOOP = {"kind": "noop"}


@dataclass(frozen=True)
class Workflow:
    """A playbook and what it must do: how many commands each step is given, with which arguments, and how it ends."""

    path: str
    text: str
    expected: dict[str, int]
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of some steps, by name."""
    outcome: str = "COMPLETED"
    child: str | None = None
    """Path of the sub-playbook that it starts once."""

    @property
    def commands(self) -> int:
        """Commands of the whole execution."""
        return sum(self.expected.values())


def workflow(
    path: str,
    steps: list[dict[str, Any]],
    expected: dict[str, int],
    arguments: dict[str, dict[str, Any]] | None = None,
    *,
    outcome: str = "COMPLETED",
    child: str | None = None,
) -> Workflow:
    """A workflow of noop steps; ``input`` of a step is what its tool gets."""
    text = yaml.safe_dump(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path.rpartition("/")[2], "path": path},
            "workflow": [
                {"tool": {**NOOP, "input": step["input"]} if "input" in step else NOOP, **_without_input(step)}
                for step in steps
            ],
        },
        sort_keys=False,
    )
    return Workflow(path, text, expected, arguments or {}, outcome, child)


def _without_input(step: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "input"}


def loop(count: int, mode: str = "parallel") -> dict[str, Any]:
    """The ``loop`` member of a step."""
    return {"in": f"{{{{ range({count}) }}}}", "iterator": "i", "spec": {"mode": mode}}


def parallel(path: str, count: int) -> Workflow:
    """A parallel loop between two steps, the second of which is told how many iterations there were."""
    return workflow(
        path,
        [
            {"step": "start", "next": "many"},
            {"step": "many", "loop": loop(count), "input": {"n": "{{ i }}"}, "next": "end"},
            {"step": "end", "input": {"count": "{{ many | length }}"}},
        ],
        {"start": 1, "many": count, "end": 1},
        {"end": {"count": count}},
    )


MIXED = (
    workflow(
        "faults/chain",
        [
            {"step": "start", "next": "a"},
            {"step": "a", "input": {"n": "{{ start.n }}"}, "next": "b"},
            {"step": "b", "input": {"n": "{{ a.n }}"}, "next": "c"},
            {"step": "c", "input": {"n": "{{ b.n }}"}, "next": "end"},
            {"step": "end", "input": {"n": "{{ c.n }}"}},
        ],
        dict.fromkeys(("start", "a", "b", "c", "end"), 1),
        {"end": {"n": 4}},
    ),
    workflow(
        "faults/fan",
        [
            {"step": "start", "next": ["a", "b", "c"]},
            {"step": "a", "input": {"n": 10}, "next": "join"},
            {"step": "b", "input": {"n": 20}, "next": "join"},
            {"step": "c", "input": {"n": 30}, "next": "join"},
            {"step": "join", "input": {"n": "{{ a.n + b.n + c.n }}"}, "next": "end"},
            {"step": "end", "input": {"n": "{{ join.n }}"}},
        ],
        dict.fromkeys(("start", "a", "b", "c", "join", "end"), 1),
        {"join": {"n": 63}, "end": {"n": 64}},
    ),
    parallel("faults/parallel", 20),
    workflow(
        "faults/sequential",
        [
            {"step": "start", "next": "each"},
            {"step": "each", "loop": loop(5, "sequential"), "input": {"n": "{{ i }}"}, "next": "end"},
            {"step": "end", "input": {"count": "{{ each | length }}"}},
        ],
        {"start": 1, "each": 5, "end": 1},
        {"end": {"count": 5}},
    ),
    workflow(
        "faults/repair",
        [
            {"step": "start", "next": "a"},
            {
                "step": "a",
                "input": {"error": True},
                "next": [
                    {"step": "unused", "when": "{{ steps.a.context.result.status == 'success' }}"},
                    {"step": "repair", "when": "{{ steps.a.context.result.status == 'error' }}"},
                ],
            },
            {"step": "repair", "next": "end"},
            {"step": "unused"},
            {"step": "end"},
        ],
        dict.fromkeys(("start", "a", "repair", "end"), 1),
    ),
    workflow(
        "faults/failure",
        [
            {"step": "start", "next": "a"},
            {"step": "a", "input": {"fail": True}, "next": "end"},
            {"step": "end"},
        ],
        dict.fromkeys(("start", "a"), 1),
        outcome="FAILED",
    ),
    workflow(
        "faults/parent",
        [
            {
                "step": "start",
                "tool": {"kind": "playbook", "path": "faults/chain", "return_step": "end"},
                "next": "end",
            },
            {"step": "end"},
        ],
        {"start": 1, "end": 1},
        child="faults/chain",
    ),
)
"""One of each shape."""

LARGE_LOOP = parallel("faults/large", 800)


def random_workflow(chance: random.Random, path: str) -> Workflow:
    """An acyclic workflow of plain steps and loops with arcs that lead on or not.

    Names are drawn in topological order. A step runs if one of the arcs into it leads on; it waits for the steps before
    it, whatever became of them, and is skipped when none of its arcs leads on.
    """
    count = chance.randint(1, 7)
    names = ["start", *(f"s{number}" for number in range(1, count))]
    chance_of_loop = chance.choice((0.0, 0.3))
    steps: list[dict[str, Any]] = []
    arcs: dict[str, list[tuple[str, bool]]] = {name: [] for name in names}
    for place, name in enumerate(names[1:], 1):
        for source in chance.sample(names[:place], min(place, chance.choice((1, 1, 2, 3)))):
            arcs[source].append((name, chance.random() < 0.8))
    expected: dict[str, int] = {}
    running = {"start"}
    for name in names:
        step: dict[str, Any] = {"step": name}
        iterations = 1
        if name != "start" and chance.random() < chance_of_loop:
            iterations = chance.choice((0, 1, 2, 5))
            step["loop"] = loop(iterations, chance.choice(("parallel", "sequential")))
        if arcs[name]:
            step["next"] = {
                "spec": {"mode": "inclusive"},
                "arcs": [
                    {"step": target, **({} if leads and chance.random() < 0.5 else {"when": f"{{{{ {leads} }}}}"})}
                    for target, leads in arcs[name]
                ],
            }
        steps.append(step)
        if name in running:
            if iterations:
                expected[name] = iterations
            running.update(target for target, leads in arcs[name] if leads)
    return workflow(path, steps, expected)
