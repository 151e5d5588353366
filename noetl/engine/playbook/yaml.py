"""YAML text to a tree of nodes with positions: YAML 1.2 core scalars on the YAML 1.1 grammar of libyaml.

Rules and texts: spec 10, section 4.4 (dialect, export to JSON) and spec 30, section 2. Merge keys are ordinary keys.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from noetl.engine.playbook.scalars import (
    BOOLEANS,
    NULLS,
    Plain,
    describe,
    float_text,
    floating,
    integer,
    quote,
    resolve,
)
from noetl.errors import UnprocessableError

MAXIMUM_DEPTH: Final = 128
"""Sequences and mappings inside one another, after aliases are followed."""
MAXIMUM_JUMPS_PER_EVENT: Final = 100
"""Aliases followed while the whole document is expanded, per parser event."""
MAXIMUM_EVENTS: Final = 250_000
"""Parser events of one text: a bound on the time for which reading it holds the process (about a second)."""
MAXIMUM_REPEATED_NODES: Final = 250_000
"""Nodes that aliases may add to the document."""
MAXIMUM_REPEATED_CHARACTERS: Final = 16 * 1024 * 1024
"""Characters of scalars that aliases may add to the document."""

_TAG_PREFIX: Final = "tag:yaml.org,2002:"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(UnprocessableError):
    """The text is not YAML of this dialect: 422 ``Invalid YAML: <reason>``.

    ``reason`` holds path, cause and position as one text; ``line`` and ``column`` are 1-based, 0 when unknown.
    """

    def __init__(self, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"Invalid YAML: {reason}")
        self.reason = reason
        self.line = line
        self.column = column


@dataclass(slots=True, eq=False)
class Node:
    """What all nodes have: the resolved tag (None when absent) and the position of the first character, 1-based."""

    tag: str | None
    line: int
    column: int

    @property
    def local_tag(self) -> str | None:
        """The tag with its ``!`` if it is an application's own one (``!foo``)."""
        return self.tag if self.tag is not None and self.tag.startswith("!") else None

    @property
    def kind(self) -> str:
        """``map`` or ``sequence`` as error texts call it; scalars are named by their value."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class ScalarNode(Node):
    """``text`` is the source text after unquoting; ``plain`` tells unquoted scalars, the only ones that are typed."""

    text: str
    plain: bool
    value: Plain = None

    @property
    def kind(self) -> str:
        """The value as error texts name it, e.g. ``string "5"``, ``integer `5` ``."""
        return describe(self.value)

    @property
    def is_string(self) -> bool:
        """Whether the value is a string (its ``text`` then)."""
        return isinstance(self.value, str)


@dataclass(slots=True, eq=False)
class SequenceNode(Node):
    """A list; an item may occur at several places of the tree (alias)."""

    items: list[AnyNode] = field(default_factory=lambda: [])

    @property
    def kind(self) -> str:
        return "sequence"


@dataclass(slots=True, eq=False)
class MappingNode(Node):
    """A mapping in document order without equal keys."""

    entries: list[tuple[AnyNode, AnyNode]] = field(default_factory=lambda: [])

    @property
    def kind(self) -> str:
        return "map"

    def get(self, name: str) -> AnyNode | None:
        """The value under the string key ``name``, or None."""
        for key, value in self.entries:
            if isinstance(key, ScalarNode) and key.value == name and key.local_tag is None:
                return value
        return None


AnyNode: TypeAlias = ScalarNode | SequenceNode | MappingNode


def load_yaml(text: str) -> AnyNode:
    """The only document of ``text``; an empty text is a null scalar.

    Raises YamlError for syntax, duplicate keys, several documents, unknown anchors, U+0000, numbers beyond 64 bits,
    scalars that contradict their tag, and for trees too large, too deep or too often repeated (alias bombs).
    """
    loader: Any = None
    try:
        loader = _LOADER(text.removeprefix("\ufeff"))
        return _Builder(loader).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.reader.ReaderError as error:
        raise YamlError(f"{error.reason} at position {error.position}") from error
    except UnicodeEncodeError as error:
        raise YamlError(f"invalid Unicode character at position {error.start}") from error
    finally:
        if loader is not None:
            loader.dispose()


def to_json(node: AnyNode) -> Any:
    """``node`` as JSON for export (catalog columns): ``{"!tag": value}`` for local tags, null for non-finite numbers.

    None as a whole if any mapping in it has a key without JSON form: null, not a number, list, mapping, tagged.
    """
    try:
        return _export(node)
    except _NoJsonFormError:
        return None


def string_value(node: AnyNode | None) -> str | None:
    """The string that ``node`` is, looking through a local tag; None for any other type (numbers too)."""
    return node.value if isinstance(node, ScalarNode) and isinstance(node.value, str) else None


def position_text(line: int, column: int) -> str:
    """`` at line L column C`` of error texts; empty at the very beginning of the text."""
    return "" if (line, column) == (1, 1) else f" at line {line} column {column}"


class _NoJsonFormError(Exception):
    """A mapping key cannot be a JSON key."""


def _export(node: AnyNode) -> Any:
    value: Any
    match node:
        case ScalarNode(value=float() as number) if not math.isfinite(number):
            value = None
        case ScalarNode():
            value = node.value
        case SequenceNode():
            value = [_export(item) for item in node.items]
        case MappingNode():
            value = {_export_key(key): _export(item) for key, item in node.entries}
    return value if node.local_tag is None else {node.local_tag: value}


def _export_key(node: AnyNode) -> str:
    if not isinstance(node, ScalarNode) or node.local_tag is not None:
        raise _NoJsonFormError
    match node.value:
        case str() as text:
            return text
        case bool() as boolean:
            return str(boolean).lower()
        case int() as whole:
            return str(whole)
        case float() as number if math.isfinite(number):
            return re.sub(r"e(?=[0-9])", "e+", float_text(number))
        case _:
            raise _NoJsonFormError


def _syntax_error(error: yaml.MarkedYAMLError) -> YamlError:
    problem, context = error.problem_mark, error.context_mark
    reason = error.problem or "invalid syntax"
    line, column = (problem.line + 1, problem.column + 1) if problem is not None else (0, 0)
    known = (line, column) not in ((0, 0), (1, 1))
    if known:
        reason += f" at line {line} column {column}"
    if error.context:
        reason += f", {error.context}"
        if context is not None:
            place = (context.line + 1, context.column + 1)
            if place not in ((1, 1), (line, column)):
                reason += f" at line {place[0]} column {place[1]}"
    return YamlError(reason, line if known else 0, column if known else 0)


@dataclass(slots=True)
class _Size:
    """What a node is when all aliases in it are followed."""

    nodes: int = 1
    characters: int = 0
    jumps: int = 0
    depth: int = 0

    def add(self, child: _Size) -> None:
        """Count ``child`` as a part of this node."""
        self.nodes += child.nodes
        self.characters += child.characters
        self.jumps += child.jumps
        self.depth = max(self.depth, child.depth + 1)


class _Frame:
    """A collection that is still open."""

    __slots__ = ("key", "keys", "node", "size")

    def __init__(self, node: SequenceNode | MappingNode) -> None:
        self.node = node
        self.size = _Size(depth=1)
        self.key: AnyNode | None = None
        self.keys: set[object] = set()


class _Builder:
    """Turns parser events into nodes; stops at the first event that breaks a rule."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._anchors: dict[str, tuple[AnyNode, _Size]] = {}
        self._open: list[_Frame] = []
        self._root: AnyNode | None = None
        self._events = 0
        self._repeated = _Size(nodes=0)
        self._identities: dict[object, int] = {}

    def document(self) -> AnyNode:
        """Read to the end of the stream."""
        while not isinstance(event := self._loader.get_event(), yaml.DocumentEndEvent | yaml.StreamEndEvent):
            self._events += 1
            if self._events > MAXIMUM_EVENTS:
                raise YamlError(f"document has more than {MAXIMUM_EVENTS} nodes")
            self._take(event)
        if isinstance(event, yaml.DocumentEndEvent) and not self._at_end():
            raise YamlError("deserializing from YAML containing more than one document is not supported")
        if self._repeated.jumps > MAXIMUM_JUMPS_PER_EVENT * self._events:
            raise YamlError("repetition limit exceeded")
        return self._root if self._root is not None else ScalarNode(None, 1, 1, "", plain=True)

    def _at_end(self) -> bool:
        try:
            return isinstance(self._loader.get_event(), yaml.StreamEndEvent)
        except yaml.MarkedYAMLError:
            return False

    def _take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                node = ScalarNode(event.tag, *_place(event), event.value, plain=not event.style)
                node.value = self._scalar(node)
                size = _Size(characters=len(event.value))
                self._register(event.anchor, node, size)
                self._close(node, size)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                shape = SequenceNode if isinstance(event, yaml.SequenceStartEvent) else MappingNode
                node = shape(event.tag, *_place(event))
                if len(self._open) >= MAXIMUM_DEPTH:
                    raise self._recursion(node)
                frame = _Frame(node)
                self._register(event.anchor, node, frame.size)
                self._open.append(frame)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                frame = self._open.pop()
                self._close(frame.node, frame.size)
            case yaml.AliasEvent():
                self._alias(event)
            case _:
                pass

    def _register(self, anchor: str | None, node: AnyNode, size: _Size) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            line, column = _place(event)
            raise YamlError(f"unknown anchor{position_text(line, column)}", line, column)
        node, size = self._anchors[event.anchor]
        if any(frame.node is node for frame in self._open) or len(self._open) + size.depth > MAXIMUM_DEPTH:
            raise self._recursion(node)
        # `size` contains the repeats inside the repeated, so the sum over all aliases is what expansion adds.
        repeat = _Size(size.nodes, size.characters, size.jumps + 1, size.depth)
        self._repeated.add(repeat)
        if self._repeated.nodes > MAXIMUM_REPEATED_NODES or self._repeated.characters > MAXIMUM_REPEATED_CHARACTERS:
            raise YamlError("repetition limit exceeded")
        self._close(node, repeat)

    def _close(self, node: AnyNode, size: _Size) -> None:
        """``node`` is complete: give it to the collection around it."""
        if not self._open:
            self._root = node
            return
        frame = self._open[-1]
        frame.size.add(size)
        if isinstance(frame.node, SequenceNode):
            frame.node.items.append(node)
        elif frame.key is None:
            identity = self._identity(node)
            if identity in frame.keys:
                parent = frame.node
                raise self._error(f"duplicate entry {_key_text(node)}", parent.line, parent.column, len(self._open) - 1)
            frame.keys.add(identity)
            frame.key = node
        else:
            frame.node.entries.append((frame.key, node))
            frame.key = None

    def _scalar(self, node: ScalarNode) -> Plain:
        text, tag = node.text, node.tag
        if "\0" in text:
            raise self._at(node, "control characters are not allowed")
        value: Plain = text
        match tag.removeprefix(_TAG_PREFIX) if tag is not None and tag.startswith(_TAG_PREFIX) else None:
            case "bool":
                value, expected = BOOLEANS.get(text), "a boolean"
            case "int":
                value, expected = integer(text), "an integer"
            case "float":
                value, expected = floating(text), "a float"
            case "null":
                if text not in NULLS or not text:
                    raise self._at(node, f"invalid value: string {quote(text)}, expected null")
                return None
            case _:
                expected = ""
                if node.plain and (tag is None or tag.startswith("!")):
                    value = resolve(text)
        if expected and value is None:
            raise self._at(node, f"invalid value: string {quote(text)}, expected {expected}")
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            width = "u128" if value >= 0 else "i128"
            raise self._at(node, f"invalid type: integer `{value}` as {width}, expected any YAML value")
        return value

    def _identity(self, node: AnyNode) -> object:
        """Equal for equal keys. Collections are numbered by their content, so that shared parts cost nothing twice."""
        content: object
        match node:
            case ScalarNode(value=float() as number) if math.isnan(number):
                content = ("float", "nan")
            case ScalarNode():
                content = (type(node.value).__name__, node.value)
            case SequenceNode():
                content = ("sequence", tuple(self._part(item) for item in node.items))
            case MappingNode():
                content = ("map", frozenset((self._part(key), self._part(value)) for key, value in node.entries))
        return (node.local_tag, content) if node.local_tag is not None else content

    def _part(self, node: AnyNode) -> int:
        known = self._identities.get(id(node))
        if known is None:
            content = self._identity(node)
            known = self._identities.setdefault(content, len(self._identities))
            self._identities[id(node)] = known
        return known

    def _recursion(self, node: AnyNode) -> YamlError:
        return YamlError(f"recursion limit exceeded{position_text(node.line, node.column)}", node.line, node.column)

    def _at(self, node: AnyNode, reason: str) -> YamlError:
        return self._error(reason, node.line, node.column, len(self._open))

    def _error(self, reason: str, line: int, column: int, depth: int) -> YamlError:
        """``reason`` with the path of the ``depth`` outermost open collections and the position."""
        path = ""
        for frame in self._open[:depth]:
            if isinstance(frame.node, SequenceNode):
                path = f"{path or '.'}[{len(frame.node.items)}]"
            elif frame.key is not None:
                name = frame.key.text if isinstance(frame.key, ScalarNode) else "?"
                path = f"{path}.{name}" if path else name
        prefix = f"{path}: " if path else ""
        return YamlError(f"{prefix}{reason}{position_text(line, column)}", line, column)


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _key_text(node: AnyNode) -> str:
    if not isinstance(node, ScalarNode) or node.local_tag is not None:
        return "in YAML map"
    match node.value:
        case None:
            return "with null key"
        case bool() as boolean:
            return f"with key `{str(boolean).lower()}`"
        case str() as text:
            return f"with key {quote(text)}"
        case number:
            return f"with key {float_text(number) if isinstance(number, float) else number}"
