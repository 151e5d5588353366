"""From a step and its context to the commands that run it (spec 30, sections 7.5 and 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from noetl.engine.context import INDEX_KEY, TOTAL_KEY, iteration_context, tool_context
from noetl.engine.decisions import CommandDraft, Iteration
from noetl.engine.playbook.model import Loop, LoopMode
from noetl.engine.template import render_pipeline, render_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from noetl.engine.playbook.model import Step


def plain_command(step: Step, context: dict[str, Any]) -> CommandDraft:
    """The command of a step without a loop; ``context`` becomes its render context.

    Raises:
        TemplateError: the tool config cannot be rendered.
    """
    return CommandDraft(step.name, step.tool_kind, _tool_config(step, context), dict(step.args), context)


def iteration_commands(
    step: Step, loop: Loop, context: dict[str, Any], items: Sequence[Any], indexes: Iterable[int], total: int
) -> list[CommandDraft]:
    """The commands of some iterations; ``context`` is the one in which the loop was entered, ``items`` the collection.

    Raises:
        TemplateError: the tool config cannot be rendered.
    """
    commands: list[CommandDraft] = []
    for index in indexes:
        own = iteration_context(context, loop.iterator, items[index], index, total)
        config = _tool_config(step, own)
        if isinstance(config, dict):
            config = _with_iteration_arguments(cast("dict[str, Any]", config), loop.iterator, own)
        iteration = Iteration(index, total, loop.iterator)
        commands.append(CommandDraft(step.name, step.tool_kind, config, dict(step.args), own, iteration))
    return commands


def in_flight_limit(loop: Loop) -> int | None:
    """How many iterations may be under way at once; None = all. A ``max_in_flight`` below 1 limits nothing."""
    if loop.mode is LoopMode.SEQUENTIAL:
        return 1
    limit = loop.max_in_flight
    return limit if limit is not None and limit > 0 else None


def _tool_config(step: Step, context: dict[str, Any]) -> Any:
    config = step.tool_config
    if isinstance(config, list):
        return render_pipeline(config, tool_context(context), step.limits)
    return render_value(config, tool_context(context), step.limits)


def _with_iteration_arguments(config: dict[str, Any], variable: str, context: dict[str, Any]) -> dict[str, Any]:
    arguments = config.get("args", {})
    if not isinstance(arguments, dict):
        return config
    own = {name: context[name] for name in (variable, INDEX_KEY, TOTAL_KEY)}
    return {**config, "args": {**cast("dict[str, Any]", arguments), **own}}
