"""Walks over the syntax tree: which names a template mentions or assigns."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.template.nodes import (
    Argument,
    Chain,
    Comparison,
    Constant,
    Expression,
    For,
    ListLiteral,
    Logical,
    Macro,
    MapLiteral,
    Negate,
    Node,
    Not,
    Set,
    SetBlock,
    Statement,
    TargetList,
    Variable,
    With,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def walk(root: Any) -> Iterator[Node]:
    """Every node below ``root`` (a node, or lists and tuples of nodes) and itself."""
    pending: list[Any] = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, (list, tuple)):
            pending.extend(item)
        elif isinstance(item, (Node, Argument)):
            if isinstance(item, Node):
                yield item
            for kind in type(item).__mro__:
                pending.extend(getattr(item, name) for name in getattr(kind, "__slots__", ()))


def mentions(statements: list[Statement], name: str) -> bool:
    """Whether a variable ``name`` is read anywhere in the statements."""
    return any(isinstance(node, Variable) and node.name == name for node in walk(statements))


_CONSTANT_PARTS = (Constant, Not, Negate, Chain, Comparison, Logical, ListLiteral, MapLiteral)


def is_constant(node: Expression) -> bool:
    """Whether an expression consists of literals and operators alone."""
    return all(isinstance(part, _CONSTANT_PARTS) for part in walk(node))


def _targets(node: Expression) -> Iterator[str]:
    if isinstance(node, Variable):
        yield node.name
    elif isinstance(node, TargetList):
        for item in node.items:
            yield from _targets(item)


def assigned_names(statements: list[Statement]) -> frozenset[str]:
    """Names that the template assigns anywhere, with the implicit ``loop`` and ``caller``."""
    names = {"loop", "caller"}
    for node in walk(statements):
        if isinstance(node, (For, Set, SetBlock)):
            names.update(_targets(node.target))
        elif isinstance(node, With):
            for target, _ in node.assignments:
                names.update(_targets(target))
        elif isinstance(node, Macro):
            names.add(node.name)
            names.update(name for name, _ in node.parameters)
    return frozenset(names)
