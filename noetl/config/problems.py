"""What is wrong with a configuration, said so that the reader can repair it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class InvalidValueError(ValueError):
    """A text that a variable cannot take; ``str(error)`` says why, without the text when it may be secret."""


class Problem(msgspec.Struct, frozen=True):
    """One refused value: the variable, what is wrong with it, and an assignment that would be accepted."""

    variable: str
    reason: str
    example: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.reason}; example: {self.example}"


class Notice(msgspec.Struct, frozen=True):
    """Something accepted that the operator should know; logged once at the start. ``level`` is a `logging` name."""

    level: str
    message: str


class ConfigurationError(Exception):
    """The configuration cannot be used; ``problems`` holds every refused value, not only the first.

    ``str(error)`` has one line per problem. The command line prints it and exits with code 2.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)
