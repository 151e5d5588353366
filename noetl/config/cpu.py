"""How many CPUs this process may use: the container's limit, else the machine's count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
SELF_CGROUP: Final = Path("/proc/self/cgroup")


def available_cpus(root: Path = CGROUP_ROOT, membership: Path = SELF_CGROUP) -> int:
    """Whole CPUs for this process, at least 1.

    The smallest CPU quota of the control groups that the process is in (version 2 ``cpu.max``, version 1
    ``cpu.cfs_quota_us``), rounded down so that processes do not take turns in one quota; without a quota the CPUs that
    the scheduler lets the process use.

    Args:
        root: Mount point of the control group file system.
        membership: The file that names the groups of this process.
    """
    scheduled = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [limit for group in _groups(root, membership) if (limit := _quota(group)) is not None]
    return max(1, min(scheduled, int(min(limits, default=float(scheduled)))))


def _groups(root: Path, membership: Path) -> list[Path]:
    """Directories that may limit the process: its own group and all above it, for both versions."""
    groups = {root, root / "cpu", root / "cpu,cpuacct"}
    for line in (_read(membership) or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            base = root
        elif "cpu" in controllers.split(","):
            base = root / controllers
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        groups.update(base.joinpath(*parts[:length]) for length in range(len(parts) + 1))
    return sorted(groups)


def _quota(group: Path) -> float | None:
    unified = (_read(group / "cpu.max") or "").split()
    if len(unified) == 2:
        quota, period = unified
    else:
        quota, period = _read(group / "cpu.cfs_quota_us") or "", _read(group / "cpu.cfs_period_us") or ""
    try:
        microseconds, length = int(quota), int(period)
    except ValueError:  # "max", or no such file
        return None
    return microseconds / length if microseconds > 0 and length > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
