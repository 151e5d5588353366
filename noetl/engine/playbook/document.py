"""The playbook document as written: field types only, no rule across fields yet (spec 30, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from noetl.engine.playbook.decoding import DecodeError, Element, Problem, optional
from noetl.engine.playbook.model import Arc, KeychainEntry, Loop, LoopMode
from noetl.engine.playbook.tools import Tool, ToolDefinition, read_definition, read_tool
from noetl.engine.playbook.yaml import MappingNode, ScalarNode, SequenceNode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_RESIDENCIES: Final = ("none", "advisory", "strict")
_LOOP_MODES: Final = ("sequential", "parallel")


@dataclass(slots=True)
class NextDraft:
    """The ``next`` of a step. ``place`` is how error texts call the list of arcs: ``next`` or ``next.arcs``.

    ``mode`` is that of a router; ``is_named`` tells the forms without conditions, which take every arc; ``problem``
    says why this has no transition although one was meant.
    """

    element: Element
    arcs: list[tuple[Element, Arc]] = field(default_factory=lambda: [])
    place: str = "next"
    mode: str | None = None
    is_named: bool = False
    problem: tuple[Element, str] | None = None


@dataclass(slots=True)
class StepDraft:
    """One decoded step; ``elements`` are its fields as written."""

    element: Element
    name: str
    tool: ToolDefinition
    when: str | None = None
    args: dict[str, Any] = field(default_factory=dict[str, Any])
    loop: Loop | None = None
    next_mode: str | None = None
    next: NextDraft | None = None

    def part(self, *names: str) -> Element:
        """The element of a field (``part("loop", "in")``), or the nearest one around it that is written."""
        element = self.element
        for name in names:
            node = element.node.get(name) if isinstance(element.node, MappingNode) else None
            if node is None:
                break
            element = Element(node, f"{element.path}.{name}")
        return element

    def has(self, *names: str) -> bool:
        """Whether the field is written."""
        return self.part(*names).path == ".".join((self.element.path, *names))


@dataclass(slots=True)
class DocumentDraft:
    """What could be decoded. ``step_names`` has the names of undecodable steps too, as far as they are readable."""

    element: Element
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: list[StepDraft] = field(default_factory=lambda: [])
    step_names: list[str] = field(default_factory=lambda: [])


def read_document(element: Element) -> tuple[DocumentDraft, list[Problem]]:
    """Decode a whole document; the problems are in document order."""
    draft = DocumentDraft(element)
    readers: dict[str, Callable[[Element], Any]] = {
        "apiVersion": Element.string,
        "kind": Element.string,
        "metadata": _read_metadata,
        "workload": optional(Element.json),
        "vars": optional(_read_json_mapping),
        "keychain": optional(_read_keychain),
        "workbook": optional(_read_workbook),
        "workflow": lambda workflow: _read_workflow(workflow, draft),
    }
    try:
        required = ("apiVersion", "kind", "metadata", "workflow")
        element.record("Playbook", readers, required=required, into=draft.fields)
    except DecodeError as error:
        return draft, error.problems
    return draft, []


def _read_json_mapping(element: Element) -> dict[str, Any]:
    return element.mapping_of(Element.json)


def _read_string_mapping(element: Element) -> dict[str, str]:
    return element.mapping_of(Element.string)


_TEXT: Final = optional(Element.string)
_STRINGS: Final = optional(_read_string_mapping)


def _read_metadata(element: Element) -> dict[str, Any]:
    readers = {"name": Element.string, "path": _TEXT, "description": _TEXT, "labels": _STRINGS}
    return element.record("Metadata", readers, required=("name",), collect={})


def _read_keychain(element: Element) -> tuple[KeychainEntry, ...]:
    return tuple(element.list_of(_read_keychain_entry))


def _read_keychain_entry(element: Element) -> KeychainEntry:
    extra: dict[str, Any] = {}
    fields = element.record("KeychainDef", _KEYCHAIN_READERS, required=("name",), collect=extra)
    return KeychainEntry(**fields, extra=extra)


_KEYCHAIN_READERS: Final[Mapping[str, Callable[[Element], Any]]] = {
    "name": Element.string,
    "credential": _TEXT,
    "token_type": _TEXT,
    "scope": _TEXT,
    "provider": _TEXT,
    "auth": _TEXT,
    "region": _TEXT,
    "map": _STRINGS,
    "residency": lambda element: element.variant(_RESIDENCIES),
    "allowed_regions": lambda element: tuple(element.list_of(Element.string)),
    "no_broker_fallback": Element.boolean,
    "auto_renew": Element.boolean,
}


def _read_workbook(element: Element) -> dict[str, Tool]:
    """Tools by name; of equal names the last one counts."""
    return dict(element.list_of(_read_workbook_task))


def _read_workbook_task(element: Element) -> tuple[str, Tool]:
    readers = {"name": Element.string, "tool": read_tool, "sink": optional(Element.json)}
    fields = element.record("WorkbookTask", readers, required=("name", "tool"))
    return fields["name"], fields["tool"]


def _read_workflow(element: Element, draft: DocumentDraft) -> None:
    problems: list[Problem] = []
    for item in element.items():
        try:
            step = _read_step(item)
            draft.steps.append(step)
            draft.step_names.append(step.name)
        except DecodeError as error:
            node = item.node.get("step") if isinstance(item.node, MappingNode) else None
            name = node.text if isinstance(node, ScalarNode) else None
            if name is not None:
                draft.step_names.append(name)
            problems += [replace(problem, step=name) for problem in error.problems]
    if problems:
        raise DecodeError(problems)


def _read_step(element: Element) -> StepDraft:
    readers: dict[str, Callable[[Element], Any]] = {
        "step": Element.string,
        "desc": _TEXT,
        "spec": optional(_read_step_spec),
        "when": _TEXT,
        "args": optional(_read_json_mapping),
        "vars": optional(_read_json_mapping),
        "loop": optional(_read_loop),
        "tool": lambda tool: read_definition(tool, element),
        "next": optional(lambda next_: _read_next(next_, element)),
    }
    fields = element.record("Step", readers, required=("step", "tool"))
    spec: dict[str, Any] = fields.get("spec") or {}
    return StepDraft(
        element=element,
        name=fields["step"],
        tool=fields["tool"],
        when=fields.get("when"),
        args=fields.get("args") or {},
        loop=fields.get("loop"),
        next_mode=spec.get("next_mode"),
        next=fields.get("next"),
    )


def _read_step_spec(element: Element) -> dict[str, Any]:
    return element.record("StepSpec", {"next_mode": _TEXT, "timeout": _TEXT, "on_error": _TEXT})


def _read_loop(element: Element) -> Loop:
    readers = {"in": Element.string, "iterator": Element.string, "spec": optional(_read_loop_spec)}
    fields = element.record("Loop", readers, required=("in", "iterator"))
    spec: dict[str, Any] = fields.get("spec") or {}
    mode = LoopMode(spec.get("mode", LoopMode.SEQUENTIAL.value))
    return Loop(fields["in"], fields["iterator"], mode, spec.get("max_in_flight"))


def _read_loop_spec(element: Element) -> dict[str, Any]:
    readers: dict[str, Callable[[Element], Any]] = {
        "mode": lambda mode: mode.variant(_LOOP_MODES),
        "max_in_flight": optional(Element.int32),
    }
    return element.record("LoopSpec", readers)


def _read_next(element: Element, step: Element) -> NextDraft:
    """The four forms of spec 30, section 3.7. A positional list (``[[step, when]]``) is no form."""
    element = element.buffered(step, "NextSpec")
    node = element.node
    if isinstance(node, ScalarNode):
        return NextDraft(element, [(element, Arc(element.string()))], is_named=True)
    if isinstance(node, MappingNode):
        return _read_router(element)
    items = element.items()
    if items and all(isinstance(item.node, ScalarNode) and item.node.is_string for item in items):
        return NextDraft(element, [(item, Arc(item.string())) for item in items], is_named=True)
    try:
        return NextDraft(element, list(zip(items, element.list_of(_read_target), strict=True)))
    except DecodeError as error:
        if len(items) != 1 or isinstance(items[0].node, SequenceNode) or not _is_router_spec(items[0]):
            raise
        return NextDraft(element, problem=(items[0], f"is no valid target ({error.problems[0].message})"))


def _is_router_spec(element: Element) -> bool:
    """Whether the only item of a list decodes as the ``spec`` of a router, which would hide that it is no target."""
    try:
        _read_router_spec(replace(element, ignored=None))
    except DecodeError:
        return False
    return True


def _read_target(element: Element) -> Arc:
    readers = {"step": Element.string, "when": _TEXT, "args": optional(_read_json_mapping)}
    fields = element.record("NextTarget", readers, required=("step",))
    return Arc(fields["step"], fields.get("when"), arguments=fields.get("args"))


def _read_router(element: Element) -> NextDraft:
    readers: dict[str, Callable[[Element], Any]] = {
        "spec": _read_router_spec,
        "arcs": lambda arcs: list(zip(arcs.items(), arcs.list_of(_read_arc), strict=True)),
    }
    fields = element.record("Router", readers)
    spec: dict[str, Any] = fields.get("spec") or {}
    draft = NextDraft(element, fields.get("arcs", []), "next.arcs", spec.get("mode"))
    if "arcs" not in fields and isinstance(element.node, MappingNode) and element.node.entries:
        draft.problem = (element, "is a mapping without 'arcs'")
    return draft


def _read_router_spec(element: Element) -> dict[str, Any] | None:
    return None if element.is_null else element.record("RouterSpec", {"mode": _TEXT})


def _read_arc(element: Element) -> Arc:
    readers = {"step": Element.string, "when": _TEXT, "set": optional(_read_json_mapping)}
    fields = element.record("Arc", readers, required=("step",))
    return Arc(fields["step"], fields.get("when"), assignments=fields.get("set"))
