"""Random workflows, and the model that knows which commands each of them must issue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import random

NOOP = {"kind": "noop"}


@dataclass(frozen=True)
class Workflow:
    """A playbook and what it must do: how many commands each step is given."""

    path: str
    text: str
    expected: dict[str, int]

    @property
    def commands(self) -> int:
        """Commands of the whole execution."""
        return sum(self.expected.values())


def workflow(path: str, steps: list[dict[str, Any]], expected: dict[str, int]) -> Workflow:
    """A workflow of noop steps."""
    text = yaml.safe_dump(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path.rpartition("/")[2], "path": path},
            "workflow": [{"tool": NOOP, **step} for step in steps],
        },
        sort_keys=False,
    )
    return Workflow(path, text, expected)


def loop(count: int, mode: str = "parallel") -> dict[str, Any]:
    """The ``loop`` member of a step."""
    return {"in": f"{{{{ range({count}) }}}}", "iterator": "i", "spec": {"mode": mode}}


MIXED = (
    workflow(
        "faults/chain",
        [
            {"step": "start", "next": "a"},
            {"step": "a", "next": "b"},
            {"step": "b", "next": "c"},
            {"step": "c", "next": "end"},
            {"step": "end"},
        ],
        dict.fromkeys(("start", "a", "b", "c", "end"), 1),
    ),
    workflow(
        "faults/fan",
        [
            {"step": "start", "next": ["a", "b", "c"]},
            {"step": "a", "next": "join"},
            {"step": "b", "next": "join"},
            {"step": "c", "next": "join"},
            {"step": "join", "next": "end"},
            {"step": "end"},
        ],
        dict.fromkeys(("start", "a", "b", "c", "join", "end"), 1),
    ),
    workflow(
        "faults/parallel",
        [{"step": "start", "next": "many"}, {"step": "many", "loop": loop(20), "next": "end"}, {"step": "end"}],
        {"start": 1, "many": 20, "end": 1},
    ),
    workflow(
        "faults/sequential",
        [
            {"step": "start", "next": "each"},
            {"step": "each", "loop": loop(5, "sequential"), "next": "end"},
            {"step": "end"},
        ],
        {"start": 1, "each": 5, "end": 1},
    ),
)
"""One of each shape."""


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
