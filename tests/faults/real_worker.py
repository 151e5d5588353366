"""The unmodified worker of NoETL in the campaign, where its binary is at hand: real playbooks, and a supervisor for it.

It hears only of playbooks whose path begins with ``system/``, so that the crews and it do not take each other's work.
Its own account of what it was told is not known: of its executions the log and the model are checked.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

import yaml

from noetl.dev.server_process import PythonProcess
from noetl.dev.services import ServiceError, first_line
from tests.faults.checker import REAL_WORKER
from tests.faults.workflows import Workflow, loop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

VARIABLE: Final = "NOETL_REFERENCE_WORKER"
"""Names the binary."""
HEARTBEAT_SECONDS: Final = 1
_PAUSE_SECONDS: Final = 0.2


class RealWorker(PythonProcess):
    """One worker process under one name; it is started again when it ends by itself, as a cluster would do.

    It ends when it loses NATS, or a server during a claim (spec 20, 12.5).
    """

    name = "real-worker"

    def __init__(self, folder: Path, binary: Path, server_url: str, nats_url: str) -> None:
        super().__init__(folder)
        self._binary = binary
        self._server_url = server_url
        self._nats_url = nats_url
        self._lock = asyncio.Lock()
        self.worker_id = f"{REAL_WORKER}-0"
        self.consumer = "real-worker"
        self.endings = 0
        """How often it ended by itself."""

    async def start(self) -> None:
        """Start it, again and again while it finds no server or no NATS."""
        while True:
            try:
                await super().start()
            except ServiceError:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                return

    async def crash(self, away_seconds: float) -> None:
        """`kill -9`, and a new start after a while."""
        async with self._lock:
            await self.kill()
            await asyncio.sleep(away_seconds)
            await self.start()

    async def supervise(self) -> None:
        """Start it again whenever it has ended by itself, until cancelled."""
        while True:
            async with self._lock:
                if self.exit_code is not None:
                    self.endings += 1
                    await self.stop()
                    await self.start()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _command(self) -> list[str]:
        return [str(self._binary)]

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "WORKER_ID": self.worker_id,
            "WORKER_POOL_NAME": "system",
            "NOETL_SERVER_URL": self._server_url,
            "NATS_URL": self._nats_url,
            "NATS_FILTER_SUBJECT": "noetl.commands.system.>",
            "NATS_CONSUMER": self.consumer,
            "WORKER_HEARTBEAT_INTERVAL": str(HEARTBEAT_SECONDS),
            "WORKER_METRICS_BIND": f"127.0.0.1:{self.port}",
            "RUST_LOG": "warn",
        }

    async def _is_ready(self) -> bool:
        return b" 200 " in await first_line(self.port, b"GET /healthz HTTP/1.1\r\nHost: worker\r\n\r\n")


def _python(code: str, **arguments: Any) -> dict[str, Any]:
    return {"kind": "python", "args": arguments, "code": code}


def _playbook(
    path: str,
    steps: Sequence[dict[str, Any]],
    expected: dict[str, int],
    arguments: dict[str, dict[str, Any]],
) -> Workflow:
    text = yaml.safe_dump(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path.rpartition("/")[2], "path": path},
            "workload": {"word": "durable"},
            "workflow": list(steps),
        },
        sort_keys=False,
    )
    return Workflow(path, text, expected, arguments)


REAL: Final = (
    _playbook(
        "system/faults/chain",
        [
            {"step": "start", "tool": _python('result = {"n": len(word)}', word="{{ word }}"), "next": "double"},
            {"step": "double", "tool": _python('result = {"n": 2 * n}', n="{{ start.n }}"), "next": "end"},
            {"step": "end", "tool": _python('result = {"total": n}', n="{{ double.n }}")},
        ],
        dict.fromkeys(("start", "double", "end"), 1),
        {"start": {"word": "durable"}, "double": {"n": 7}, "end": {"n": 14}},
    ),
    _playbook(
        "system/faults/loop",
        [
            {"step": "start", "tool": {"kind": "noop"}, "next": "square"},
            {
                "step": "square",
                "loop": loop(6),
                "tool": _python('result = {"n": i * i}', i="{{ i }}"),
                "next": "end",
            },
            {"step": "end", "tool": _python('result = {"count": count}', count="{{ square | length }}")},
        ],
        {"start": 1, "square": 6, "end": 1},
        {"end": {"count": 6}},
    ),
    _playbook(
        "system/faults/repair",
        [
            {
                "step": "start",
                "tool": _python('result = {"n": 1 / zero}', zero=0),
                "next": [
                    {"step": "unused", "when": "{{ steps.start.context.result.status == 'success' }}"},
                    {"step": "repair", "when": "{{ steps.start.context.result.status == 'error' }}"},
                ],
            },
            {"step": "repair", "tool": _python('result = {"n": 0}'), "next": "end"},
            {"step": "unused", "tool": {"kind": "noop"}},
            {"step": "end", "tool": _python('result = {"n": n}', n="{{ repair.n }}")},
        ],
        dict.fromkeys(("start", "repair", "end"), 1),
        {"end": {"n": 0}},
    ),
    _playbook(
        "system/faults/pipeline",
        [
            {
                "step": "start",
                "tool": [
                    {"split": _python('result = {"letters": list(word)}', word="{{ word }}")},
                    {"count": _python('result = {"n": len(letters)}', letters="{{ _prev.letters }}")},
                    {"say": {"kind": "shell", "command": "echo {{ _results.count.n }} letters"}},
                ],
                "next": "end",
            },
            {"step": "end", "tool": _python('result = {"said": said}', said="{{ start.stdout | trim }}")},
        ],
        dict.fromkeys(("start", "end"), 1),
        {"end": {"said": "7 letters"}},
    ),
)
"""One of each shape, with tools that really run.

None with a sub-playbook: the worker starts it without a key, so a command that is given to a second worker, since the
first was killed, starts a second child, and no server can tell that it is the same.
"""
