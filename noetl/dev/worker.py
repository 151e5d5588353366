"""A small worker for one machine: the protocol of the real one (spec 20, sections 12 and 13), a few kinds of tool."""

# Commands and results are JSON of any shape; what is read out of them stays untyped.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownMemberType=false

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import nats
import orjson
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NothingPending
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import Error as JetStreamError

from noetl._fast.snowflake import SnowflakeGenerator, machine_id_from_name
from noetl.client import ApiError, NoAnswerError, NoetlClientError, NotFoundError
from noetl.dev.control_plane import ControlPlane
from noetl.dev.executor import CommandExecutor
from noetl.dev.tools.outcome import ToolFailure, ToolResult

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

log = logging.getLogger("noetl.worker")

INLINE_LIMIT: Final = 102_400
"""Bytes of a result beyond which it goes to the result store and the event carries a reference."""
HEARTBEAT_SECONDS: Final = 15.0
FETCH_SECONDS: Final = 1.0
GOODBYE_SECONDS: Final = 2.0
"""How long the server and NATS may take to say goodbye; they may have gone first."""
GRACE_SECONDS: Final = 1.0
CLAIM_RETRIES: Final = (0.2, 0.5, 1.0, 2.0, 2.0, 4.0, 4.0, 8.0, 8.0)
_RETRY_STATUSES: Final = frozenset({408, 429, 502, 503, 504})


class LocalWorker:
    """Claims commands of one pool and runs them, a few at a time."""

    def __init__(
        self, server_url: str, nats_url: str, *, worker_id: str, concurrency: int = 4, pool: str = "shared"
    ) -> None:
        self._server = ControlPlane(server_url)
        self._server_url = server_url
        self._nats_url = nats_url
        self._worker_id = worker_id
        self._pool = pool
        self._slots = asyncio.Semaphore(concurrency)
        self._executor = CommandExecutor(self._server)
        self._running: set[asyncio.Task[None]] = set()
        self._minter = SnowflakeGenerator(machine_id_from_name(worker_id))

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; commands under way then have `GRACE_SECONDS` before they are cut."""
        async with self._server:
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        starting, stopping = asyncio.create_task(self._start()), asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # the server or NATS is away, and both are tried for long
            await _end(starting)
            return
        client = await starting
        try:
            async with asyncio.TaskGroup() as group:
                heartbeat = group.create_task(self._beat())
                pulling = group.create_task(self._pull(client.jetstream(), group))  # pyright: ignore[reportUnknownMemberType]
                await stopping
                await _end(pulling, heartbeat)
                if self._running:
                    await asyncio.wait(self._running, timeout=GRACE_SECONDS)
                for task in self._running:
                    task.cancel()
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._server.pools.deregister(self._worker_id)
        except* (NoetlClientError, OSError) as errors:
            log.warning("Server is away: %s", errors.exceptions[0])
        finally:
            with contextlib.suppress(NatsError, OSError):  # NATS may have gone first
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await client.close()

    async def _start(self) -> Client:
        await self._register()
        return await nats.connect(self._nats_url, name=self._worker_id)  # pyright: ignore[reportUnknownMemberType]

    async def _register(self) -> None:
        await self._server.pools.register(
            self._worker_id,
            hostname=socket.gethostname(),
            labels={"pool_name": self._pool},
            runtime={"kind": "python"},
        )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            try:
                await self._server.pools.heartbeat(self._worker_id)
            except NotFoundError:
                await self._register()
            except NoetlClientError as error:
                log.warning("Heartbeat failed: %s", error)

    async def _pull(self, stream: JetStreamContext, group: asyncio.TaskGroup) -> None:
        subscription = None
        while True:
            try:
                if subscription is None:
                    subscription = await stream.pull_subscribe(
                        f"noetl.commands.{self._pool}.>",
                        durable=f"local-{self._pool}",
                        config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT),
                    )
                await self._slots.acquire()
                taken = False
                try:
                    for message in await subscription.fetch(1, timeout=FETCH_SECONDS):
                        taken = True
                        task = group.create_task(self._handle(message))
                        self._running.add(task)
                        task.add_done_callback(self._running.discard)
                finally:
                    if not taken:
                        self._slots.release()
            except NothingPending:
                continue
            except (NatsError, JetStreamError, OSError) as error:
                log.warning("NATS: %s", error or type(error).__name__)
                subscription = None
                await asyncio.sleep(1)

    async def _handle(self, message: Msg) -> None:
        try:
            notice = orjson.loads(message.data)
            claimed = await self._claim(message, notice)
            if claimed is not None:
                await self._execute(claimed)
        except NoetlClientError as error:
            log.warning("Command given up, the server does not take its events: %s", error)
        finally:
            self._slots.release()

    async def _claim(self, message: Msg, notice: dict[str, Any]) -> dict[str, Any] | None:
        """The work order, or None when the command is not ours.

        A claim whose answer was lost may have succeeded, and would be refused to any other worker: so it is repeated
        here, which the server answers alike, before the message is given back.
        """
        for pause in CLAIM_RETRIES:
            try:
                claimed = await self._server.claim(notice["event_id"], self._worker_id)
            except NoAnswerError:
                await message.in_progress()
                await asyncio.sleep(pause)
            except ApiError as error:
                return await self._refused(message, error)
            else:
                await message.ack()
                return claimed
        await message.nak(delay=1.0)
        return None

    async def _refused(self, message: Msg, error: ApiError) -> None:
        if error.status == 409:
            await message.ack()
        else:
            await message.nak(delay=0.2 if error.status in _RETRY_STATUSES else 1.0)

    async def _execute(self, command: dict[str, Any]) -> None:
        context = command.get("context") or {}
        meta = command.get("meta") or {}
        command_id = str(meta.get("command_id") or f"{command['execution_id']}:{command['node_name']}:unknown")
        report = _Reporter(self._server, self._minter, self._worker_id, command, command_id)
        await report.send("command.started", "STARTED", {})
        try:
            result = await self._executor.run(
                command["action"],
                context,
                {
                    "execution_id": command["execution_id"],
                    "step": command["node_name"],
                    "node_name": command["node_name"],
                    "action": command["action"],
                    "server_url": self._server_url,
                    "worker_id": self._worker_id,
                    "command_id": command_id,
                },
            )
        except ToolFailure as failure:
            await report.send("call.error", "FAILED", {"call_index": 0, "error": str(failure)})
            await report.send("command.failed", "FAILED", {"error": str(failure)})
            return
        envelope = await self._envelope(command, result)
        await report.send("call.done", "COMPLETED", {"call_index": 0, "result": envelope})
        await report.send("command.completed", result.status, {"status": result.status})

    async def _envelope(self, command: dict[str, Any], result: ToolResult) -> dict[str, Any]:
        """The result as the event carries it: in place, or by reference when it is large (spec 20, section 12.4)."""
        members = result.members()
        try:
            size = len(orjson.dumps(members))
        except TypeError:  # a lone surrogate, or nesting beyond all measure: what was printed is the result then
            members = {**members, "data": {"stdout": result.stdout or "", "stderr": result.stderr or ""}}
            size = len(orjson.dumps(members))
        if size <= INLINE_LIMIT:
            return {"status": result.status, "context": members}
        step = command["node_name"]
        try:
            stored = await self._server.results.put(command["execution_id"], step, members, source_step=step)
        except NoetlClientError as error:
            log.warning("Result of %d bytes cannot be stored: %s", size, error)
            return {"status": result.status}
        reference = {
            "kind": "result_ref",
            "ref": stored.ref,
            "store": stored.store,
            "scope": stored.scope,
            "meta": {"bytes": stored.bytes, "media_type": "application/json"},
        }
        return {"status": result.status, "reference": reference}


class _Reporter:
    """Sends the events of one command."""

    def __init__(
        self,
        server: ControlPlane,
        minter: SnowflakeGenerator,
        worker_id: str,
        command: dict[str, Any],
        command_id: str,
    ) -> None:
        self._server = server
        self._minter = minter
        self._worker_id = worker_id
        self._command = command
        self._command_id = command_id

    async def send(self, event_type: str, status: str, payload: dict[str, Any]) -> None:
        await self._server.deliver(
            {
                "execution_id": self._command["execution_id"],
                "event_type": event_type,
                "step": self._command["node_name"],
                "status": status,
                "created_at": datetime.now(UTC).isoformat(),
                "context": {"command_id": self._command_id, **payload},
                "event_id": self._minter.mint(),
                "worker_id": self._worker_id,
                "meta": {"attempts": 0},
            }
        )


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel until they end: the NATS client swallows a cancellation that meets it while it loses its connection."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)


def main() -> None:
    """``python -m noetl.dev.worker``: one worker until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A small NoETL worker for one machine.")
    parser.add_argument("--server", required=True, help="base URL of the server")
    parser.add_argument("--nats", required=True, help="NATS URL")
    parser.add_argument("--id", default=f"local-{socket.gethostname()}", help="worker id")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--pool", default="shared")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(_main(options))


async def _main(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    worker = LocalWorker(
        options.server, options.nats, worker_id=options.id, concurrency=options.concurrency, pool=options.pool
    )
    await worker.run(stop)


if __name__ == "__main__":
    main()
