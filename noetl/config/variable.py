"""The declaration of one setting: variable, form, default and reason, at the field that holds its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Variable:
    """How one field is read from the environment. Called without arguments it gives the field's default.

    Attributes:
        names: The variable's names; the first that is set wins, and messages call the setting by ``names[0]``.
        parse: Text without surrounding blanks -> value; raises `InvalidValueError`.
        default: The value when no name is set.
        example: A text that `parse` accepts.
        why: One sentence for the operator.
        default_text: How documentation shows a default that is computed or secret.
        secret: The text is never shown, neither in errors nor in reports.
        fatal: An invalid text stops the start; otherwise it is reported and the default is used.
        service_link: A text starting with ``tcp://`` is one that Kubernetes injects for a Service of the same name,
            and counts as unset (spec 60, section 2).
        empty_is_set: An empty text is a value; for all others it means "unset".
    """

    names: tuple[str, ...]
    parse: Callable[[str], object]
    default: object
    example: str
    why: str
    default_text: str | None = None
    secret: bool = False
    fatal: bool = True
    service_link: bool = False
    empty_is_set: bool = False

    def __call__(self) -> object:
        return self.default

    @property
    def name(self) -> str:
        """The documented name."""
        return self.names[0]

    def assignment(self) -> str:
        """A line that sets the variable, for messages."""
        return f"{self.name}={self.example}"


def setting(
    names: str | tuple[str, ...],
    parse: Callable[[str], T],
    default: D,
    example: str,
    why: str,
    *,
    default_text: str | None = None,
    secret: bool = False,
    fatal: bool = True,
    service_link: bool = False,
    empty_is_set: bool = False,
) -> T | D:
    """The default of a struct field that is read from the environment; see `Variable` for the arguments.

    Typed as the field's value, so that the type checker compares field, parser and default. The struct itself can be
    built without an environment: every such field has its default.
    """
    variable = Variable(
        (names,) if isinstance(names, str) else names,
        parse,
        default,
        example,
        why,
        default_text,
        secret,
        fatal,
        service_link,
        empty_is_set,
    )
    return cast("T | D", msgspec.field(default_factory=variable))


def variables_of(group: type[msgspec.Struct]) -> Iterator[tuple[str, Variable]]:
    """Field names and variables that a settings struct declares, in the order of declaration."""
    for field in msgspec.structs.fields(group):
        declared: Any = field.default_factory
        if isinstance(declared, Variable):
            yield field.name, declared
