"""The ``tool`` of a step, single or pipeline, and its unrendered command config (spec 30: 3.6, 3.8, 8.1, 8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from noetl.engine.playbook.decoding import Element, Problem, optional
from noetl.engine.playbook.yaml import MappingNode, ScalarNode, SequenceNode

if TYPE_CHECKING:
    from collections.abc import Callable

TOOL_KINDS: Final = (
    "http",
    "postgres",
    "duckdb",
    "ducklake",
    "python",
    "workbook",
    "playbook",
    "playbooks",
    "secrets",
    "iterator",
    "container",
    "script",
    "snowflake",
    "transfer",
    "snowflake_transfer",
    "gcs",
    "gateway",
    "nats",
    "shell",
    "artifact",
    "noop",
    "task_sequence",
    "rhai",
)
"""Every ``kind`` that a playbook may name, whether or not a worker can run it."""

WORKBOOK_KIND: Final = "workbook"


@dataclass(slots=True)
class Tool:
    """One tool: ``fields`` are the known fields that are not null, ``extra`` the other keys as written."""

    element: Element
    kind: str = ""
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def label(self) -> str:
        """Label of a flat pipeline task."""
        name = self.extra.get("name")
        return name if isinstance(name, str) else ""

    def config(self) -> dict[str, Any]:
        """The config without the kind (spec 30, section 8.1); ``input`` is called ``args``."""
        return {**self.extra, **self.fields}


@dataclass(slots=True)
class Task:
    """One entry of a pipeline; exactly one tool if it is valid."""

    element: Element
    tools: list[tuple[str, Tool]]


ToolDefinition: TypeAlias = Tool | list[Task]


def read_definition(element: Element, step: Element) -> ToolDefinition:
    """The ``tool`` of ``step``: a mapping is a single tool, a list a pipeline."""
    element = element.buffered(step, "ToolDefinition")
    if isinstance(element.node, SequenceNode):
        return element.list_of(_read_task)
    return read_tool(element)


def read_tool(element: Element) -> Tool:
    """One tool. Raises DecodeError: no or unknown ``kind``, a field of the wrong type, both ``args`` and ``input``."""
    tool = Tool(element)
    fields = element.record(
        "ToolSpec", _TOOL_READERS, required=("kind",), aliases={"input": "args"}, collect=tool.extra
    )
    tool.kind = fields.pop("kind")
    tool.fields = {name: value for name, value in fields.items() if value is not None}
    return tool


def config_of(definition: ToolDefinition) -> dict[str, Any] | list[Any]:
    """The unrendered ``tool_config``: spec 30 section 8.1 for a single tool, 8.2 (a list) for a pipeline."""
    if isinstance(definition, Tool):
        return definition.config()
    return [{label: {"kind": tool.kind, **tool.config()}} for task in definition for label, tool in task.tools]


def resolve_workbook(
    definition: ToolDefinition, workbook: Mapping[str, Tool], step: str, problems: list[Problem]
) -> ToolDefinition:
    """Replace references to ``workbook`` by the tools they name (spec 30, section 3.8), also inside pipelines.

    Of the reference only its arguments survive: over those of the entry key by key if both are mappings, else instead
    of them. A reference in a flat task keeps its label. What cannot be resolved is added to ``problems`` and stays.
    """
    if isinstance(definition, Tool):
        return _resolve(definition, workbook, step, problems)
    return [
        Task(task.element, [(label, _resolve(tool, workbook, step, problems)) for label, tool in task.tools])
        for task in definition
    ]


def _resolve(tool: Tool, workbook: Mapping[str, Tool], step: str, problems: list[Problem]) -> Tool:
    if tool.kind != WORKBOOK_KIND:
        return tool
    name = tool.extra.get("name")
    if not isinstance(name, str):
        text = f"Step '{step}': tool.kind=workbook requires a 'name' field referencing a workbook action"
        problems.append(rule_problem(tool.element, step, text))
        return tool
    if (entry := workbook.get(name)) is None:
        available = ", ".join(workbook)
        text = f"Step '{step}': workbook action '{name}' not found in playbook.workbook[] (available: [{available}])"
        problems.append(rule_problem(tool.element, step, text))
        return tool
    own, base = tool.fields.get("args"), entry.fields.get("args")
    fields = dict(entry.fields)
    if isinstance(own, Mapping) and isinstance(base, Mapping):
        fields["args"] = {**base, **own}
    elif own is not None:
        fields["args"] = own
    return Tool(tool.element, entry.kind, fields, entry.extra)


def rule_problem(element: Element, step: str | None, message: str) -> Problem:
    """A broken rule (422) at ``element``."""
    return Problem(step, element.path, message, element.node.line, element.node.column, 422, message)


def _read_task(element: Element) -> Task:
    node = element.node
    kind = node.get("kind") if isinstance(node, MappingNode) else None
    if isinstance(kind, ScalarNode):
        tool = read_tool(element)
        return Task(element, [(tool.label, tool)])
    return Task(element, list(element.mapping_of(read_tool).items()))


def _read_eval(element: Element) -> list[dict[str, Any]]:
    def read(item: Element) -> dict[str, Any]:
        return _read_eval_entry(item if item.strict else item.buffered(element, "EvalEntry"))

    return element.list_of(read)


def _read_eval_entry(element: Element) -> dict[str, Any]:
    """An entry with every optional field present (null if not written), the way it is passed on to the worker."""
    node = element.node
    if isinstance(node, MappingNode) and node.get("do") is None and node.get("else") is not None:
        fields = element.record("EvalElse", {"else": _read_eval_else}, required=("else",))
        return {"else": fields["else"]}
    return dict.fromkeys(_EVAL_READERS) | element.record("EvalCondition", _EVAL_READERS, required=("do",))


def _read_eval_else(element: Element) -> dict[str, Any]:
    readers = {"do": Element.string, "set_vars": _EVAL_READERS["set_vars"]}
    return dict.fromkeys(readers) | element.record("EvalElseClause", readers, required=("do",))


def _read_kind(element: Element) -> str:
    return element.variant(TOOL_KINDS)


def _read_json_mapping(element: Element) -> dict[str, Any]:
    return element.mapping_of(Element.json)


def _read_string_mapping(element: Element) -> dict[str, str]:
    return element.mapping_of(Element.string)


_TEXT: Final = optional(Element.string)
_JSON: Final = optional(Element.json)
_EVAL_READERS: Final[Mapping[str, Callable[[Element], Any]]] = {
    "expr": _TEXT,
    "do": Element.string,
    "attempts": optional(Element.int32),
    "backoff": _TEXT,
    "delay": optional(Element.number),
    "set_vars": optional(_read_json_mapping),
    "target": _TEXT,
}
_TOOL_READERS: Final[Mapping[str, Callable[[Element], Any]]] = {
    "kind": _read_kind,
    "auth": _JSON,
    "libs": _JSON,
    "args": _JSON,
    "code": _TEXT,
    "url": _TEXT,
    "method": _TEXT,
    "query": _TEXT,
    "command": _TEXT,
    "connection": _TEXT,
    "params": optional(_read_json_mapping),
    "headers": optional(_read_string_mapping),
    "eval": optional(_read_eval),
    "output_select": _JSON,
}
