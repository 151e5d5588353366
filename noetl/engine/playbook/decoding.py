"""Typed reading of YAML nodes: every mistake is found, with its path and position (spec 30, section 4).

An *element* is a node and its place. Reading it raises DecodeError with all problems below it, in document order; the
first one is what a strict decoder that stops at once would report.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from noetl.engine.playbook.yaml import AnyNode, MappingNode, Node, ScalarNode, SequenceNode, position_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Key = TypeVar("Key")
Result = TypeVar("Result")

_ENUM_IN_BUFFER: Final = "untagged and internally tagged enums do not support enum input"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to say about one place of a playbook.

    ``field`` is a path such as ``workflow[0].loop.spec.mode`` (empty: the document), ``message`` the reason alone,
    ``line``/``column`` are 1-based (0: unknown).
    """

    step: str | None
    field: str
    message: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem(Remark):
    """One mistake, for which the playbook is refused.

    ``status`` is 400 (cannot be decoded) or 422 (breaks a rule), and ``response`` is the text with which
    `parse_playbook` refuses the playbook if this is its first problem.
    """

    status: int
    response: str


class DecodeError(Exception):
    """Problems below one element, at least one, in document order."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].response)
        self.problems = problems


def read_all(parts: Iterable[tuple[Key, Element]], read: Callable[[Element], Result]) -> Iterator[tuple[Key, Result]]:
    """Read each part; raise the problems of all parts together after the last one."""
    problems: list[Problem] = []
    for key, element in parts:
        try:
            yield key, read(element)
        except DecodeError as error:
            problems += error.problems
    if problems:
        raise DecodeError(problems)


def optional(read: Callable[[Element], Result]) -> Callable[[Element], Result | None]:
    """A reader that takes a YAML null for an absent value."""

    def read_optional(element: Element) -> Result | None:
        return None if element.is_null else read(element)

    return read_optional


@dataclass(frozen=True, slots=True)
class Element:
    """A node with its path.

    ``strict`` holds inside ``tool`` and ``next``: strings and keys are strings there, while elsewhere a string field
    takes any scalar with its source text. ``response`` replaces the text of every problem below (see `buffered`).
    ``ignored`` collects what is said about keys that no reader looks at; None: nobody wants to know.
    """

    node: AnyNode
    path: str = ""
    strict: bool = False
    response: str | None = None
    ignored: list[Remark] | None = None

    def problem(self, reason: str, at: Node | None = None) -> Problem:
        """A decode problem at this element, or at the node ``at`` (a key) inside it."""
        node = at or self.node
        response = self.response or located(self.path, reason, node)
        return Problem(None, self.path, reason, node.line, node.column, 400, response)

    def error(self, reason: str, at: Node | None = None) -> DecodeError:
        """`problem` as an exception."""
        return DecodeError([self.problem(reason, at)])

    def unexpected(self, expected: str, at: Node | None = None) -> DecodeError:
        """The error of a value of another type than ``expected``."""
        return self.error(f"invalid type: {(at or self.node).kind}, expected {expected}", at)

    @property
    def is_null(self) -> bool:
        """Whether this is a YAML null (a quoted or otherwise tagged empty text is none)."""
        return isinstance(self.node, ScalarNode) and self.node.value is None

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is written here; such a value serves as an empty list or mapping."""
        return isinstance(self.node, ScalarNode) and self.node.plain and not self.node.text

    def buffered(self, owner: Element, choice: str) -> Element:
        """This element as an alternative of ``choice``: strict, and whatever is wrong in it is reported at ``owner``.

        Raises DecodeError for application tags, which a choice cannot hold and which are reported where they are.
        """
        self.reject_tags()
        reason = f"data did not match any variant of untagged enum {choice}"
        return replace(self, strict=True, response=self.response or located(owner.path, reason, owner.node))

    def reject_tags(self) -> None:
        """Raise DecodeError if an application tag (``!foo``) is anywhere in this element, keys included."""
        if problems := list(self._tags()):
            raise DecodeError(problems)

    def _tags(self) -> Iterator[Problem]:
        if self.node.local_tag is not None:
            yield self.problem(_ENUM_IN_BUFFER)
            return
        match self.node:
            case ScalarNode():
                pass
            case SequenceNode():
                for _, item in self._indexed():
                    yield from item._tags()
            case MappingNode():
                for key, value in self.node.entries:
                    yield from replace(self, node=key)._tags()
                    yield from self._child(key, value)._tags()

    def string(self) -> str:
        """A string; outside strict elements any scalar as written (``null`` is the string ``null``)."""
        if isinstance(self.node, ScalarNode) and (self.node.is_string or not self.strict):
            return self.node.text
        raise self.unexpected("a string")

    def boolean(self) -> bool:
        """An unquoted ``true`` or ``false``."""
        if isinstance(self.node, ScalarNode) and self.node.plain and isinstance(self.node.value, bool):
            return self.node.value
        raise self.unexpected("a boolean")

    def int32(self) -> int:
        """An integer of 32 bits."""
        value = self.node.value if isinstance(self.node, ScalarNode) and (self.node.plain or self.strict) else None
        if not isinstance(value, int) or isinstance(value, bool) or value >= 2**63:
            raise self.unexpected("i32")
        if not -(2**31) <= value < 2**31:
            raise self.error(f"invalid value: integer `{value}`, expected i32")
        return value

    def number(self) -> float | None:
        """A number as float; None for one that JSON cannot hold (``.inf``)."""
        value = self.node.value if isinstance(self.node, ScalarNode) else None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.unexpected("f64")
        return float(value) if math.isfinite(value) else None

    def variant(self, variants: tuple[str, ...]) -> str:
        """One of ``variants``, exactly."""
        if not isinstance(self.node, ScalarNode):
            raise self.unexpected("a YAML tag starting with '!'")
        name = self.node.local_tag[1:] if self.node.local_tag and self.node.value is None else self.node.text
        if name in variants:
            return name
        quoted = [f"`{variant}`" for variant in variants]
        expected = " or ".join(quoted) if len(quoted) == 2 else f"one of {', '.join(quoted)}"
        raise self.error(f"unknown variant `{name}`, expected {expected}")

    def items(self) -> list[Element]:
        """The items of a sequence."""
        if isinstance(self.node, SequenceNode):
            return [item for _, item in self._indexed()]
        if self.is_empty and not self.strict:
            return []
        raise self.unexpected("a sequence")

    def entries(self, key_expected: str = "a string") -> list[tuple[str, Element]]:
        """Keys and values of a mapping, keys as text."""
        if isinstance(self.node, MappingNode):
            return [(self._key(key, key_expected), self._child(key, value)) for key, value in self.node.entries]
        if self.is_empty and not self.strict:
            return []
        raise self.unexpected("a map")

    def mapping_of(self, read: Callable[[Element], Result]) -> dict[str, Result]:
        """A mapping whose values ``read`` reads."""
        return dict(read_all(self.entries(), read))

    def list_of(self, read: Callable[[Element], Result]) -> list[Result]:
        """A sequence whose items ``read`` reads."""
        return [value for _, value in read_all(enumerate(self.items()), read)]

    def json(self) -> Any:
        """Any value, kept as it is; non-finite numbers become None, keys become text (spec 30, section 2)."""
        if self.node.local_tag is not None:
            raise self.unexpected_tag()
        match self.node:
            case ScalarNode(value=float() as number) if not math.isfinite(number):
                return None
            case ScalarNode():
                return self.node.value
            case SequenceNode():
                return [value for _, value in read_all(self._indexed(), Element.json)]
            case MappingNode():
                return dict(read_all(self.entries("a string key"), Element.json))

    def unexpected_tag(self) -> DecodeError:
        """The error of an application tag in a free value."""
        return self.error("invalid type: enum, expected any valid JSON value")

    def record(
        self,
        name: str,
        readers: Mapping[str, Callable[[Element], Any]],
        *,
        required: tuple[str, ...] = (),
        aliases: Mapping[str, str] | None = None,
        collect: dict[str, Any] | None = None,
        into: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A mapping with named fields, each read by its reader; fields that are not written are absent.

        Unknown keys are ignored, or put into ``collect``. ``aliases`` are other spellings of fields, ``into`` receives
        the fields even if an exception ends the reading. ``name`` is the type's name in error texts.
        """
        fields: dict[str, Any] = {} if into is None else into
        if not isinstance(self.node, MappingNode):
            if not self.is_empty or self.strict:
                raise self.unexpected(f"struct {name}")
            entries: list[tuple[AnyNode, AnyNode]] = []
        else:
            entries = self.node.entries
        problems: list[Problem] = []
        seen: set[str] = set()
        others: list[tuple[str, Element]] = []
        for key_node, value_node in entries:
            if collect is None and isinstance(key_node, ScalarNode) and self.strict and not key_node.is_string:
                continue
            try:
                key = self._key(key_node, "field identifier")
                field, child = (aliases or {}).get(key, key), self._child(key_node, value_node)
                if field in readers:
                    if field in seen:
                        raise self.error(f"duplicate field `{field}`")
                    seen.add(field)
                    fields[field] = readers[field](child)
                elif collect is not None:
                    child.reject_tags()
                    others.append((key, child))
                elif self.ignored is not None:
                    message = f"unknown field `{key}` is ignored (known: {', '.join(readers)})"
                    self.ignored.append(Remark(None, child.path, message, key_node.line, key_node.column))
            except DecodeError as error:
                problems += error.problems
        problems += [self.problem(f"missing field `{field}`") for field in required if field not in seen]
        extras: dict[str, Any] = {} if collect is None else collect
        for key, child in others:
            try:
                # `collect` keeps only what has string keys; the mistake is deep inside, the report is for the whole.
                extras[key] = replace(child, strict=True).json()
            except DecodeError as error:
                problems += [
                    replace(p, response=self.response or located(self.path, p.message, self.node))
                    for p in error.problems
                ]
        if problems:
            raise DecodeError(problems)
        return fields

    def _indexed(self) -> Iterator[tuple[int, Element]]:
        if isinstance(self.node, SequenceNode):
            for index, item in enumerate(self.node.items):
                yield index, replace(self, node=item, path=f"{self.path or '.'}[{index}]")

    def _child(self, key: AnyNode, value: AnyNode) -> Element:
        name = key.text if isinstance(key, ScalarNode) else "?"
        return replace(self, node=value, path=f"{self.path}.{name}" if self.path else name)

    def _key(self, node: AnyNode, expected: str) -> str:
        if not isinstance(node, ScalarNode):
            raise self.unexpected(expected, node)
        if self.strict and not node.is_string:
            raise self.unexpected("a string key", node)
        return node.text


def located(path: str, reason: str, node: Node) -> str:
    """``<path>: <reason> at line L column C``; path and position are left out at the document's beginning."""
    prefix = f"{path}: " if path else ""
    return f"{prefix}{reason}{position_text(node.line, node.column)}"
