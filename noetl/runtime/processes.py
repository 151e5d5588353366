"""Several server processes behind one port: a parent that starts, watches and stops them (design.md, "Processes").

The parent serves nothing. Each child binds the port with SO_REUSEPORT and has its own stripe of the snowflake sequence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("noetl.processes")

PLACE_VARIABLE: Final = "NOETL_PROCESS_PLACE"
"""Set by the parent in the environment of its children; not a setting."""
SETTLED_SECONDS: Final = 5.0
"""A child that serves for so long has started well; its earlier failures are forgotten."""
FAILURE_LIMIT: Final = 5
"""The server gives up when each of its processes has failed so often in a row."""
FIRST_PAUSE_SECONDS: Final = 1.1
"""The shortest pause before a restart: an id generator may run one second ahead of the clock, and what the dead process
minted there must lie behind the new one, which has the same stripe."""
LONGEST_PAUSE_SECONDS: Final = 10.0
PARENT_POLL_SECONDS: Final = 1.0
MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108 (only as the parent of a private folder)


class ProcessesError(Exception):
    """The processes cannot be started; the message says why."""


class ProcessPlace(msgspec.Struct, frozen=True):
    """Which of the processes this is; ``folder`` is private to them, for their sockets."""

    number: int
    count: int
    parent_pid: int
    folder: str

    @property
    def stripes(self) -> int:
        """Parts of the snowflake sequence: the next power of two."""
        return 1 << (self.count - 1).bit_length()

    def socket(self, number: int) -> Path:
        """Where a process answers the others; the file is there as soon as the process serves."""
        return Path(self.folder) / f"{number}.sock"


def place_of(environment: Mapping[str, str]) -> ProcessPlace | None:
    """The place that the parent gave to this process; None for a server that is alone."""
    text = environment.get(PLACE_VARIABLE)
    return None if text is None else msgspec.json.decode(text, type=ProcessPlace)


async def outlive_parent_never(place: ProcessPlace, stop: asyncio.Event) -> None:
    """Set ``stop`` when the parent is gone, however it ended, and clean up what it left."""
    while os.getppid() == place.parent_pid:  # noqa: ASYNC110 (the kernel tells nobody that a parent ended)
        await asyncio.sleep(PARENT_POLL_SECONDS)
    log.warning("The parent process is gone")
    stop.set()
    shutil.rmtree(place.folder, ignore_errors=True)


class Supervisor:
    """Keeps ``count`` children running until it is told to stop."""

    def __init__(self, count: int, environment: Mapping[str, str], *, grace_seconds: float) -> None:
        """``environment`` is what children get beside their place; it must name the port.

        ``grace_seconds`` after the request to stop, children that still run are killed.
        """
        self._count = count
        self._environment = dict(environment)
        self._grace_seconds = grace_seconds
        self._folder = ""
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._failures = [0] * count
        self._has_served = False
        self._is_clean = True
        self._stopping = asyncio.Event()
        self._failed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> int:
        """Run until ``stop`` is set or the children do not start, then let them drain.

        Returns:
            The exit code: 0 when all children drained, else 1.

        Raises:
            ProcessesError: the children cannot be started, or end as soon as they are.
        """
        self._folder = _private_folder()
        try:
            async with asyncio.TaskGroup() as keepers:
                for number in range(self._count):
                    keepers.create_task(self._keep(self._place(number)))
                await _first_of(stop, self._failed)
                self._stopping.set()
                self._signal(signal.SIGTERM)
                overdue = asyncio.get_running_loop().call_later(self._grace_seconds, self._kill_overdue)
            overdue.cancel()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._failed.is_set():
            raise ProcessesError("the server processes end as soon as they start; see their messages")
        return 0 if self._is_clean else 1

    def kill(self) -> None:
        """End all children at once, for a parent that is about to exit at once."""
        self._signal(signal.SIGKILL)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        for child in self._children.values():
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)

    def _kill_overdue(self) -> None:
        log.error("Server processes do not stop in time and are killed", extra={"pids": self._pids()})
        self._signal(signal.SIGKILL)

    def _pids(self) -> list[int]:
        return [child.pid for child in self._children.values()]

    def _place(self, number: int) -> ProcessPlace:
        return ProcessPlace(number, self._count, os.getpid(), self._folder)

    async def _keep(self, place: ProcessPlace) -> None:
        """Start the child again whenever it ends. A server that never served is not tried twice, like a lone one."""
        while True:
            self._failures[place.number] += 1
            await self._run_child(place)
            if self._stopping.is_set():
                return
            if not self._has_served or min(self._failures) >= FAILURE_LIMIT:
                self._failed.set()
                return
            repeats = max(self._failures[place.number] - 1, 0)
            pause = min(FIRST_PAUSE_SECONDS * 2**repeats, LONGEST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                    return

    async def _run_child(self, place: ProcessPlace) -> None:
        place.socket(place.number).unlink(missing_ok=True)
        number = place.number
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "noetl",
                "serve",
                env={**self._environment, PLACE_VARIABLE: msgspec.json.encode(place).decode()},
                start_new_session=True,  # a Ctrl-C of the terminal is for the parent, which stops the children in order
            )
        except OSError as error:
            log.error("Server process cannot be started", extra={"process_number": number, "error": repr(error)})
            return
        self._children[number] = child
        try:
            if self._stopping.is_set():  # the signal to all came while this one was being made
                child.terminate()
            code = await self._watch(place, child)
        finally:
            del self._children[number]
            if child.returncode is None:
                child.kill()
        fields = {"process_number": number, "pid": child.pid, "exit_code": code}
        if not self._stopping.is_set():
            log.error("Server process ended", extra=fields)
        elif code not in (0, -signal.SIGTERM):  # a process that has not yet got to its handlers dies of the signal
            self._is_clean = False
            log.error("Server process did not drain", extra=fields)

    async def _watch(self, place: ProcessPlace, child: asyncio.subprocess.Process) -> int:
        """Wait for the end of the child, noting on the way whether it serves; returns its exit code."""
        while True:
            try:
                async with asyncio.timeout(SETTLED_SECONDS):
                    return await child.wait()
            except TimeoutError:
                if place.socket(place.number).exists():
                    self._failures[place.number] = 0
            finally:
                self._has_served = self._has_served or any(place.socket(k).exists() for k in range(self._count))


def _private_folder() -> str:
    """A folder for the sockets that only this user can enter; in memory where the file system is read-only."""
    for parent in (None, MEMORY_FOLDER):
        try:
            return tempfile.mkdtemp(prefix="noetl-processes-", dir=parent)
        except OSError as error:
            problem = error
    raise ProcessesError(f"several processes need a writable temporary folder (TMPDIR): {problem}")


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
