"""Running a child process with a time limit and bounded output."""

from __future__ import annotations

import asyncio
import os
import signal
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from noetl.dev.tools.outcome import ToolResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTPUT_LIMIT: Final = 16 * 2**20
"""Bytes of standard output, and of standard error, beyond which the rest is dropped."""


class Finished(NamedTuple):
    """How a child ended; ``exit_code`` is None when the time was up."""

    exit_code: int | None
    stdout: str
    stderr: str
    duration_ms: int


async def run_process(
    command: Sequence[str],
    *,
    timeout_seconds: float | None,
    standard_input: bytes | None = None,
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> Finished:
    """Run a command in a session of its own, so that its children die with it; ``environment`` is added to ours."""
    begin = perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if standard_input is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env=None if environment is None else {**os.environ, **environment},
        cwd=folder,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            async with asyncio.TaskGroup() as group:
                stdout = group.create_task(_read(process.stdout))
                stderr = group.create_task(_read(process.stderr))
                if standard_input is not None and process.stdin is not None:
                    group.create_task(_write(process.stdin, standard_input))
            exit_code: int | None = await process.wait()
    except TimeoutError:
        return Finished(None, "", "", _milliseconds(begin))
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Finished(exit_code, stdout.result(), stderr.result(), _milliseconds(begin))


def timed_out(timeout_seconds: float, duration_ms: int) -> ToolResult:
    """The result of a run that was cut off."""
    return ToolResult(
        "timeout", error=f"Execution timed out after {timeout_seconds:g} seconds", duration_ms=duration_ms
    )


def _milliseconds(begin: float) -> int:
    return int((perf_counter() - begin) * 1000)


async def _read(stream: asyncio.StreamReader | None) -> str:
    if stream is None:
        return ""
    kept = bytearray()
    while chunk := await stream.read(65_536):
        kept += chunk[: max(0, OUTPUT_LIMIT - len(kept))]
    return kept.decode(errors="replace")


async def _write(stream: asyncio.StreamWriter, data: bytes) -> None:
    try:
        stream.write(data)
        await stream.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # the child did not care for its input
    finally:
        stream.close()
