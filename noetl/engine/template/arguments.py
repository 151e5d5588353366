"""Converts and counts the arguments of filters, tests and functions (spec 30, section 5.6: arity is strict)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from noetl.engine.template.errors import invalid, missing_argument, too_many_arguments
from noetl.engine.template.printing import text_of
from noetl.engine.template.runtime import Runtime
from noetl.engine.template.values import INT64_MAX, INT64_MIN, NONE, Keywords, kind_of

Convert = Callable[[Any, Runtime], Any]
Callee = Callable[[Runtime, list[Any]], Any]


def anything(value: Any, runtime: Runtime) -> Any:
    """The value as it is."""
    return value


def text(value: Any, runtime: Runtime) -> str:
    """The printed form of any value but keyword arguments."""
    if isinstance(value, Keywords):
        raise invalid("cannot convert kwargs to string")
    return text_of(value, runtime)


def string(value: Any, runtime: Runtime) -> str:
    """A string and nothing else."""
    if isinstance(value, str):
        return value
    raise invalid("value is not a string")


def boolean(value: Any, runtime: Runtime) -> bool:
    """A boolean and nothing else."""
    if isinstance(value, bool):
        return value
    raise invalid(f"cannot convert {kind_of(value)} to bool")


def _bounded(name: str, least: int, greatest: int) -> Convert:
    def convert(value: Any, runtime: Runtime) -> int:
        if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            number = int(value)
            if least <= number <= greatest:
                return number
        raise invalid(f"cannot convert {kind_of(value)} to {name}")

    return convert


count = _bounded("usize", 0, sys.maxsize)
signed = _bounded("isize", INT64_MIN, INT64_MAX)
precision = _bounded("i32", -(2**31), 2**31 - 1)


def takes(*converters: Convert, optional: int = 0) -> Callable[[Callable[..., Any]], Callee]:
    """Decorator for ``function(runtime, *converted arguments)``.

    The last ``optional`` arguments are None when absent, undefined or none. Raises the errors ``missing argument`` and
    ``too many arguments``, and those of the converters.
    """
    required = len(converters) - optional

    def decorate(function: Callable[..., Any]) -> Callee:
        def call(runtime: Runtime, values: list[Any]) -> Any:
            converted: list[Any] = []
            for index, convert in enumerate(converters):
                if index >= len(values):
                    if index < required:
                        raise missing_argument()
                    converted.append(None)
                elif index >= required and (values[index] is None or values[index] is NONE):
                    converted.append(None)
                else:
                    converted.append(convert(values[index], runtime))
            if len(values) > len(converters):
                raise too_many_arguments()
            return function(runtime, *converted)

        return call

    return decorate


def split_keywords(values: list[Any], names: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments; a keyword that is not among ``names`` is an error."""
    if not values or not isinstance(values[-1], Keywords):
        return values, {}
    keywords = dict(values[-1])
    for name in keywords:
        if name not in names:
            raise too_many_arguments(f"unknown keyword argument '{name}'")
    return values[:-1], keywords
