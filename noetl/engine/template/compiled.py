"""A compiled template, and the bounded cache of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.lexer import WHITE_SPACE
from noetl.engine.template.nodes import (
    Conditional,
    Constant,
    Data,
    Expression,
    Filter,
    Item,
    ListLiteral,
    Logical,
    MapLiteral,
    Output,
    Statement,
    Variable,
)
from noetl.engine.template.parser import parse
from noetl.engine.template.statements import StatementCompiler
from noetl.engine.template.syntax_walk import assigned_names
from noetl.engine.template.values import NONE

if TYPE_CHECKING:
    from noetl.engine.template.runtime import Evaluate, Execute

_SELECTING_FILTERS = frozenset({"default", "d", "first", "last", "get", "safe", "attr"})


class Template:
    """What rendering needs to know about one source text.

    ``lone`` is the closure of a template that is one ``{{ expression }}`` and blanks around it (``before``, ``after``).
    ``path`` is set when that expression only walks from a context variable (``a.b["c"][0]``). ``selects`` says that its
    value, if it is a container, is one of the context, so that it needs no check before it leaves the engine.
    """

    __slots__ = ("after", "before", "blocks", "lone", "path", "run", "selects")

    def __init__(self, source: str) -> None:
        statements = parse(source)
        compiler = StatementCompiler(assigned_names(statements))
        self.run: Execute = compiler.body(statements)
        self.blocks = compiler.blocks
        self.lone: Evaluate | None = None
        self.path: tuple[Any, ...] | None = None
        self.before = self.after = ""
        self.selects = False
        output = _lone_output(source, statements)
        if output is not None:
            self._prepare_lone(source, output, compiler)

    def _prepare_lone(self, source: str, output: Output, compiler: StatementCompiler) -> None:
        compiler.line = output.line
        self.lone = compiler.compile(output.value)
        text = source.removesuffix("\n").removesuffix("\r") if source.endswith("\n") else source
        trimmed_before = text.lstrip(WHITE_SPACE).startswith("{{-")
        trimmed_after = text.rstrip(WHITE_SPACE).endswith("-}}")
        self.before = "" if trimmed_before else text[: len(text) - len(text.lstrip(WHITE_SPACE))]
        self.after = "" if trimmed_after else text[len(text.rstrip(WHITE_SPACE)) :]
        self.selects = _selects(output.value)
        self.path = _path(output.value)


def _lone_output(source: str, statements: list[Statement]) -> Output | None:
    text = source.strip(WHITE_SPACE)
    if not (text.startswith("{{") and text.endswith("}}")):
        return None
    outputs = [node for node in statements if not isinstance(node, Data)]
    blank = all(not node.text.strip(WHITE_SPACE) for node in statements if isinstance(node, Data))
    if blank and len(outputs) == 1 and isinstance(outputs[0], Output):
        return outputs[0]
    return None


def _path(node: Expression) -> tuple[Any, ...] | None:
    keys: list[Any] = []
    while isinstance(node, Item) and isinstance(node.key, Constant) and isinstance(node.key.value, (str, int)):
        keys.append(node.key.value)
        node = node.target
    return (node.name, *reversed(keys)) if isinstance(node, Variable) else None


def _selects(node: Expression) -> bool:
    """Whether a container that the expression yields can only be one of the context, or an empty one."""
    while isinstance(node, Item):
        node = node.target
    if isinstance(node, Variable):
        return True
    if isinstance(node, Constant):
        return node.value is not NONE
    if isinstance(node, ListLiteral):
        return not node.items
    if isinstance(node, MapLiteral):
        return not node.pairs
    if isinstance(node, Logical):
        return all(map(_selects, node.operands))
    if isinstance(node, Conditional):
        return _selects(node.when_true) and (node.when_false is None or _selects(node.when_false))
    if isinstance(node, Filter):
        chosen = [argument.value for argument in node.arguments]
        return (
            node.name in _SELECTING_FILTERS and node.target is not None and all(map(_selects, [node.target, *chosen]))
        )
    return False


def syntax_error(source: str) -> TemplateError | None:
    """What keeps ``source`` from being a template of the dialect; None when nothing does."""
    try:
        Template(source)
    except TemplateError as error:
        return error
    except RecursionError:
        return invalid("recursion limit exceeded")
    return None


class TemplateCache:
    """Compiled templates by source text, in two generations of at most ``capacity`` characters of source each.

    A template counts as 100 characters more than it has, for what even the shortest one takes.
    A full young generation becomes the old one and the old one is dropped, so a hit costs one dictionary look-up and a
    template in use survives.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[str, Template] = {}
        self._old: dict[str, Template] = {}
        self._filled = 0

    def get(self, source: str) -> Template:
        """The compiled template; TemplateError when it has a syntax error (which is not remembered)."""
        template = self._young.get(source)
        if template is not None:
            return template
        template = self._old.get(source) or Template(source)
        weight = len(source) + 100
        if weight <= self._capacity >> 3:
            if self._filled + weight > self._capacity:
                self._old, self._young, self._filled = self._young, {}, 0
            self._young[source] = template
            self._filled += weight
        return template
