"""`noetl-server dev`: start, stop, a second one beside it, and crashes of itself and of its parts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from noetl.client import NoetlClient
from noetl.dev.services import free_port
from tests.integration.command_line import begun, noetl_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


async def is_healthy(port: int) -> bool:
    async with NoetlClient(f"http://127.0.0.1:{port}") as client:
        return await client.is_healthy()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that every user reaches: under root, PostgreSQL runs as another one."""
    parent = Path(tempfile.mkdtemp(prefix="noetl-dev-"))
    parent.chmod(0o711)
    yield parent / "data"
    shutil.rmtree(parent)


class Dev(Protocol):
    """Starts ``noetl-server dev`` and returns when it says that all is up."""

    async def __call__(self, folder: Path, port: int) -> asyncio.subprocess.Process: ...


@pytest.fixture
async def dev(folder: Path) -> AsyncIterator[Dev]:
    """What a failing test leaves is ended, as Ctrl-C would, before its folder goes."""
    started: list[asyncio.subprocess.Process] = []

    async def start(folder: Path, port: int) -> asyncio.subprocess.Process:
        process = await begun("dev", "--data", str(folder), "--port", str(port))
        started.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            await process.stdout.readuntil(b"Ctrl-C stops everything.")
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    for pid in parts(folder):
        os.kill(pid, signal.SIGKILL)


def parts(folder: Path) -> list[int]:
    """Process ids of what runs on the folder."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def test_interrupt_leaves_the_data_and_nothing_running(dev: Dev, folder: Path) -> None:
    port = free_port()
    process = await dev(folder, port)
    assert await is_healthy(port)
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert output.split() == [b"Stopping", b"..."]
    assert parts(folder) == []
    assert (folder / "encryption.key").stat().st_mode & 0o777 == 0o600


async def test_second_one_on_the_same_folder_or_port_is_refused_and_the_first_goes_on(dev: Dev, folder: Path) -> None:
    port = free_port()
    first = await dev(folder, port)
    running = parts(folder)

    same_folder = await noetl_server("dev", "--data", str(folder), "--port", str(free_port()))
    assert same_folder.exit_code == 1
    assert f"another noetl-server dev uses {folder}" in same_folder.errors

    same_port = await noetl_server("dev", "--data", str(folder.with_name("other")), "--port", str(port))
    assert same_port.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in same_port.errors
    assert "is running" not in same_port.output

    assert set(running) <= set(parts(folder))
    assert await is_healthy(port)
    first.terminate()
    assert await asyncio.wait_for(first.wait(), 30) == 0


async def test_killed_one_is_followed_by_another_on_the_same_folder_and_port(dev: Dev, folder: Path) -> None:
    port = free_port()
    process = await dev(folder, port)
    process.kill()
    await process.wait()
    left = parts(folder)
    assert left, "its parts go on without it"

    successor = await dev(folder, port)
    assert not set(left) & set(parts(folder))
    assert await is_healthy(port)
    successor.terminate()
    assert await asyncio.wait_for(successor.wait(), 30) == 0
    assert parts(folder) == []


async def test_end_of_a_part_ends_all_and_is_reported(dev: Dev, folder: Path) -> None:
    process = await dev(folder, free_port())
    os.kill(int((folder / "worker" / "pid").read_text()), signal.SIGKILL)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert b"Error: worker ended with code -9" in errors
    assert parts(folder) == []


async def test_start_that_is_interrupted_leaves_nothing_running(folder: Path) -> None:
    process = await begun("dev", "--data", str(folder), "--port", str(free_port()))
    async with asyncio.timeout(60):
        while not (folder / "nats" / "nats.log").exists():  # noqa: ASYNC110 (written by another process)
            await asyncio.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert b"is running" not in output
    assert parts(folder) == []
