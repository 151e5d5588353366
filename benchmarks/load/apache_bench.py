"""ApacheBench (`ab`, Debian's apache2-utils) as the load generator: one in C, which leaves the CPUs to the servers."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.load.figures import Figures

if TYPE_CHECKING:
    from benchmarks.load.servers import Target

_REPORT: Final = re.compile(
    rb"^(Complete requests|Failed requests|Non-2xx responses|Time taken for tests): +([\d.]+)", re.MULTILINE
)


def is_installed() -> bool:
    """Whether the program is on the path."""
    return shutil.which("ab") is not None


async def apache_bench(target: Target, body: bytes, requests: int, *, connections: int) -> Figures:
    """Post so many events over keep-alive connections, each of which sends the next when it has its answer."""
    with tempfile.TemporaryDirectory() as folder:
        payload, times = Path(folder) / "payload.json", Path(folder) / "times.tsv"
        await asyncio.to_thread(payload.write_bytes, body)
        process = await asyncio.create_subprocess_exec(
            "ab", *("-q", "-n", str(requests), "-c", str(connections), "-k", "-p", str(payload), "-g", str(times)),
            *("-T", "application/json", f"http://{target.host}:{target.port}/api/events"),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        lines = (await asyncio.to_thread(times.read_text)).splitlines()[1:]
    found = {name: float(value) for name, value in _REPORT.findall(output)}
    return Figures(
        "requests",
        {"POST /api/events": [int(line.split("\t")[4]) / 1e3 for line in lines]},
        count=int(found[b"Complete requests"]),
        errors=int(found[b"Failed requests"] + found.get(b"Non-2xx responses", 0.0)),
        seconds=found[b"Time taken for tests"],
    )
