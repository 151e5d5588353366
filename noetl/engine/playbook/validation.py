"""The rules of a decodable playbook, their texts and their order (spec 30, section 4: status 422)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from noetl.engine.playbook.decoding import Element, Problem
from noetl.engine.playbook.tools import Tool, resolve_workbook, rule_problem
from noetl.engine.playbook.yaml import AnyNode, MappingNode, SequenceNode, string_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noetl.engine.playbook.document import DocumentDraft, NextDraft, StepDraft

API_VERSION: Final = "noetl.io/v2"
KIND: Final = "Playbook"
_EVAL_ACTIONS: Final = ("continue", "retry", "break", "jump", "fail")
_VALID_ACTIONS: Final = "[" + ", ".join(f'"{action}"' for action in _EVAL_ACTIONS) + "]"


def is_expression(text: str) -> bool:
    """Whether a condition or collection looks like one: not empty, and any brace in it opens a template."""
    return text != "" and ("{{" in text or "{" not in text)


def case_blocks(root: AnyNode) -> Iterator[Problem]:
    """The steps with a ``case``, looked for before anything is decoded."""
    workflow = root.get("workflow") if isinstance(root, MappingNode) else None
    for index, step in enumerate(workflow.items if isinstance(workflow, SequenceNode) else ()):
        if not isinstance(step, MappingNode) or (case := step.get("case")) is None:
            continue
        path = f"workflow[{index}]"
        name = string_value(step.get("step"))
        text = (
            f"Step '{path if name is None else name}': 'case' blocks are not allowed in canonical format. "
            "Use 'step.when' for enable guards and 'next[].when' for conditional routing. "
            "For pipelines, use 'tool: [- label: {kind: ...}]' directly on the step."
        )
        yield rule_problem(Element(case, f"{path}.case"), name, text)


def resolve_references(draft: DocumentDraft) -> list[Problem]:
    """Put the tools of the workbook in the place of references to them."""
    problems: list[Problem] = []
    workbook: dict[str, Tool] = draft.fields.get("workbook") or {}
    for step in draft.steps:
        step.tool = resolve_workbook(step.tool, workbook, step.name, problems)
    return problems


def broken_rules(draft: DocumentDraft) -> Iterator[Problem]:
    """All problems of the document and its steps, in the order in which they are checked."""
    root, fields = draft.element, draft.fields
    version, kind = fields.get("apiVersion"), fields.get("kind")
    if version is not None and version != API_VERSION:
        text = f"Unsupported API version: {version}. Expected {API_VERSION}"
        yield rule_problem(_field(root, "apiVersion"), None, text)
    if kind is not None and kind != KIND:
        yield rule_problem(_field(root, "kind"), None, f"Invalid kind: {kind}. Expected {KIND}")
    if "workflow" in fields and "start" not in draft.step_names:
        yield rule_problem(_field(root, "workflow"), None, "Workflow must have a step named 'start'")
    seen: set[str] = set()
    for step in draft.steps:
        if step.name in seen:
            yield rule_problem(step.part("step"), step.name, f"Duplicate step name: {step.name}")
        seen.add(step.name)
    names = frozenset(draft.step_names)
    for step in draft.steps:
        yield from _tool_rules(step)
        yield from _loop_rules(step)
        if step.when is not None and not is_expression(step.when):
            yield rule_problem(
                step.part("when"), step.name, f"Step '{step.name}': invalid 'when' expression: {step.when}"
            )
        if step.next is not None:
            yield from _next_rules(step, step.next, names)


def _field(root: Element, name: str) -> Element:
    node = root.node.get(name) if isinstance(root.node, MappingNode) else None
    return Element(node, name) if node is not None else root


def _tool_rules(step: StepDraft) -> Iterator[Problem]:
    if not isinstance(step.tool, Tool):
        if not step.tool:
            text = f"Step '{step.name}': tool pipeline must have at least one task"
            yield rule_problem(step.part("tool"), step.name, text)
        for index, task in enumerate(step.tool):
            if (count := len(task.tools)) != 1:
                text = f"Step '{step.name}': pipeline task[{index}] must have exactly one labeled entry (got {count})"
                yield rule_problem(task.element, step.name, text)
            for label, tool in task.tools:
                yield from _eval_rules(step, tool, f"tool[].{label}.eval")
    else:
        yield from _eval_rules(step, step.tool, "eval")


def _eval_rules(step: StepDraft, tool: Tool, place: str) -> Iterator[Problem]:
    entries: list[dict[str, Any]] = tool.fields.get("eval") or []
    for index, entry in enumerate(entries):
        where = f"Step '{step.name}': {place}[{index}]"
        if entry.get("expr") is not None and not is_expression(entry["expr"]):
            yield rule_problem(tool.element, step.name, f"{where} has invalid expression: {entry['expr']}")
        is_else = "else" in entry
        action = entry["else"]["do"] if is_else else entry["do"]
        if action not in _EVAL_ACTIONS:
            text = f"{where}{' else' if is_else else ''} has invalid action '{action}'. Valid: {_VALID_ACTIONS}"
            yield rule_problem(tool.element, step.name, text)


def _loop_rules(step: StepDraft) -> Iterator[Problem]:
    if step.loop is None:
        return
    if not is_expression(step.loop.collection):
        text = f"Step '{step.name}': loop.in has invalid expression: {step.loop.collection}"
        yield rule_problem(step.part("loop", "in"), step.name, text)
    if not step.loop.iterator:
        text = f"Step '{step.name}': loop.iterator must not be empty"
        yield rule_problem(step.part("loop", "iterator"), step.name, text)


def _next_rules(step: StepDraft, draft: NextDraft, names: frozenset[str]) -> Iterator[Problem]:
    if draft.problem is not None:
        element, reason = draft.problem
        where = element.path.removeprefix(f"{step.element.path}.")
        text = (
            f"Step '{step.name}': {where} {reason}, so the step would have no transition. "
            "Use 'next: [{step: ...}]' or 'next: {arcs: [{step: ...}]}'."
        )
        yield rule_problem(element, step.name, text)
    for element, arc in draft.arcs:
        if arc.target not in names:
            text = f"Step '{step.name}' references unknown step '{arc.target}' in {draft.place}"
            yield rule_problem(element, step.name, text)
        if arc.when is not None and not is_expression(arc.when):
            text = f"Step '{step.name}': {draft.place}[].when has invalid expression: {arc.when}"
            yield rule_problem(element, step.name, text)
