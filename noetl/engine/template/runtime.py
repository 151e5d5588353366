"""State of one rendering: the budget, the variables in scope, the output under construction."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from noetl.engine.template.errors import TemplateError, invalid
from noetl.engine.template.limits import Budget, Limits, size_of
from noetl.engine.template.printing import escape_html, text_of
from noetl.engine.template.values import SafeString, TemplateObject, admit

Evaluate = Callable[["Runtime"], Any]
Execute = Callable[["Runtime"], None]


class Runtime(Budget):
    """``context`` are the caller's variables (never changed), ``scopes`` those that the template assigns.

    ``escape`` says whether ``autoescape`` is on. ``filters``, ``tests`` and ``functions`` are the built-in names.
    """

    __slots__ = ("blocks", "context", "escape", "filters", "functions", "output_size", "parts", "scopes", "tests")

    def __init__(
        self,
        context: Mapping[str, Any],
        limits: Limits,
        filters: Mapping[str, Callable[[Runtime, list[Any]], Any]],
        tests: Mapping[str, Callable[[Runtime, list[Any]], Any]],
        functions: Mapping[str, Any],
    ) -> None:
        super().__init__(limits)
        self.context = context
        self.filters = filters
        self.tests = tests
        self.functions = functions
        self.scopes: list[dict[str, Any]] = [{}]
        self.parts: list[str] = []
        self.output_size = 0
        self.escape = False
        self.blocks: Mapping[str, Execute] = {}

    def lookup(self, name: str) -> Any:
        """Value of a variable: of the template, else of the context, else a built-in function, else undefined."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return self.lookup_root(name)

    def lookup_root(self, name: str) -> Any:
        """Value of a variable that the template does not assign."""
        if name in self.context:
            return admit(self.context[name])
        return self.functions.get(name)

    def emit(self, text: str) -> None:
        """Append to the output."""
        self.parts.append(text)
        size = size_of(text)
        self.output_size += size
        self.charge(1 + (size >> 6))
        if self.output_size > self.size:
            raise invalid(f"result exceeds the limit of {self.size} bytes")

    def emit_value(self, value: Any) -> None:
        """Print a value as ``{{ }}`` does, escaped where automatic escaping is on."""
        if not self.escape:
            self.emit(text_of(value, self))
        else:
            self.emit(value if isinstance(value, SafeString) else escape_html(text_of(value, self)))

    def capture(self, body: Execute) -> str:
        """Output of ``body`` as a value (safe where automatic escaping is on)."""
        parts, size = self.parts, self.output_size
        self.parts, self.output_size = [], 0
        try:
            body(self)
            text = "".join(self.parts)
        finally:
            self.parts, self.output_size = parts, size
        self.allocate(size_of(text))
        return SafeString(text) if self.escape else text

    @contextmanager
    def nested(self) -> Generator[None]:
        """One level of macro calls or recursive loops deeper."""
        self.depth -= 1
        if self.depth < 0:
            raise invalid("recursion limit exceeded")
        try:
            yield
        finally:
            self.depth += 1


class Function(TemplateObject):
    """A built-in function."""

    __slots__ = ("call", "name")
    kind = "plain object"

    def __init__(self, name: str, call: Callable[[Runtime, list[Any]], Any]) -> None:
        self.name = name
        self.call = call

    def text(self) -> str:
        return f"minijinja::functions::builtins::{self.name}"


def located(error: TemplateError, line: int) -> TemplateError:
    """The error with its line, unless an inner construct knew it already."""
    if not error.line:
        error.line = line
    return error
