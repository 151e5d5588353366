"""The system's routes: resources of this process and its machine, its threads, the profiler (spec 10, section 11)."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from noetl.http.responses import json_response
from noetl.observability.usage import MEBIBYTE

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.observability.usage import UsageMeter

UNAVAILABLE: Final = "This server has no memory profiler; attach one from outside, for example memray or py-spy"


class SystemRoutes:
    """What operators look at. Of several processes the one that answers tells about itself."""

    def __init__(self, meter: UsageMeter) -> None:
        self._meter = meter

    def register(self, application: HttpApplication) -> None:
        """Add the routes."""
        application.add_route("GET", "/api/status", self.status)
        application.add_route("GET", "/api/threads", self.threads)
        application.add_route("GET", "/api/profiler/status", self.profiler)
        for word in ("start", "stop"):
            application.add_route("POST", f"/api/profiler/memory/{word}", self.refuse_profiling)

    async def status(self, _request: Request) -> Response:
        """CPU and memory."""
        usage = self._meter.look()
        total, available = usage.memory.total, usage.memory.available
        return json_response(
            {
                "system": {
                    "cpu_percent": usage.system_cpu_percent,
                    "memory_percent": (total - available) / total * 100 if total else 0.0,
                    "total_memory_mb": total / MEBIBYTE,
                    "used_memory_mb": (total - available) / MEBIBYTE,
                    "available_memory_mb": available / MEBIBYTE,
                },
                "process": {
                    "pid": os.getpid(),
                    "cpu_percent": usage.process_cpu_percent,
                    "memory_rss_mb": usage.resident / MEBIBYTE,
                    "memory_vms_mb": usage.virtual / MEBIBYTE,
                    "num_threads": usage.threads,
                    "start_time": int(usage.started_at),
                    "uptime_seconds": max(int(time.time() - usage.started_at), 0),
                },
            }
        )

    async def threads(self, _request: Request) -> Response:
        """All threads of the process."""
        return json_response(
            [{"thread_id": one.thread_id, "name": one.name, "is_alive": True} for one in self._meter.threads()]
        )

    async def profiler(self, _request: Request) -> Response:
        """Whether a profiler runs."""
        return json_response({"is_profiling": False, "profiler_type": None, "message": UNAVAILABLE})

    async def refuse_profiling(self, _request: Request) -> Response:
        """Say that there is no profiler to start or stop; 200, as the reference."""
        return json_response({"status": "info", "message": UNAVAILABLE})
