"""The kinds that run a child process: ``python`` and ``shell``."""

# Commands and results are JSON of any shape; what is read out of them stays untyped.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from noetl.dev.tools.outcome import ToolFailure, ToolResult
from noetl.dev.tools.processes import run_process, timed_out

if TYPE_CHECKING:
    from collections.abc import Mapping

_RUNNER = Path(__file__).with_name("python_runner.py")


async def run_python(config: Mapping[str, Any], variables: Mapping[str, Any]) -> ToolResult:
    """Run ``code`` in an interpreter of its own; ``args`` are its variables, ``result`` its result."""
    code = config.get("code")
    if not isinstance(code, str):
        raise ToolFailure("python: 'code' must be a string")
    arguments = config.get("args")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise ToolFailure("python: 'args' must be a mapping")
    timeout = timeout_of(config)
    context = {name: variables.get(name) for name in ("execution_id", "step", "server_url")}
    context |= {"args": arguments, "variables": dict(variables)}
    task = orjson.dumps({"code": code, "args": arguments, "context": context})
    with tempfile.TemporaryDirectory(prefix="noetl-step-") as folder:
        output = Path(folder) / "result.json"
        done = await run_process(
            [sys.executable, "-I", str(_RUNNER), str(output)], timeout_seconds=timeout, standard_input=task
        )
        if done.exit_code is None:
            return timed_out(timeout or 0, done.duration_ms)
        data: Any = {"stdout": done.stdout, "stderr": done.stderr}
        if output.exists():
            data = orjson.loads(output.read_bytes())
    failed = done.exit_code != 0
    return ToolResult(
        "error" if failed else "success",
        data=data,
        error=f"Python script exited with code {done.exit_code}" if failed else None,
        stdout=done.stdout,
        stderr=done.stderr,
        exit_code=done.exit_code,
        duration_ms=done.duration_ms,
    )


async def run_shell(config: Mapping[str, Any], _variables: Mapping[str, Any]) -> ToolResult:
    """Run ``command`` with the system's shell, in ``cwd``, with ``env`` added to the environment."""
    command = config.get("command")
    if not isinstance(command, str):
        raise ToolFailure("shell: 'command' must be a string")
    timeout = timeout_of(config)
    added = config.get("env")
    folder = config.get("cwd")
    done = await run_process(
        ["/bin/sh", "-c", command],
        timeout_seconds=timeout,
        environment={str(name): str(value) for name, value in added.items()} if isinstance(added, dict) else None,
        folder=folder if isinstance(folder, str) else None,
    )
    if done.exit_code is None:
        return timed_out(timeout or 0, done.duration_ms)
    failed = done.exit_code != 0
    return ToolResult(
        "error" if failed else "success",
        data={"exit_code": done.exit_code, "stdout": done.stdout, "stderr": done.stderr},
        error=f"Command exited with code {done.exit_code}" if failed else None,
        stdout=done.stdout,
        stderr=done.stderr,
        exit_code=done.exit_code,
        duration_ms=done.duration_ms,
    )


def timeout_of(config: Mapping[str, Any], default: float | None = 300.0) -> float | None:
    """Seconds of ``timeout``; 0 and absence mean the default.

    Raises:
        ToolFailure: it is no natural number.
    """
    value = config.get("timeout")
    if value is None or value == 0:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ToolFailure(f"'timeout' must be a whole number of seconds, got {value!r}")
    return float(value)
