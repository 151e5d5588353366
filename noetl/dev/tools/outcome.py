"""What a tool run ends with (spec 20, section 6.9)."""

from __future__ import annotations

from typing import Any

import msgspec


class ToolResult(msgspec.Struct, omit_defaults=True):
    """A tool ran, well or not; ``status`` is ``success``, ``error`` or ``timeout``. Absent members are left out."""

    status: str
    data: Any = msgspec.UNSET
    error: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None
    duration_ms: int | None = None

    @property
    def succeeded(self) -> bool:
        """Whether a pipeline goes on after this task."""
        return self.status == "success"

    def members(self) -> dict[str, Any]:
        """The result as JSON members."""
        members = msgspec.to_builtins(self)
        if self.data is not msgspec.UNSET:
            members["data"] = self.data
        return members


class ToolFailure(Exception):
    """A tool could not be run at all; the step fails with this message."""
