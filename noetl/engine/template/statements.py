"""Compiles statements to closures that write the output of a runtime (spec 30, section 5.5)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noetl.engine.template.calls import CallCompiler
from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.expressions import ExpressionCompiler
from noetl.engine.template.nodes import (
    AutoEscape,
    Block,
    CallBlock,
    Data,
    Do,
    Expression,
    Extends,
    Filter,
    FilterBlock,
    For,
    If,
    Include,
    Item,
    Macro,
    Output,
    Set,
    SetBlock,
    Statement,
    TargetList,
    Variable,
    With,
)
from noetl.engine.template.objects import LoopObject, MacroObject
from noetl.engine.template.printing import debug_text, text_of
from noetl.engine.template.runtime import Evaluate, Execute, Runtime, located
from noetl.engine.template.syntax_walk import mentions
from noetl.engine.template.values import NONE, Namespace, elements, kind_of, truth

Assign = Callable[[Runtime, Any], None]


class StatementCompiler(ExpressionCompiler):
    """Turns statements into closures; ``blocks`` collects the bodies of ``{% block %}``."""

    def __init__(self, assigned: frozenset[str]) -> None:
        super().__init__(assigned)
        self.blocks: dict[str, Execute] = {}
        self._statements: dict[type[Statement], Callable[[Any], Execute]] = {
            Data: self._data,
            Output: self._output,
            For: self._for,
            If: self._if,
            With: self._with,
            Set: self._set,
            SetBlock: self._set_block,
            FilterBlock: self._filter_block,
            AutoEscape: self._autoescape,
            Macro: self._macro,
            CallBlock: self._call_block,
            Do: self._do,
            Block: self._block,
            Include: self._include,
            Extends: self._extends,
        }

    def body(self, statements: list[Statement]) -> Execute:
        """Closure that runs the statements in order."""
        compiled: list[Execute] = []
        for statement in statements:
            self.line = statement.line
            compiled.append(self._statements[type(statement)](statement))
        if len(compiled) == 1:
            return compiled[0]

        def execute(runtime: Runtime) -> None:
            for run in compiled:
                run(runtime)

        return execute

    def _data(self, node: Data) -> Execute:
        text, line = node.text, node.line

        def execute(runtime: Runtime) -> None:
            try:
                runtime.emit(text)
            except TemplateError as error:
                raise located(error, line) from None

        return execute

    def _output(self, node: Output) -> Execute:
        value = self.compile(node.value)
        line = self.line

        def execute(runtime: Runtime) -> None:
            result = value(runtime)
            try:
                runtime.emit_value(result)
            except TemplateError as error:
                raise located(error, line) from None

        return execute

    def _target(self, target: Expression) -> Assign:
        self.line = target.line
        if isinstance(target, Variable):
            name = target.name

            def assign(runtime: Runtime, value: Any) -> None:
                runtime.scopes[-1][name] = value

            return assign
        if isinstance(target, Item):
            return self._attribute_target(target)
        assert isinstance(target, TargetList)
        return self._unpack([self._target(item) for item in target.items], target.line)

    def _attribute_target(self, target: Item) -> Assign:
        owner, key = self.compile(target.target), self.compile(target.key)
        line = self.line

        def assign(runtime: Runtime, value: Any) -> None:
            namespace = owner(runtime)
            if not isinstance(namespace, Namespace):
                raise located(invalid(f"can only assign to namespaces, not {kind_of(namespace)}"), line)
            namespace.attributes[key(runtime)] = value

        return assign

    def _unpack(self, targets: list[Assign], line: int) -> Assign:
        def assign(runtime: Runtime, value: Any) -> None:
            if not isinstance(value, list):
                raise TemplateError("cannot unpack", "value is not iterable", line)
            if len(value) != len(targets):
                got = len(value)
                raise TemplateError(
                    "cannot unpack", f"sequence of wrong length (expected {len(targets)}, got {got})", line
                )
            for target, item in zip(targets, elements(value), strict=True):
                target(runtime, item)

        return assign

    def _for(self, node: For) -> Execute:
        collection = self.compile(node.collection)
        line = self.line
        assign = self._target(node.target)
        condition = self.compile(node.condition) if node.condition is not None else None
        body = self.body(node.body)
        otherwise = self.body(node.otherwise)

        def select(runtime: Runtime, value: Any) -> list[Any]:
            kept: list[Any] = []
            for item in elements(value):
                runtime.charge(1)
                if condition is not None:
                    runtime.scopes.append({})
                    try:
                        assign(runtime, item)
                        if not truth(condition(runtime)):
                            continue
                    finally:
                        runtime.scopes.pop()
                kept.append(item)
            runtime.items(len(kept))
            return kept

        def run(runtime: Runtime, value: Any, depth: int) -> None:
            try:
                items = select(runtime, value)
            except TemplateError as error:
                raise located(error, line) from None
            if not items:
                otherwise(runtime)
                return

            def recurse(children: Any) -> str:
                with runtime.nested():
                    return runtime.capture(lambda inner: run(inner, children, depth + 1))

            loop = LoopObject(items, depth, recurse if node.recursive else None)
            scope: dict[str, Any] = {}
            runtime.scopes.append(scope)
            try:
                for item in loop.rounds():
                    runtime.charge(1)
                    scope.clear()
                    scope["loop"] = loop
                    assign(runtime, item)
                    body(runtime)
            except TemplateError as error:
                raise located(error, line) from None
            finally:
                runtime.scopes.pop()

        return lambda runtime: run(runtime, collection(runtime), 0)

    def _if(self, node: If) -> Execute:
        branches: list[tuple[Evaluate, Execute]] = []
        for condition, body in node.branches:
            test = self.compile(condition)
            branches.append((test, self.body(body)))
        otherwise = self.body(node.otherwise)

        def execute(runtime: Runtime) -> None:
            for condition, body in branches:
                if truth(condition(runtime)):
                    body(runtime)
                    return
            otherwise(runtime)

        return execute

    def _with(self, node: With) -> Execute:
        assignments = [(self.compile(value), self._target(target)) for target, value in node.assignments]
        body = self.body(node.body)

        def execute(runtime: Runtime) -> None:
            runtime.scopes.append({})
            try:
                for value, assign in assignments:
                    assign(runtime, value(runtime))
                body(runtime)
            finally:
                runtime.scopes.pop()

        return execute

    def _set(self, node: Set) -> Execute:
        value, assign = self.compile(node.value), self._target(node.target)
        return lambda runtime: assign(runtime, value(runtime))

    def _captured(self, body: Execute, chain: Expression | None) -> Evaluate:
        def text(runtime: Runtime) -> Any:
            return runtime.capture(body)

        if chain is None:
            return text
        assert isinstance(chain, Filter)
        return CallCompiler(self).filter(chain, text)

    def _set_block(self, node: SetBlock) -> Execute:
        value = self._captured(self.body(node.body), node.filter)
        assign = self._target(node.target)
        return lambda runtime: assign(runtime, value(runtime))

    def _filter_block(self, node: FilterBlock) -> Execute:
        value = self._captured(self.body(node.body), node.filter)
        return lambda runtime: runtime.emit_value(value(runtime))

    def _autoescape(self, node: AutoEscape) -> Execute:
        mode = self.compile(node.mode)
        line = self.line
        body = self.body(node.body)

        def execute(runtime: Runtime) -> None:
            value = mode(runtime)
            outer = runtime.escape
            if value is True or value == "html":
                runtime.escape = True
            elif value is False or value is NONE or value == "none":
                runtime.escape = False
            else:
                raise located(invalid("invalid value to autoescape tag"), line)
            try:
                body(runtime)
            finally:
                runtime.escape = outer

        return execute

    def _macro_object(self, node: Macro) -> Evaluate:
        parameters: list[tuple[str, Evaluate | None]] = [
            (name, self.compile(default) if default is not None else None) for name, default in node.parameters
        ]
        body = self.body(node.body)
        takes_caller = mentions(node.body, "caller")
        return lambda runtime: MacroObject(node.name, parameters, body, takes_caller, list(runtime.scopes))

    def _macro(self, node: Macro) -> Execute:
        make = self._macro_object(node)

        def execute(runtime: Runtime) -> None:
            runtime.charge(1)
            runtime.scopes[-1][node.name] = make(runtime)

        return execute

    def _call_block(self, node: CallBlock) -> Execute:
        call = CallCompiler(self).call(node.call, ("caller", self._macro_object(node.caller)))
        return lambda runtime: runtime.emit_value(call(runtime))

    def _do(self, node: Do) -> Execute:
        call = self.compile(node.call)

        def execute(runtime: Runtime) -> None:
            call(runtime)

        return execute

    def _block(self, node: Block) -> Execute:
        body = self.body(node.body)

        def execute(runtime: Runtime) -> None:
            runtime.scopes.append({})
            try:
                body(runtime)
            finally:
                runtime.scopes.pop()

        self.blocks[node.name] = execute
        return execute

    def _include(self, node: Include) -> Execute:
        name = self.compile(node.name)
        line = node.line

        def execute(runtime: Runtime) -> None:
            value = name(runtime)
            if node.ignore_missing:
                return
            if isinstance(value, list):
                detail = (
                    f"tried to include one of multiple templates, none of which existed {debug_text(value, runtime)}"
                )
            elif isinstance(value, str):
                detail = f"tried to include non-existing template {debug_text(value, runtime)}"
            else:
                raise invalid_name(line)
            raise TemplateError("template not found", detail, line)

        return execute

    def _extends(self, node: Extends) -> Execute:
        name = self.compile(node.name)
        line = node.line

        def execute(runtime: Runtime) -> None:
            value = name(runtime)
            if not isinstance(value, str):
                raise invalid_name(line)
            raise TemplateError("template not found", f'template "{text_of(value, runtime)}" does not exist', line)

        return execute


def invalid_name(line: int) -> TemplateError:
    """A template name that is no string."""
    return located(invalid("template name was not a string"), line)
