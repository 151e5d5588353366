"""The ``playbook`` kind: starts another execution, and with ``return_step`` waits for its end."""

# Commands and results are JSON of any shape; what is read out of them stays untyped.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from noetl.client import NoetlClientError
from noetl.dev.tools.outcome import ToolFailure, ToolResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from noetl.dev.control_plane import ControlPlane

WAIT_SECONDS: Final = 300.0


async def run_playbook(config: Mapping[str, Any], variables: Mapping[str, Any], server: ControlPlane) -> ToolResult:
    """Execute ``path`` (or ``catalog_id``) with ``args`` as its payload (spec 30, section 12)."""
    path, catalog_id = config.get("path"), config.get("catalog_id")
    if path is None and catalog_id is None:
        raise ToolFailure("playbook: 'path' or 'catalog_id' is required")
    try:
        started = await server.executions.start(
            path,
            config.get("args") or config.get("payload") or {},
            catalog_id=catalog_id,
            version=config.get("version"),
            parent_execution_id=variables.get("execution_id"),
        )
    except NoetlClientError as error:
        raise ToolFailure(f"playbook {path or catalog_id}: {error}") from error
    child = str(started.execution_id)
    if not config.get("return_step"):
        return ToolResult("success", {"async": True, "status": "started", "execution_id": child, "path": path})
    pause = max(1.0, float(config.get("poll_interval") or 2))
    deadline = monotonic() + WAIT_SECONDS
    while monotonic() < deadline:
        try:
            status = await server.call("GET", f"/api/executions/{child}/status")
        except NoetlClientError:
            status = {}
        if status.get("completed") is True or status.get("failed") is True:
            return ToolResult("success", status)
        await asyncio.sleep(pause)
    return ToolResult(
        "success", {"status": "timeout", "execution_id": child, "timeout_seconds": int(WAIT_SECONDS)}
    )  # fmt: skip
