"""What is legal in a playbook and hardly meant: ignored fields, steps out of reach, templates that cannot be parsed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from noetl.engine.conditions import condition_template
from noetl.engine.playbook.decoding import Element, Remark
from noetl.engine.playbook.model import LoopMode, NextMode
from noetl.engine.playbook.yaml import MappingNode, ScalarNode, SequenceNode
from noetl.engine.template import is_template, syntax_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noetl.engine.playbook.document import DocumentDraft, StepDraft

START: Final = "start"
_STEP_PATH: Final = re.compile(r"workflow\[(\d+)\]")
_WITHOUT_EFFECT: Final = (("vars",), ("spec", "timeout"), ("spec", "on_error"))
"""Fields of a step that the language knows and the engine does not use (spec 30, section 3.5)."""
TEMPLATE_BUDGET: Final = 250_000
"""Characters of templates that are parsed for one document, which takes about a second."""
_MODES: Final = frozenset(mode.value for mode in NextMode)


class _Templates:
    """Parses the texts that the engine renders, each of them once, as far as the budget goes."""

    def __init__(self) -> None:
        self._left = TEMPLATE_BUDGET
        self._texts: set[str] = set()
        self._nodes: set[int] = set()

    def of_condition(self, element: Element, text: str) -> Iterator[Remark]:
        """A ``when`` that cannot be evaluated."""
        yield from self._check(element, condition_template(text), "the condition cannot be evaluated")

    def below(self, element: Element) -> Iterator[Remark]:
        """The texts in an element that cannot be rendered."""
        node = element.node
        if id(node) in self._nodes:
            return
        self._nodes.add(id(node))
        match node:
            case ScalarNode(value=str() as text) if is_template(text):
                yield from self._check(element, text, "the template cannot be rendered")
            case SequenceNode():
                for index, item in enumerate(node.items):
                    yield from self.below(Element(item, f"{element.path}[{index}]"))
            case MappingNode():
                for key, value in node.entries:
                    path = f"{element.path}.{key.text if isinstance(key, ScalarNode) else '?'}"
                    yield from self.below(Element(key, path))
                    yield from self.below(Element(value, path))
            case _:
                pass

    def _check(self, element: Element, text: str, what: str) -> Iterator[Remark]:
        if text in self._texts or self._left < 0:
            return
        self._texts.add(text)
        self._left -= len(text) + 100  # even the shortest one takes some time
        if self._left < 0:
            yield _remark(
                element, "the document has so many templates that this one and those behind it are not checked"
            )
        elif (error := syntax_error(text)) is not None:
            yield _remark(element, f"{what}: {error}")


def advice(draft: DocumentDraft, ignored: list[Remark], *, is_valid: bool) -> list[Remark]:
    """The remarks about a playbook in the order of its lines.

    Args:
        draft: what could be decoded.
        ignored: the keys that decoding passed over.
        is_valid: whether nothing is wrong; only then is known where its arcs lead.
    """
    remarks = [*ignored, *_document(draft)]
    templates = _Templates()
    for step in draft.steps:
        remarks += _step(step, templates)
    if is_valid:
        remarks += _out_of_reach(draft)
    named = (replace(remark, step=_step_at(draft, remark.field)) for remark in remarks)
    return sorted(named, key=lambda remark: (remark.line, remark.column))


def _document(draft: DocumentDraft) -> Iterator[Remark]:
    root = draft.element
    if not isinstance(root.node, MappingNode):
        return
    workload, variables = root.node.get("workload"), root.node.get("vars")
    if workload is not None and not isinstance(workload, MappingNode) and "workload" in draft.fields:
        element = Element(workload, "workload")
        if not element.is_null:
            yield _remark(element, "a workload that is no mapping is ignored")
    if variables is not None:
        yield _remark(Element(variables, "vars"), "`vars` has no effect")


def _step(step: StepDraft, templates: _Templates) -> Iterator[Remark]:
    for names in _WITHOUT_EFFECT:
        if step.has(*names):
            yield _remark(step.part(*names), f"`{'.'.join(names)}` has no effect")
    if step.when is not None:
        if step.name == START:
            yield _remark(step.part("when"), "`when` of the start step is never looked at")
        yield from templates.of_condition(step.part("when"), step.when)
    if step.has("tool"):
        yield from templates.below(step.part("tool"))
    if step.loop is not None:
        yield from templates.below(step.part("loop", "in"))
        if step.loop.mode is LoopMode.SEQUENTIAL and step.loop.max_in_flight is not None:
            yield _remark(step.part("loop", "spec", "max_in_flight"), "`max_in_flight` needs `mode: parallel`")
    yield from _next(step, templates)


def _next(step: StepDraft, templates: _Templates) -> Iterator[Remark]:
    if step.next is None:
        return
    own, of_step = step.next.mode, step.next_mode
    mode = of_step if own is None else own
    if mode is not None and mode.lower() not in _MODES:
        place = step.part("spec", "next_mode") if own is None else step.part("next", "spec", "mode")
        yield _remark(place, f"mode `{mode}` is unknown and counts as `exclusive`")
    is_exclusive = not step.next.is_named and (mode or "").lower() != NextMode.INCLUSIVE.value
    taken: str | None = None
    for element, arc in step.next.arcs:
        if arc.when is not None:
            yield from templates.of_condition(element, arc.when)
        if arc.assignments is not None and isinstance(element.node, MappingNode):
            values = element.node.get("set")
            if values is not None:
                yield from templates.below(Element(values, f"{element.path}.set"))
        if is_exclusive and taken is not None:
            yield _remark(element, f"the arc to '{arc.target}' is never taken: the one to '{taken}' always is")
        elif arc.when is None:
            taken = arc.target


def _out_of_reach(draft: DocumentDraft) -> Iterator[Remark]:
    targets = {step.name: [arc.target for _, arc in step.next.arcs] if step.next else [] for step in draft.steps}
    reached, waiting = {START}, [START]
    while waiting:
        for target in targets[waiting.pop()]:
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    for step in draft.steps:
        if step.name not in reached:
            yield _remark(step.element, f"no way leads from 'start' to step '{step.name}'")


def _remark(element: Element, message: str) -> Remark:
    return Remark(None, element.path, message, element.node.line, element.node.column)


def _step_at(draft: DocumentDraft, field: str) -> str | None:
    """Name of the step that a path leads into."""
    found = _STEP_PATH.match(field)
    workflow = draft.element.node.get("workflow") if isinstance(draft.element.node, MappingNode) else None
    if found is None or not isinstance(workflow, SequenceNode):
        return None
    step = workflow.items[int(found[1])]
    name = step.get("step") if isinstance(step, MappingNode) else None
    return name.text if isinstance(name, ScalarNode) else None
