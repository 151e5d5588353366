"""From a claimed command to its result: second rendering, credentials, the tool, pipelines (spec 30, section 13)."""

# Commands and results are JSON of any shape; what is read out of them stays untyped.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from noetl.client import NoetlClientError
from noetl.dev.tools.database import run_postgres
from noetl.dev.tools.outcome import ToolFailure, ToolResult
from noetl.dev.tools.playbook import run_playbook
from noetl.dev.tools.scripts import run_python, run_shell
from noetl.dev.tools.web import run_http
from noetl.engine.template import TemplateError, render_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from noetl.dev.control_plane import ControlPlane

    Tool = Callable[[Mapping[str, Any], Mapping[str, Any]], Awaitable[ToolResult]]

log = logging.getLogger("noetl.worker")

REAL_WORKER: Final = "the real worker (noetl-worker) runs it"


async def _noop(_config: Mapping[str, Any], _variables: Mapping[str, Any]) -> ToolResult:
    return ToolResult("success", {"message": "noop", "status": "ok"})


class CommandExecutor:
    """Runs the tool of a command."""

    def __init__(self, server: ControlPlane) -> None:
        async def sub_playbook(config: Mapping[str, Any], variables: Mapping[str, Any]) -> ToolResult:
            return await run_playbook(config, variables, server)

        self._server = server
        self._tools: dict[str, Tool] = {
            "noop": _noop,
            "python": run_python,
            "shell": run_shell,
            "http": run_http,
            "postgres": run_postgres,
            "playbook": sub_playbook,
        }

    async def run(self, kind: str, context: Mapping[str, Any], variables: Mapping[str, Any]) -> ToolResult:
        """Run a command of this kind.

        Args:
            kind: ``action`` of the claim.
            context: its ``context``: ``tool_config``, ``args``, ``render_context``.
            variables: what templates that are left may see beside the render context.

        Raises:
            ToolFailure: the tool cannot be run.
        """
        names = {**(context.get("render_context") or {}), **variables}
        config = context.get("tool_config")
        if isinstance(config, list):
            return await self._run_pipeline(cast("list[Any]", config), names)
        members: dict[str, Any] = dict(cast("dict[str, Any]", config)) if isinstance(config, dict) else {}
        members.setdefault("args", context.get("args") or {})
        return await self._run_tool(kind, members, names)

    async def _run_pipeline(self, tasks: list[Any], names: dict[str, Any]) -> ToolResult:
        """Run labelled tasks in order; each sees ``_prev`` and ``_results``, the first that fails ends the pipeline."""
        results: dict[str, Any] = {}
        last = ToolResult("success")
        duration = 0
        previous: Any = None
        for index, task in enumerate(tasks):
            label, config = next(iter(cast("dict[str, dict[str, Any]]", task).items()))
            seen = {**names, "_prev": previous, "_results": results}
            last = await self._run_tool(str(config.get("kind")), config, seen)
            duration += last.duration_ms or 0
            previous = results[label] = last.members().get("data")
            if not last.succeeded:
                last.data = {"labeled_results": results, "failed_task": index}
                return last
        last.data = results
        last.duration_ms = duration
        return last

    async def _run_tool(self, kind: str, config: Mapping[str, Any], names: Mapping[str, Any]) -> ToolResult:
        tool = self._tools.get(kind)
        if tool is None:
            known = ", ".join(sorted(self._tools))
            raise ToolFailure(f"Tool not found: {kind} (the local worker knows {known}; {REAL_WORKER})")
        try:
            rendered = render_value(dict(config), names)
        except TemplateError as error:
            raise ToolFailure(f"Template error: {error}") from error
        alias = rendered.get("auth") or rendered.get("credential")
        if isinstance(alias, str):
            rendered = await self._with_credential(rendered, alias, names)
        try:
            return await tool(rendered, names)
        except ToolFailure:
            raise
        except Exception as error:  # whatever a tool trips over is the step's failure, never the worker's
            log.exception("Tool failed unexpectedly")
            raise ToolFailure(f"{kind}: {type(error).__name__}: {error}") from error

    async def _with_credential(self, config: dict[str, Any], alias: str, names: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a credential alias by what it stands for."""
        try:
            credential = await self._server.credentials.get(
                alias, include_data=True, execution_id=names.get("execution_id")
            )
        except NoetlClientError as error:
            raise ToolFailure(f"Credential '{alias}': {error}") from error
        return {**config, "auth": {"type": credential.type, **(credential.data or {})}}
