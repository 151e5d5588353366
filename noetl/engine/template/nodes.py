"""Syntax tree of a template. ``line`` is the 1-based line on which a construct starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Node:
    """Any part of a template."""

    line: int


class Expression(Node):
    """Something with a value."""

    __slots__ = ()


class Statement(Node):
    """Something with an effect on the output or on variables."""

    __slots__ = ()


@dataclass(slots=True)
class Constant(Expression):
    value: Any


@dataclass(slots=True)
class Variable(Expression):
    name: str


@dataclass(slots=True)
class Item(Expression):
    """``target.key`` or ``target[key]``."""

    target: Expression
    key: Expression
    dotted: bool


@dataclass(slots=True)
class Slice(Expression):
    target: Expression
    start: Expression | None
    stop: Expression | None
    step: Expression | None


@dataclass(slots=True)
class Argument:
    """One argument of a call; ``name`` for keywords, ``splat`` is ``*``, ``**`` or empty."""

    value: Expression
    name: str | None = None
    splat: str = ""


@dataclass(slots=True)
class Call(Expression):
    target: Expression
    arguments: list[Argument]


@dataclass(slots=True)
class Filter(Expression):
    """``target | name(arguments)``; without a target the text of the block it stands at."""

    target: Expression | None
    name: str
    arguments: list[Argument]


@dataclass(slots=True)
class Test(Expression):
    target: Expression
    name: str
    arguments: list[Argument]


@dataclass(slots=True)
class Not(Expression):
    operand: Expression


@dataclass(slots=True)
class Negate(Expression):
    operand: Expression


@dataclass(slots=True)
class Chain(Expression):
    """Operators of one precedence, left to right: ``first op value op value ...``."""

    first: Expression
    rest: list[tuple[str, Expression]]


@dataclass(slots=True)
class Comparison(Expression):
    """A chain of comparisons, true when each neighbouring pair holds."""

    first: Expression
    rest: list[tuple[str, Expression]]


@dataclass(slots=True)
class Logical(Expression):
    """``and`` or ``or`` over two or more operands; the value is the operand that decides."""

    operator: str
    operands: list[Expression]


@dataclass(slots=True)
class Conditional(Expression):
    test: Expression
    when_true: Expression
    when_false: Expression | None


@dataclass(slots=True)
class ListLiteral(Expression):
    items: list[Expression]


@dataclass(slots=True)
class MapLiteral(Expression):
    pairs: list[tuple[Expression, Expression]]


@dataclass(slots=True)
class TargetList(Expression):
    """Several variables to unpack into."""

    items: list[Expression]


@dataclass(slots=True)
class Data(Statement):
    text: str


@dataclass(slots=True)
class Output(Statement):
    value: Expression


@dataclass(slots=True)
class For(Statement):
    target: Expression
    collection: Expression
    condition: Expression | None
    recursive: bool
    body: list[Statement]
    otherwise: list[Statement]


@dataclass(slots=True)
class If(Statement):
    """``branches`` are (condition, body) in order; ``otherwise`` is the body of ``else``."""

    branches: list[tuple[Expression, list[Statement]]]
    otherwise: list[Statement]


@dataclass(slots=True)
class With(Statement):
    assignments: list[tuple[Expression, Expression]]
    body: list[Statement]


@dataclass(slots=True)
class Set(Statement):
    target: Expression
    value: Expression


@dataclass(slots=True)
class SetBlock(Statement):
    target: Expression
    filter: Expression | None
    body: list[Statement]


@dataclass(slots=True)
class FilterBlock(Statement):
    filter: Expression
    body: list[Statement]


@dataclass(slots=True)
class AutoEscape(Statement):
    mode: Expression
    body: list[Statement]


@dataclass(slots=True)
class Macro(Statement):
    name: str
    parameters: list[tuple[str, Expression | None]]
    body: list[Statement]


@dataclass(slots=True)
class CallBlock(Statement):
    call: Call
    caller: Macro


@dataclass(slots=True)
class Do(Statement):
    call: Call


@dataclass(slots=True)
class Block(Statement):
    name: str
    body: list[Statement]


@dataclass(slots=True)
class Include(Statement):
    """``include``, ``import`` and ``from`` (there are no other templates)."""

    name: Expression
    ignore_missing: bool


@dataclass(slots=True)
class Extends(Statement):
    name: Expression
