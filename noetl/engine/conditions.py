"""Conditions of steps and arcs, and the items of a loop (spec 30, section 6)."""

# Values of a template are untyped by nature; narrowing them with isinstance leaves the type of the elements unknown.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from noetl.engine.template import DEFAULT_LIMITS, TemplateError, is_template, render_and_coerce, render_text
from noetl.engine.template.lexer import WHITE_SPACE
from noetl.errors import UnprocessableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noetl.engine.template import Limits

MAX_COUNTED_ITEMS = 1_000_000
"""Most rounds of a loop over a number; more would only fill the memory."""

_TRUE_TEXTS = frozenset({"true", "1", "yes"})
_SEPARATOR = re.compile(r"[,\n]")
_JSON_KINDS: dict[type, str] = {dict: "object", str: "string", int: "number", float: "number", bool: "bool"}


class NotIterableError(Exception):
    """``loop.in`` of a step yields a boolean or null; ``str(error)`` is the message of the failed execution."""

    def __init__(self, text: str) -> None:
        super().__init__(f"Validation error: Loop expression did not evaluate to an iterable: {text}")


def evaluate_condition(text: str, context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a ``when`` holds: it renders to ``true``, ``1`` or ``yes`` in any case (section 6.1).

    Raises TemplateError.
    """
    return render_text(condition_template(text), context, limits).strip(WHITE_SPACE).lower() in _TRUE_TEXTS


def condition_template(text: str) -> str:
    """The template that a ``when`` is; without braces the whole text is one expression."""
    return text if is_template(text) else f"{{{{ {text} }}}}"


def loop_items(text: str, context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """Items of a loop in the middle of a workflow (section 6.2). Raises TemplateError and NotIterableError."""
    value = render_and_coerce(text, context, limits)
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [{"key": key, "value": value[key]} for key in sorted(value)]
    if isinstance(value, str):
        parts = (part.strip(WHITE_SPACE) for part in _SEPARATOR.split(value))
        return [part for part in parts if part]
    if isinstance(value, bool) or value is None:
        raise NotIterableError(text)
    if isinstance(value, float) or value < 0:
        return []
    if value > MAX_COUNTED_ITEMS:
        raise TemplateError("invalid operation", f"a loop over {value} exceeds the limit of {MAX_COUNTED_ITEMS} items")
    return list(range(value))


def start_loop_items(text: str, context: Mapping[str, Any], limits: Limits = DEFAULT_LIMITS) -> list[Any]:
    """Items of a loop on the start step: a list and nothing else (section 6.2).

    Raises TemplateError and UnprocessableError.
    """
    value = render_and_coerce(text, context, limits)
    if isinstance(value, list):
        return value
    kind = _JSON_KINDS.get(type(value), "null")
    raise UnprocessableError(f"start step loop.in must resolve to a JSON array, got: {kind}")
