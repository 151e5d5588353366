"""The command line in processes of its own, for the tests."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Finished(NamedTuple):
    """How a command ended."""

    exit_code: int
    output: str
    errors: str


async def noetl_server(*arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
    """Run the command line in a process of its own."""
    process = await begun(*arguments, environment=environment)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return Finished(process.returncode or 0, output.decode(), errors.decode())


async def begun(*arguments: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start the command line in a process of its own, without the settings of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NOETL_", "POSTGRES_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "noetl", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**inherited, **(environment or {})},
    )  # fmt: skip


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
