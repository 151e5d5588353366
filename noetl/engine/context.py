"""The render context: what templates of a step can see (spec 30, section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from noetl.engine.reading import as_object
from noetl.engine.template import DEFAULT_LIMITS, TemplateError, render_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noetl.engine.playbook.model import Arc
    from noetl.engine.state import ExecutionState
    from noetl.engine.template import Limits

INDEX_KEY: Final = "_index"
TOTAL_KEY: Final = "_total"
_SCOPES: Final = frozenset({"ctx", "iter", "step"})


def flatten(value: Any) -> Any:
    """Undo the labels of a pipeline: a non-empty object of objects also shows the members of its values.

    The members are merged in ascending order of label, so the last label wins; other values are returned as they are
    (spec 30, section 7.3).
    """
    members = as_object(value)
    if not members:
        return value
    if not all(isinstance(inner, dict) for inner in members.values()):
        return members
    merged = dict(members)
    for label in sorted(members):
        merged.update(members[label])
    return merged


def user_data(result: Any) -> Any:
    """What ``{{ step }}`` is, for the stored result envelope of the step (spec 30, section 7.3)."""
    data: Any = result
    envelope = as_object(result)
    if "context" in envelope:
        context = as_object(envelope["context"])
        inner = as_object(as_object(context.get("result")).get("context"))
        if "data" in inner:
            data = flatten(inner["data"])
        elif "data" in context:
            data = flatten(context["data"])
        else:
            data = envelope["context"]
    if not isinstance(data, dict) or "data" in data:
        return cast("Any", data)
    members = as_object(cast("Any", data))
    return {**members, "data": members}


def start_workload(defaults: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a run: the playbook's defaults, overlaid key by key with the request's payload."""
    return {**defaults, **payload}


def start_context(workload: dict[str, Any]) -> dict[str, Any]:
    """The context of the start step at `/api/execute`: no ids and no steps (spec 30, section 7.1)."""
    return {**workload, "workload": workload}


def build_context(state: ExecutionState, empty_loops: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The context of everything that follows the start (spec 30, section 7.2).

    ``empty_loops`` are results that the running decision itself has produced and the state does not have yet. The
    members are shared with the state: nobody may change them. Costs one shallow copy, whatever the results weigh.
    """
    workload = state.workload
    context = dict(as_object(workload))
    if workload is not None:
        context["workload"] = workload
    context.update(state.user_data)
    envelopes = dict(state.envelopes)
    if empty_loops:
        context.update(empty_loops)
        envelopes.update(empty_loops)
    context["steps"] = envelopes
    context["execution_id"] = str(state.execution_id)
    context["catalog_id"] = str(state.catalog_id)
    if state.path is not None:
        context["path"] = state.path
    if state.version is not None:
        context["version"] = state.version
    return context


def tool_context(context: dict[str, Any]) -> dict[str, Any]:
    """A copy for rendering a tool config, with the names ``ctx`` and ``workload`` (spec 30, section 7.4)."""
    return {"ctx": context, "workload": context, **context}


def iteration_context(context: Mapping[str, Any], variable: str, item: Any, index: int, total: int) -> dict[str, Any]:
    """A copy with the three names of an iteration (spec 30, section 7.5)."""
    return {**context, variable: item, INDEX_KEY: index, TOTAL_KEY: total}


def without_iteration(
    context: Mapping[str, Any], variable: str, surroundings: Mapping[str, Any]
) -> dict[str, Any]:  # fmt: skip
    """The context in which a loop was entered, from the one of its first iteration.

    The names of the iteration may have hidden names that the collection is made of; what the run's ``surroundings``
    know under them comes back.
    """
    entry = dict(context)
    for name in (variable, INDEX_KEY, TOTAL_KEY):
        if name in surroundings:
            entry[name] = surroundings[name]
        else:
            entry.pop(name, None)
    return entry


def context_of_arc(
    arc: Arc, context: dict[str, Any], warnings: list[str], limits: Limits = DEFAULT_LIMITS
) -> dict[str, Any]:
    """The context of an arc's target: the list form's ``args`` verbatim, a router's ``set`` rendered (section 7.6).

    The values of one ``set`` do not see each other. A value that cannot be rendered stays as it is written, and
    ``warnings`` gets a line about it.
    """
    if arc.arguments:
        return {**context, **arc.arguments}
    if not arc.assignments:
        return context
    assigned: dict[str, Any] = {}
    for key, value in arc.assignments.items():
        scope, dot, name = key.partition(".")
        try:
            rendered = render_value(value, context, limits)
        except TemplateError as error:
            warnings.append(f"arc to step '{arc.target}': set '{key}' is used unrendered: {error}")
            rendered = value
        assigned[name if dot and scope in _SCOPES else key] = rendered
    return {**context, **assigned}
