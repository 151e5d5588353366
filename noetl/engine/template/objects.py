"""Values that only a running template has: macros and the ``loop`` variable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from noetl.engine.template.errors import invalid, too_many_arguments
from noetl.engine.template.values import Keywords, TemplateObject, equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from noetl.engine.template.runtime import Evaluate, Execute, Runtime


class MacroObject(TemplateObject):
    """A macro together with the variables around its definition, which it sees as they change."""

    __slots__ = ("_body", "_parameters", "_scopes", "_takes_caller", "name")

    def __init__(
        self,
        name: str,
        parameters: list[tuple[str, Evaluate | None]],
        body: Execute,
        takes_caller: bool,
        scopes: list[dict[str, Any]],
    ) -> None:
        self.name = name
        self._parameters = parameters
        self._body = body
        self._takes_caller = takes_caller
        self._scopes = scopes

    def attribute(self, name: Any) -> Any:
        if name == "name":
            return self.name
        if name == "arguments":
            return [parameter for parameter, _ in self._parameters]
        return self._takes_caller if name == "caller" else None

    def keys(self) -> list[Any]:
        return ["name", "arguments", "caller"]

    def text(self) -> str:
        return f"<macro {self.name}>"

    def call(self, runtime: Runtime, arguments: list[Any]) -> str:
        """Output of the macro. Errors: too many, duplicate or unknown arguments."""
        given, scope = self._bind(arguments)
        outer = runtime.scopes
        runtime.scopes = [*self._scopes, scope]
        try:
            with runtime.nested():
                # The last parameter is bound first: a default sees the parameters after its own, not those before.
                for name, default in reversed(self._parameters):
                    value = given[name]
                    scope[name] = default(runtime) if value is None and default is not None else value
                return runtime.capture(self._body)
        finally:
            runtime.scopes = outer

    def _bind(self, arguments: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Values by parameter, and the scope of the call with ``caller`` if the macro uses it."""
        keywords: dict[str, Any] = {}
        if arguments and isinstance(arguments[-1], Keywords):
            keywords = dict(arguments[-1])
            arguments = arguments[:-1]
        if len(arguments) > len(self._parameters):
            raise too_many_arguments()
        given: dict[str, Any] = {}
        for index, (name, _) in enumerate(self._parameters):
            if index < len(arguments):
                if name in keywords:
                    raise too_many_arguments(f"duplicate argument `{name}`")
                given[name] = arguments[index]
            else:
                given[name] = keywords.pop(name, None)
        scope: dict[str, Any] = {"caller": keywords.pop("caller", None)} if self._takes_caller else {}
        for name in keywords:
            raise too_many_arguments(f"unknown keyword argument `{name}`")
        return given, scope


class LoopObject(TemplateObject):
    """The variable ``loop`` of a ``for``; iterating it is the loop."""

    __slots__ = ("_changed", "_items", "_recurse", "depth", "index")
    _ATTRIBUTES = (
        "index0",
        "index",
        "length",
        "revindex",
        "revindex0",
        "first",
        "last",
        "depth",
        "depth0",
        "previtem",
        "nextitem",
    )

    def __init__(self, items: list[Any], depth: int, recurse: Callable[[Any], Any] | None) -> None:
        self._items = items
        self._recurse = recurse
        self._changed: list[Any] | None = None
        self.depth = depth
        self.index = -1

    def rounds(self) -> Iterator[Any]:
        """Step through the items."""
        for index, item in enumerate(self._items):
            self.index = index
            yield item

    def attribute(self, name: Any) -> Any:
        index, length = self.index, len(self._items)
        match name:
            case "index0":
                return index
            case "index":
                return index + 1
            case "length":
                return length
            case "revindex":
                return length - index
            case "revindex0":
                return length - index - 1
            case "first":
                return index == 0
            case "last":
                return index == length - 1
            case "depth":
                return self.depth + 1
            case "depth0":
                return self.depth
            case "previtem":
                return self._items[index - 1] if index > 0 else None
            case "nextitem":
                return self._items[index + 1] if index + 1 < length else None
            case _:
                return None

    def has(self, name: Any) -> bool:
        return name in self._ATTRIBUTES

    def keys(self) -> list[Any]:
        return list(self._ATTRIBUTES)

    def text(self) -> str:
        return f"<loop {self.index}/{len(self._items)}>"

    def cycle(self, arguments: list[Any]) -> Any:
        """The argument whose turn it is."""
        if not arguments:
            raise invalid("loop.cycle needs at least one argument")
        return arguments[self.index % len(arguments)]

    def changed(self, arguments: list[Any], runtime: Runtime) -> bool:
        """Whether the arguments differ from those of the round before."""
        if self._changed is not None and equal(self._changed, arguments, runtime):
            return False
        self._changed = arguments
        return True

    def recurse(self, arguments: list[Any]) -> Any:
        """Output of the loop over other items (``loop(items)``)."""
        if self._recurse is None:
            raise invalid("cannot recurse outside of recursive loop")
        if len(arguments) != 1:
            raise invalid("loop() takes one argument")
        return self._recurse(arguments[0])
