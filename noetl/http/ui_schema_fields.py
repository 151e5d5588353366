"""The input form of a playbook: its workload's fields and the ``ui:`` directives in comments (spec 10, section 5)."""

from __future__ import annotations

import math
import re
from typing import Final

import msgspec
import orjson

from noetl.engine.playbook.scalars import float_text
from noetl.engine.playbook.yaml import (
    MappingNode,
    ScalarNode,
    SequenceNode,
    YamlError,
    load_yaml,
    string_value,
    to_json,
)

_SPACE: Final = r"[^\S\x1c-\x1f]"
_WHITE_SPACE: Final = re.compile(rf"{_SPACE}*")
_KEY_LINE: Final = re.compile(rf" {{2,}}([A-Za-z_][A-Za-z0-9_-]*){_SPACE}*:")
_DIRECTIVE: Final = re.compile(rf"#{_SPACE}*ui:([A-Za-z_][A-Za-z0-9_]*)(?:{_SPACE}*={_SPACE}*([^\n#]*))?")


class Directives(msgspec.Struct):
    """What the comment on a key's line says about its field."""

    secret: bool = False
    options: list[str] | None = None
    credential_glob: str | None = None
    description: str | None = None


class Field(msgspec.Struct):
    """One field of the form; ``default`` is any JSON value, its members sorted."""

    name: str
    kind: str
    default: orjson.Fragment
    description: str | None
    secret: bool
    credential_glob: str | None
    options: list[str] | None
    children: list[Field] | None


class Form(msgspec.Struct):
    """What a playbook says about its form; empty for a text that cannot be read."""

    title: str | None = None
    description_markdown: str | None = None
    exposed_in_ui: bool = False
    fields: list[Field] = []


def form_of(content: str) -> Form:
    """The form of a playbook's text; never fails."""
    try:
        root = load_yaml(content)
    except YamlError:
        return Form()
    if not isinstance(root, MappingNode):
        return Form()
    form = Form()
    metadata = root.get("metadata")
    if isinstance(metadata, MappingNode):
        exposed = metadata.get("exposed_in_ui")
        form.title = string_value(metadata.get("name"))
        form.description_markdown = string_value(metadata.get("description"))
        form.exposed_in_ui = isinstance(exposed, ScalarNode) and exposed.value is True
    workload = root.get("workload")
    if isinstance(workload, MappingNode) and workload.local_tag is None:
        form.fields = _fields(workload, directives_in(content))
    return form


def directives_in(content: str) -> dict[str, Directives]:
    """Directives by key, found line by line, whatever the YAML around them means (spec 10, section 5.2)."""
    found: dict[str, Directives] = {}
    block_indent: int | None = None
    child_indent: int | None = None
    for line in content.split("\n"):
        blanks = _WHITE_SPACE.match(line)
        indent = 0 if blanks is None else blanks.end()
        if indent == len(line):
            continue
        if line.startswith("workload:", indent):
            block_indent, child_indent = indent, None
            continue
        if block_indent is None:
            continue
        if indent <= block_indent:
            block_indent = None
            continue
        child_indent = indent if child_indent is None else child_indent
        key = _KEY_LINE.match(line) if indent == child_indent else None
        if key is not None and (directives := _directives(line)) is not None:
            found[key[1]] = directives
    return found


def _directives(line: str) -> Directives | None:
    """The directives of a line, the last of each kind; None where there is no known one."""
    directives = Directives()
    known = False
    for match in _DIRECTIVE.finditer(line):
        name, value = match[1], (match[2] or "").strip()
        known = known or name in {"secret", "enum", "credential", "description"}
        if name == "secret":
            directives.secret = True
        elif name == "enum":
            directives.options = _options(value)
        elif name == "credential" and value:
            directives.credential_glob = _unquoted(value)
        elif name == "description" and value:
            directives.description = _unquoted(value)
    return directives if known else None


def _options(value: str) -> list[str]:
    if len(value) >= 2 and value.startswith("[") and value.endswith("]"):
        return [option for part in value[1:-1].split(",") if (option := _unquoted(part.strip()))]
    return [_unquoted(value)]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _fields(mapping: MappingNode, directives: dict[str, Directives]) -> list[Field]:
    none = Directives()
    return [_field(name := _key_text(key), value, directives.get(name, none)) for key, value in mapping.entries]


def _field(name: str, node: ScalarNode | SequenceNode | MappingNode, directives: Directives) -> Field:
    kind = "enum" if directives.options is not None else _kind(node)
    default = to_json(node)
    if kind in {"integer", "number", "null"} and isinstance(node, ScalarNode):
        number = node.value
        default = None if isinstance(number, float) and not math.isfinite(number) else number
    return Field(
        name=name,
        kind=kind,
        default=orjson.Fragment(orjson.dumps(default, option=orjson.OPT_SORT_KEYS)),
        description=directives.description,
        secret=directives.secret,
        credential_glob=directives.credential_glob,
        options=directives.options,
        children=_fields(node, {}) if kind == "object" and isinstance(node, MappingNode) else None,
    )


def _kind(node: ScalarNode | SequenceNode | MappingNode) -> str:
    match node:
        case MappingNode():
            return "object" if node.local_tag is None else "string"
        case SequenceNode():
            return "array"
        case ScalarNode(value=bool()):
            return "boolean"
        case ScalarNode(value=int()):
            return "integer"
        case ScalarNode(value=float()):
            return "number"
        case ScalarNode(value=None):
            return "null"
        case ScalarNode():
            return "string"


def _key_text(node: ScalarNode | SequenceNode | MappingNode) -> str:
    """A key as text: a string as it is, anything else as YAML writes it."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.local_tag is None:
        return node.value
    return "\n".join(_block(node))


def _block(node: ScalarNode | SequenceNode | MappingNode) -> list[str]:
    """Lines of block style."""
    tag = "" if node.local_tag is None else f"{node.local_tag} "
    match node:
        case ScalarNode(value=None):
            return [f"{tag}null"]
        case ScalarNode(value=bool() as boolean):
            return [f"{tag}{str(boolean).lower()}"]
        case ScalarNode(value=float() as number):
            return [f"{tag}{float_text(number)}"]
        case ScalarNode():
            return [f"{tag}{node.value}"]
        case SequenceNode():
            lines = [line for item in node.items for line in _indented(_block(item), "- ")]
            return lines or ["[]"]
        case MappingNode():
            return [
                line
                for key, value in node.entries
                for line in (
                    [f"{_key_text(key)}:", *(f"  {line}" for line in _block(value))]
                    if isinstance(value, MappingNode) and value.entries
                    else [f"{_key_text(key)}:", *_block(value)]
                    if isinstance(value, SequenceNode) and value.items
                    else [f"{_key_text(key)}: {_block(value)[0]}"]
                )
            ] or ["{}"]


def _indented(lines: list[str], first: str) -> list[str]:
    return [first + lines[0], *(" " * len(first) + line for line in lines[1:])]
