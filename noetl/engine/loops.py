"""Progress of one loop: what was issued, what came back, and what its later iterations are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from noetl.engine.reading import as_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class LoopState:
    """Bookkeeping of a looped step (spec 30, section 9.3).

    ``completed`` counts distinct completed iterations; ``elements`` are their results by the event id of the command,
    in order of arrival, until the loop ends; ``reported`` the tool results that arrived ahead of the completion.
    ``entry`` is the render context of the first iteration, kept while iterations remain to be issued (V9); ``items``
    the collection found in it, remembered so that each further iteration costs the same.
    """

    __slots__ = (
        "completed", "dispatched", "elements", "entry", "entry_bytes", "expected", "held_bytes", "items", "reported",
    )  # fmt: skip

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.dispatched = 0
        self.completed = 0
        self.elements: dict[int, Any] = {}
        self.reported: dict[int, dict[str, Any]] = {}
        self.entry: dict[str, Any] | None = None
        self.entry_bytes = 0
        self.held_bytes = 0
        self.items: list[Any] | None = None

    @property
    def is_partly_issued(self) -> bool:
        """Whether iterations remain to be issued."""
        return self.dispatched < self.expected

    def report(self, command: int, envelope: Any) -> None:
        """Take the tool result of an iteration, before or after its completion."""
        if not isinstance(envelope, dict):
            return
        addition = cast("dict[str, Any]", envelope)
        if command in self.elements:
            self.elements[command] = with_tool_result(self.elements[command], addition)
        else:
            self.reported[command] = addition

    def complete(self, command: int, envelope: Any, *, is_repaired: bool) -> None:
        """Count the completion of an iteration, once per command; the caller sees to that."""
        self.completed += 1
        addition = self.reported.pop(command, None)
        if is_repaired and addition is not None:
            envelope = with_tool_result(envelope, addition)
        if envelope is not None:
            self.elements[command] = envelope

    def collect(self, index_of: Callable[[int], int] | None) -> list[Any]:
        """The results in index order, or in order of arrival if ``index_of`` is None."""
        order = list(self.elements) if index_of is None else sorted(self.elements, key=index_of)
        return [self.elements[command] for command in order]

    def drop_results(self) -> None:
        """Forget the single results: the loop is over, and what counts of them is the result of the step."""
        self.elements = {}
        self.reported = {}


def with_tool_result(element: Any, envelope: Mapping[str, Any]) -> Any:
    """The envelope of a ``command.completed`` plus what its ``call.done`` carried (spec 30, section 16, V3).

    The tool's result becomes ``context.result``; a result that is only referred to adds ``reference``. Nothing that the
    element has is replaced, and the element itself is not changed.
    """
    if element is None:
        element = {}
    if not isinstance(element, dict):
        return element
    members = cast("dict[str, Any]", element)
    context = as_object(envelope.get("context"))
    if "result" in context:
        own = members.get("context")
        if own is None or (isinstance(own, dict) and "result" not in own):
            return {**members, "context": {**as_object(own), "result": context["result"]}}
    elif "reference" in envelope and "reference" not in members:
        return {**members, "reference": envelope["reference"]}
    return members
