"""The number of processes follows the container's CPU limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from noetl.config.cpu import available_cpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.usefixtures("sixteen_cpus")
@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 16), ("100000 100000", 1), ("25000 100000", 1), ("250000 100000", 2), ("6400000 100000", 16)],
)
def test_unified_hierarchy(tmp_path: Path, limit: str, expected: int) -> None:
    write(tmp_path / "cgroup/cpu.max", limit)
    write(tmp_path / "self", "0::/\n")
    assert available_cpus(tmp_path / "cgroup", tmp_path / "self") == expected


@pytest.mark.usefixtures("sixteen_cpus")
def test_a_group_above_limits_as_well(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/a/cpu.max", "300000 100000")
    write(tmp_path / "cgroup/a/b/cpu.max", "max 100000")
    write(tmp_path / "self", "0::/a/b\n")
    assert available_cpus(tmp_path / "cgroup", tmp_path / "self") == 3


@pytest.mark.usefixtures("sixteen_cpus")
@pytest.mark.parametrize(("quota", "expected"), [("-1", 16), ("200000", 2)])
def test_first_version(tmp_path: Path, quota: str, expected: int) -> None:
    group = tmp_path / "cgroup/cpu,cpuacct/docker/x"
    write(group / "cpu.cfs_quota_us", quota)
    write(group / "cpu.cfs_period_us", "100000")
    write(tmp_path / "self", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    assert available_cpus(tmp_path / "cgroup", tmp_path / "self") == expected


@pytest.mark.usefixtures("sixteen_cpus")
def test_without_control_groups_the_cpus_count(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "none", tmp_path / "none") == 16
