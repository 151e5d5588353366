"""Compiles expressions to closures over a runtime (spec 30, section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.template import operators
from noetl.engine.template.calls import CallCompiler
from noetl.engine.template.errors import TemplateError
from noetl.engine.template.limits import Limits
from noetl.engine.template.nodes import (
    Call,
    Chain,
    Comparison,
    Conditional,
    Constant,
    Expression,
    Filter,
    Item,
    ListLiteral,
    Logical,
    MapLiteral,
    Negate,
    Not,
    Slice,
    Test,
    Variable,
)
from noetl.engine.template.runtime import Evaluate, Runtime, located
from noetl.engine.template.syntax_walk import is_constant
from noetl.engine.template.values import compare, equal, integer, truth

if TYPE_CHECKING:
    from collections.abc import Callable

_BINARY: dict[str, operators.Binary] = {
    "+": operators.add,
    "-": operators.subtract,
    "*": operators.multiply,
    "/": operators.divide,
    "//": operators.floor_divide,
    "%": operators.remainder,
    "**": operators.power,
    "~": operators.concatenate,
}
_COMPARISONS: dict[str, Callable[[Any, Any, Runtime], bool]] = {
    "==": equal,
    "!=": lambda left, right, runtime: not equal(left, right, runtime),
    "<": lambda left, right, runtime: compare(left, right, runtime) < 0,
    "<=": lambda left, right, runtime: compare(left, right, runtime) <= 0,
    ">": lambda left, right, runtime: compare(left, right, runtime) > 0,
    ">=": lambda left, right, runtime: compare(left, right, runtime) >= 0,
    "in": lambda left, right, runtime: operators.contains(right, left, runtime),
    "not in": lambda left, right, runtime: not operators.contains(right, left, runtime),
}


_FOLDING_LIMITS = Limits(fuel=10_000, size=64 * 1024)


def _folds(node: Expression, evaluate: Evaluate) -> bool:
    """Whether an expression consists of literals and operators alone, and has a value."""
    if not is_constant(node):
        return False
    try:
        evaluate(Runtime({}, _FOLDING_LIMITS, {}, {}, {}))
    except TemplateError:
        return False
    return True


class ExpressionCompiler:
    """Turns expression nodes into closures.

    ``assigned`` are the names that the template assigns somewhere; all others are looked up in the context alone.
    ``line`` follows the constructs in source order: an error carries the line of the last one that was entered.
    """

    def __init__(self, assigned: frozenset[str]) -> None:
        self.assigned = assigned
        self.line = 1
        self._calls = CallCompiler(self)
        self._compilers: dict[type[Expression], Callable[[Any], Evaluate]] = {
            Constant: self._constant,
            Variable: self._variable,
            Item: self._item,
            Slice: self._slice,
            Call: self._calls.call,
            Filter: self._calls.filter,
            Test: self._calls.test,
            Not: self._not,
            Negate: self._negate,
            Chain: self._chain,
            Comparison: self._comparison,
            Logical: self._logical,
            Conditional: self._conditional,
            ListLiteral: self._list,
            MapLiteral: self._map,
        }

    def compile(self, node: Expression) -> Evaluate:
        """Closure that yields the value of ``node``."""
        return self._compilers[type(node)](node)

    def _optional(self, node: Expression | None) -> Evaluate:
        return self.compile(node) if node is not None else lambda runtime: None

    def _constant(self, node: Constant) -> Evaluate:
        self.line = node.line
        value = node.value
        if type(value) is int:
            value = integer(value)
        return lambda runtime: value

    def _variable(self, node: Variable) -> Evaluate:
        self.line = node.line
        name = node.name
        if name in self.assigned:
            return lambda runtime: runtime.lookup(name)
        return lambda runtime: runtime.lookup_root(name)

    def _item(self, node: Item) -> Evaluate:
        steps: list[Item] = []
        target: Expression = node
        while isinstance(target, Item):
            steps.append(target)
            target = target.target
        self.line = node.line
        value = self.compile(target)
        keys = [self._key(step) for step in reversed(steps)]
        get_item = operators.get_item
        if len(keys) == 1:
            (key,) = keys
            return lambda runtime: get_item(value(runtime), key(runtime))

        def evaluate(runtime: Runtime) -> Any:
            result = value(runtime)
            for key in keys:
                result = get_item(result, key(runtime))
            return result

        return evaluate

    def _key(self, node: Item) -> Evaluate:
        if node.dotted and isinstance(node.key, Constant):
            name = node.key.value
            return lambda runtime: name
        return self.compile(node.key)

    def _slice(self, node: Slice) -> Evaluate:
        self.line = node.line
        target, start = self.compile(node.target), self._optional(node.start)
        stop, step = self._optional(node.stop), self._optional(node.step)
        line = self.line

        def evaluate(runtime: Runtime) -> Any:
            value = target(runtime)
            first, last, stride = start(runtime), stop(runtime), step(runtime)
            try:
                return operators.slice_of(value, first, last, stride, runtime)
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate

    def _not(self, node: Not) -> Evaluate:
        self.line = node.line
        operand = self.compile(node.operand)
        return lambda runtime: not truth(operand(runtime))

    def _negate(self, node: Negate) -> Evaluate:
        self.line = node.line
        operand = self.compile(node.operand)
        line = node.line

        def evaluate(runtime: Runtime) -> Any:
            value = operand(runtime)
            try:
                return operators.negate(value)
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate

    def _chain(self, node: Chain) -> Evaluate:
        self.line = node.line
        first = self.compile(node.first)
        rest = [(_BINARY[operator], self.compile(operand), self.line) for operator, operand in node.rest]

        def evaluate(runtime: Runtime) -> Any:
            value = first(runtime)
            for apply, operand, line in rest:
                right = operand(runtime)
                try:
                    runtime.charge(1)
                    value = apply(value, right, runtime)
                except TemplateError as error:
                    raise located(error, line) from None
            return value

        return evaluate

    def _comparison(self, node: Comparison) -> Evaluate:
        self.line = node.line
        first = self.compile(node.first)
        rest = [(_COMPARISONS[operator], self.compile(operand), self.line) for operator, operand in node.rest]

        def evaluate(runtime: Runtime) -> bool:
            left = first(runtime)
            for holds, operand, line in rest:
                right = operand(runtime)
                try:
                    if not holds(left, right, runtime):
                        return False
                except TemplateError as error:
                    raise located(error, line) from None
                left = right
            return True

        return evaluate

    def _logical(self, node: Logical) -> Evaluate:
        self.line = node.line
        operands = [self.compile(operand) for operand in node.operands]
        decisive = node.operator == "or"
        # The dialect folds literals: `and` of several of them is false, not an operand, when one is not true.
        literals = 0
        while not decisive and literals < len(operands) and _folds(node.operands[literals], operands[literals]):
            literals += 1

        def evaluate(runtime: Runtime) -> Any:
            value = None
            for index, operand in enumerate(operands):
                value = operand(runtime)
                if truth(value) is decisive:
                    return False if index < literals and literals > 1 else value
            return value

        return evaluate

    def _conditional(self, node: Conditional) -> Evaluate:
        self.line = node.line
        test = self.compile(node.test)
        when_true, when_false = self.compile(node.when_true), self._optional(node.when_false)
        return lambda runtime: when_true(runtime) if truth(test(runtime)) else when_false(runtime)

    def _list(self, node: ListLiteral) -> Evaluate:
        self.line = node.line
        items = [self.compile(item) for item in node.items]

        def evaluate(runtime: Runtime) -> list[Any]:
            runtime.items(len(items))
            return [item(runtime) for item in items]

        return evaluate

    def _map(self, node: MapLiteral) -> Evaluate:
        self.line = node.line
        pairs = [(self.compile(key), self.compile(value)) for key, value in node.pairs]
        line = self.line

        def evaluate(runtime: Runtime) -> dict[Any, Any]:
            made = [(key(runtime), value(runtime)) for key, value in pairs]
            try:
                return operators.make_map(made, runtime)
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate
