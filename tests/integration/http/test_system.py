"""What the server tells about its process: shapes, and numbers that can be true."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from noetl.http.application import HttpApplication
from noetl.http.system import SystemRoutes
from noetl.observability.usage import Memory, UsageMeter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.http.rawhttp import RawClient, Serve


@pytest.fixture
async def client(serve: Serve) -> RawClient:
    application = HttpApplication()
    SystemRoutes(UsageMeter()).register(application)
    return await serve(application)


async def test_status_tells_of_this_process(client: RawClient) -> None:
    first = (await client.get("/api/status")).json
    finish = time.monotonic() + 0.05
    while time.monotonic() < finish:
        pass
    system, process = (await client.get("/api/status")).json.values()
    assert process["pid"] == os.getpid()
    assert 1 < process["memory_rss_mb"] < process["memory_vms_mb"]
    assert process["num_threads"] >= 1
    assert process["cpu_percent"] > 10
    assert abs(process["start_time"] + process["uptime_seconds"] - time.time()) < 3
    assert process["start_time"] == first["process"]["start_time"]
    assert 0 <= system["cpu_percent"] <= 100
    assert system["used_memory_mb"] + system["available_memory_mb"] == pytest.approx(system["total_memory_mb"])
    assert system["memory_percent"] == pytest.approx(100 * system["used_memory_mb"] / system["total_memory_mb"])


async def test_all_threads_are_listed(client: RawClient) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="the-test's-own")
    thread.start()
    try:
        listed = (await client.get("/api/threads")).json
    finally:
        release.set()
        thread.join()
    assert {"thread_id": thread.native_id, "name": "the-test's-own", "is_alive": True} in listed
    assert os.getpid() in [one["thread_id"] for one in listed]
    assert all(set(one) == {"thread_id", "name", "is_alive"} for one in listed)


def folder(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MACHINE = {
    "meminfo": "MemTotal:        1000 kB\nMemFree: 5 kB\nMemAvailable:     400 kB\n",
    "stat": "cpu 1 2 3 4 5 6 7 8\n",
}


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, Memory(1_024_000, 409_600)),
        ({"memory.max": "max", "memory.current": "5"}, Memory(1_024_000, 409_600)),
        ({"memory.max": "9999999", "memory.current": "5"}, Memory(1_024_000, 409_600)),
        ({"memory.max": "1000", "memory.current": "900"}, Memory(1000, 100)),
        (
            {"memory.max": "1000", "memory.current": "900", "memory.stat": "anon 1\ninactive_file 50\n"},
            Memory(1000, 150),
        ),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "700",
                "memory/memory.stat": "inactive_file 9\ntotal_inactive_file 60\n",
            },
            Memory(1000, 360),
        ),
    ],
)
def test_memory_is_that_of_the_container(tmp_path: Path, limits: dict[str, str], expected: Memory) -> None:
    meter = UsageMeter(folder(tmp_path / "proc", MACHINE), folder(tmp_path / "cgroup", limits))
    assert meter.memory() == expected


def test_processor_time_is_that_since_the_last_look(tmp_path: Path) -> None:
    proc = folder(tmp_path, {"stat": "cpu  50 0 0 50 0 0 0 0 0 0\n"})
    meter = UsageMeter(proc, tmp_path)
    assert meter.look().system_cpu_percent == 50
    folder(proc, {"stat": "cpu  60 0 10 110 20 0 0 0 0 0\n"})
    assert meter.look().system_cpu_percent == 20
    assert meter.look().system_cpu_percent == 0


def test_without_these_files_there_are_numbers_too(tmp_path: Path) -> None:
    usage = UsageMeter(tmp_path / "none", tmp_path / "none").look()
    assert (usage.resident, usage.virtual, usage.system_cpu_percent) == (0, 0, 0)
    assert usage.memory.total > 0
    assert usage.threads >= 1
