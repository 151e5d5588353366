"""CPU, memory and threads of this process and of the machine or container around it, from ``/proc`` and cgroups."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
CGROUP: Final = Path("/sys/fs/cgroup")
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; ``available`` could be used without swapping."""

    total: int
    available: int


@dataclass(frozen=True, slots=True)
class ThreadState:
    """A thread of this process, by the number that the operating system gave it."""

    thread_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in percent (of all CPUs for the system, of one for the process) since the last look, memory in bytes.

    ``started_at`` is in seconds since the epoch.
    """

    system_cpu_percent: float
    memory: Memory
    process_cpu_percent: float
    resident: int
    virtual: int
    threads: int
    started_at: float


class UsageMeter:
    """Looks at this process; percentages are of the time since the last look, of all time at the first.

    Where a file does not exist (another system than Linux) the number is what the system itself tells, or 0.

    Args:
        proc: the process file system.
        cgroup: the control group that limits the container.
    """

    def __init__(self, proc: Path = PROC, cgroup: Path = CGROUP) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._started_at = time.time() - self._age()
        self._system = (0.0, 0.0)
        self._process = (0.0, 0.0)

    def look(self) -> Usage:
        """The present usage."""
        system = self._system_times()
        process = (time.process_time(), self._age())
        system_percent, self._system = _percent(system, self._system), system
        process_percent, self._process = _percent(process, self._process), process
        virtual, resident = self._process_memory()
        return Usage(
            system_cpu_percent=min(system_percent, 100.0),
            memory=self.memory(),
            process_cpu_percent=process_percent,
            resident=resident,
            virtual=virtual,
            threads=len(self.threads()),
            started_at=self._started_at,
        )

    def memory(self) -> Memory:
        """Memory of the container, or of the machine where no smaller limit is set."""
        machine = {
            name: int(value.split()[0]) * 1024
            for name, _, value in (line.partition(":") for line in _read(self._proc / "meminfo").splitlines())
        }
        total = machine.get("MemTotal", _physical_memory())
        available = machine.get("MemAvailable", 0)
        for limit_name, used_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _read(self._cgroup / limit_name), _read(self._cgroup / used_name)
            if limit.isdigit() and used.isdigit() and int(limit) < total:
                statistics = _read((self._cgroup / limit_name).parent / "memory.stat")
                cache = next(
                    (int(line.split()[1]) for line in statistics.splitlines() if line.startswith(cache_name)), 0
                )
                total = int(limit)
                return Memory(total, min(total, max(total - int(used) + cache, 0)))
        return Memory(total, available)

    def threads(self) -> list[ThreadState]:
        """All threads of this process, those that no Python code started too, by number."""
        names = {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id is not None}
        found = dict(names)
        for number in _children(self._proc / "self" / "task"):
            found[number] = names.get(number) or _read(self._proc / "self" / "task" / str(number) / "comm") or "thread"
        return [ThreadState(number, name) for number, name in sorted(found.items())]

    def _system_times(self) -> tuple[float, float]:
        """Ticks that all CPUs worked, and all ticks, since the machine started."""
        first = _read(self._proc / "stat").partition("\n")[0].split()
        ticks = [float(value) for value in first[1:9]] if first[:1] == ["cpu"] else []
        idle = sum(ticks[3:5])
        return sum(ticks) - idle, sum(ticks)

    def _process_memory(self) -> tuple[int, int]:
        pages = _read(self._proc / "self" / "statm").split()
        size = os.sysconf("SC_PAGE_SIZE")
        return (int(pages[0]) * size, int(pages[1]) * size) if len(pages) > 1 else (0, 0)

    def _age(self) -> float:
        """Seconds since this process started."""
        fields = _read(self._proc / "self" / "stat").rpartition(")")[2].split()
        uptime = _read(self._proc / "uptime").split()
        if len(fields) > 19 and uptime:
            return max(float(uptime[0]) - int(fields[19]) / os.sysconf("SC_CLK_TCK"), 0.0)
        return time.process_time()


def _percent(now: tuple[float, float], before: tuple[float, float]) -> float:
    passed = now[1] - before[1]
    return max(now[0] - before[0], 0.0) / passed * 100 if passed > 0 else 0.0


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _children(folder: Path) -> list[int]:
    try:
        return [int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
