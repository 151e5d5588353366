"""Compiles calls of functions, methods, filters and tests (spec 30, sections 5.5 and 5.6)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from noetl.engine.template.builtins import FILTERS, TESTS
from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.nodes import Argument, Call, Constant, Filter, Item, Test, Variable
from noetl.engine.template.objects import LoopObject, MacroObject
from noetl.engine.template.runtime import Evaluate, Function, Runtime, located
from noetl.engine.template.values import Keywords, TemplateObject, elements, kind_of

if TYPE_CHECKING:
    from noetl.engine.template.expressions import ExpressionCompiler

Arguments = Callable[[Runtime], list[Any]]


def call_value(value: Any, arguments: list[Any], runtime: Runtime) -> Any:
    """Call what a variable or expression yields."""
    if isinstance(value, MacroObject):
        return value.call(runtime, arguments)
    if isinstance(value, Function):
        return value.call(runtime, arguments)
    if isinstance(value, LoopObject):
        return value.recurse(arguments)
    if isinstance(value, (list, dict, TemplateObject)):
        raise invalid("object is not callable")
    raise invalid(f"value of type {kind_of(value)} is not callable")


def call_method(value: Any, name: str, arguments: list[Any], runtime: Runtime) -> Any:
    """Call ``value.name(...)``: values have no methods, but an item of a map may be callable."""
    if isinstance(value, LoopObject) and name == "cycle":
        return value.cycle(arguments)
    if isinstance(value, LoopObject) and name == "changed":
        return value.changed(arguments, runtime)
    if isinstance(value, dict) and name in value:
        return call_value(value[name], arguments, runtime)
    if isinstance(value, TemplateObject) and value.has(name):
        return call_value(value.attribute(name), arguments, runtime)
    raise TemplateError("unknown method", f"{kind_of(value)} has no method named {name}")


def call_block(name: str, runtime: Runtime) -> str:
    """Output of ``self.name()``."""
    block = runtime.blocks.get(name)
    if block is None:
        raise TemplateError("unknown block", f"block '{name}' not found")
    with runtime.nested():
        return runtime.capture(block)


class CallCompiler:
    """Turns call, filter and test nodes into closures."""

    def __init__(self, expressions: ExpressionCompiler) -> None:
        self._expressions = expressions

    def call(self, node: Call, extra: tuple[str, Evaluate] | None = None) -> Evaluate:
        """Closure of a call; ``extra`` is one more keyword argument (the ``caller`` of a call block)."""
        expressions = self._expressions
        expressions.line = node.line
        target = node.target
        if isinstance(target, Variable):
            return self._call_variable(target.name, self.arguments(node.arguments, extra), expressions.line)
        if isinstance(target, Item) and target.dotted and isinstance(target.key, Constant):
            return self._call_method(target, str(target.key.value), node.arguments, extra)
        evaluate_target = expressions.compile(target)
        arguments = self.arguments(node.arguments, extra)
        line = expressions.line

        def evaluate(runtime: Runtime) -> Any:
            callee, values = evaluate_target(runtime), arguments(runtime)
            try:
                return call_value(callee, values, runtime)
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate

    def _call_variable(self, name: str, arguments: Arguments, line: int) -> Evaluate:
        def evaluate(runtime: Runtime) -> Any:
            values = arguments(runtime)
            try:
                runtime.charge(1)
                callee = runtime.lookup(name)
                if callee is None:
                    if name == "super":
                        raise invalid("cannot super outside of block")
                    raise TemplateError("unknown function", f"{name} is unknown")
                return call_value(callee, values, runtime)
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate

    def _call_method(
        self, target: Item, name: str, argument_nodes: list[Argument], extra: tuple[str, Evaluate] | None
    ) -> Evaluate:
        expressions = self._expressions
        if isinstance(target.target, Variable) and target.target.name == "self":
            line = expressions.line

            def evaluate_block(runtime: Runtime) -> Any:
                try:
                    return call_block(name, runtime)
                except TemplateError as error:
                    raise located(error, line) from None

            return evaluate_block
        owner = expressions.compile(target.target)
        arguments = self.arguments(argument_nodes, extra)
        line = expressions.line

        def evaluate(runtime: Runtime) -> Any:
            value, values = owner(runtime), arguments(runtime)
            try:
                runtime.charge(1)
                return call_method(value, name, values, runtime)
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate

    def filter(self, node: Filter, block_text: Evaluate | None = None) -> Evaluate:
        """Closure of a filter; ``block_text`` is the value of a filter without a target of its own."""
        expressions = self._expressions
        steps: list[tuple[str, Arguments, int]] = []
        chain: list[Filter] = [node]
        while isinstance(chain[-1].target, Filter):
            chain.append(chain[-1].target)
        expressions.line = node.line
        innermost = chain[-1].target
        if innermost is not None:
            source = expressions.compile(innermost)
        else:
            assert block_text is not None
            source = block_text
        for step in reversed(chain):
            steps.append((step.name, self.arguments(step.arguments, None), expressions.line))
        return self._apply_filters(source, steps)

    @staticmethod
    def _apply_filters(source: Evaluate, steps: list[tuple[str, Arguments, int]]) -> Evaluate:
        compiled = [(FILTERS.get(name), name, arguments, line) for name, arguments, line in steps]

        def evaluate(runtime: Runtime) -> Any:
            value = source(runtime)
            for apply, name, arguments, line in compiled:
                values = arguments(runtime)
                try:
                    runtime.charge(1 + (len(value) >> 8) if isinstance(value, str) else 1)
                    if apply is None:
                        raise TemplateError("unknown filter", f"filter {name} is unknown")
                    value = apply(runtime, [value, *values])
                except TemplateError as error:
                    raise located(error, line) from None
            return value

        return evaluate

    def test(self, node: Test) -> Evaluate:
        """Closure of ``target is name(arguments)``."""
        expressions = self._expressions
        expressions.line = node.line
        target = expressions.compile(node.target)
        arguments = self.arguments(node.arguments, None)
        line = expressions.line
        name = node.name
        holds = TESTS.get(name)

        def evaluate(runtime: Runtime) -> bool:
            value, values = target(runtime), arguments(runtime)
            try:
                runtime.charge(1 + (len(value) >> 8) if isinstance(value, str) else 1)
                if holds is None:
                    raise TemplateError("unknown test", f"test {name} is unknown")
                return holds(runtime, [value, *values])
            except TemplateError as error:
                raise located(error, line) from None

        return evaluate

    def arguments(self, nodes: list[Argument], extra: tuple[str, Evaluate] | None) -> Arguments:
        """Closure that yields the argument list; keywords come last, as one ``Keywords``."""
        expressions = self._expressions
        if not nodes and extra is None:
            return lambda runtime: []
        compiled = [(argument.name, argument.splat, expressions.compile(argument.value)) for argument in nodes]
        if extra is not None:
            compiled.append((extra[0], "", extra[1]))
        if all(name is None and not splat for name, splat, _ in compiled):
            values = [value for _, _, value in compiled]
            return lambda runtime: [value(runtime) for value in values]
        line = expressions.line

        def evaluate(runtime: Runtime) -> list[Any]:
            positional: list[Any] = []
            keywords: Keywords | None = None
            for name, splat, value in compiled:
                argument = value(runtime)
                try:
                    if splat == "*":
                        positional.extend(elements(argument))
                        runtime.items(len(positional))
                        continue
                    if not splat and name is None:
                        positional.append(argument)
                        continue
                    keywords = keywords if keywords is not None else Keywords()
                    if name is not None:
                        keywords[name] = argument
                    elif isinstance(argument, dict):
                        runtime.items(len(argument))
                        keywords.update({str(key): item for key, item in argument.items()})
                    elif argument is not None:
                        raise invalid(f"attempted to apply keyword arguments from non map (got {kind_of(argument)})")
                except TemplateError as error:
                    raise located(error, line) from None
            return positional if keywords is None else [*positional, keywords]

        return evaluate
