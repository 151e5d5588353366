"""Running something again and again: failures are logged and never end the loop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from noetl.observability.spans import Tracer
    from noetl.runtime.leases import Lease

log = logging.getLogger("noetl.runtime")


class SweepMetrics(Protocol):
    """What periodic work tells about itself."""

    def observe_sweep(self, sweep: str, ok: bool, seconds: float) -> None:
        """One run of a job ended."""
        ...


@dataclass(slots=True)
class Job:
    """Periodic work. ``everywhere`` jobs run in each process, the others only in the holder of the lease."""

    name: str
    interval_seconds: float
    run: Callable[[], Awaitable[Any]]
    everywhere: bool = False
    due_at: float = 0.0


class PeriodicJobs:
    """Runs jobs when they are due; `wake` makes all of them due at once."""

    def __init__(
        self,
        jobs: Sequence[Job],
        lease: Lease,
        metrics: SweepMetrics,
        tick_seconds: float = 1.0,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._metrics = metrics
        self._jobs = [job for job in jobs if job.interval_seconds > 0]
        self._lease = lease
        self._tick_seconds = min([tick_seconds, *(job.interval_seconds for job in self._jobs)])
        self._woken = asyncio.Event()
        self._is_holder = False

    def wake(self) -> None:
        """Run all jobs as soon as possible, because something they wait for has happened."""
        for job in self._jobs:
            job.due_at = 0.0
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled, then give the lease back."""
        try:
            async with asyncio.TaskGroup() as tasks:
                # By itself, so that a job that takes long does not let the lease go to a second runner.
                tasks.create_task(self._keep_lease())
                tasks.create_task(self._run_due())
        finally:
            if self._is_holder:
                await self._lease.release()

    async def _keep_lease(self) -> None:
        while True:
            held_before, self._is_holder = self._is_holder, await self._holds_lease()
            if self._is_holder and not held_before:
                self._woken.set()
            await asyncio.sleep(self._lease.seconds / 3 if self._is_holder else self._tick_seconds)

    async def _run_due(self) -> None:
        while True:
            now = monotonic()
            self._woken.clear()
            for job in self._jobs:
                if job.due_at <= now and (self._is_holder or job.everywhere):
                    job.due_at = now + job.interval_seconds
                    await self._run_job(job)
            try:
                async with asyncio.timeout(self._tick_seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _holds_lease(self) -> bool:
        try:
            return await self._lease.hold()
        except Exception as error:  # the database may be away for a while
            log.warning("The lease of periodic work cannot be taken", extra={"error": repr(error)})
            return False

    async def _run_job(self, job: Job) -> None:
        begin = monotonic()
        succeeded = False
        try:
            with nullcontext() if self._tracer is None else self._tracer.span(f"periodic.{job.name}"):
                await job.run()
            succeeded = True
        except Exception as error:  # the next round tries again
            log.warning("Periodic work failed", extra={"job": job.name, "error": repr(error)}, exc_info=error)
        finally:
            self._metrics.observe_sweep(job.name, succeeded, monotonic() - begin)
