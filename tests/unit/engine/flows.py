"""Playbooks written in a few characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.playbook.model import Arc, Loop, LoopMode, Next, NextMode, Playbook, Step

if TYPE_CHECKING:
    from collections.abc import Mapping


def arcs(text: str) -> Next:
    """``a, b`` inclusive, ``a ? x > 1 | b`` exclusive; ``?`` starts a condition."""
    is_exclusive = "|" in text
    found: list[Arc] = []
    for part in text.split("|" if is_exclusive else ","):
        target, mark, condition = part.partition("?")
        found.append(Arc(target.strip(), condition.strip() if mark else None))
    return Next(tuple(found), NextMode.EXCLUSIVE if is_exclusive else NextMode.INCLUSIVE)


def flow(
    graph: Mapping[str, str | Next | None],
    *,
    workload: Mapping[str, Any] | None = None,
    when: Mapping[str, str] | None = None,
    loops: Mapping[str, Loop] | None = None,
    tools: Mapping[str, Any] | None = None,
) -> Playbook:
    """A playbook of ``noop`` steps; ``graph`` maps each step to its arcs, targets that are no keys become steps too."""
    nexts = {name: arcs(value) if isinstance(value, str) else value for name, value in graph.items()}
    names = dict.fromkeys([*nexts, *(arc.target for way in nexts.values() if way for arc in way.arcs)])
    steps = tuple(
        Step(
            name,
            "task_sequence" if isinstance((tools or {}).get(name), list) else "noop",
            (tools or {}).get(name, {}),
            when=(when or {}).get(name),
            loop=(loops or {}).get(name),
            next=nexts.get(name),
        )
        for name in names
    )
    return Playbook("flow", "t/flow", dict(workload or {}), steps)


def each(collection: str = "{{ xs }}", iterator: str = "it") -> Loop:
    return Loop(collection, iterator)


def parallel(collection: str = "{{ xs }}", limit: int | None = None, iterator: str = "it") -> Loop:
    return Loop(collection, iterator, LoopMode.PARALLEL, limit)
