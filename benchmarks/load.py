"""Load on a running server: events in a closed loop, and playbooks with scripted workers.

    python -m benchmarks.load events --server http://127.0.0.1:8082 [--beside http://127.0.0.1:18082] [--seconds 10]
    python -m benchmarks.load playbooks --server URL [--beside URL] [--workers 32] [--steps 5] [--executions 200]
    python -m benchmarks.load loop --server URL [--beside URL] [--iterations 100,1000,10000]

`--beside` is another server on the same machine, usually the reference: the two run in turn and the ratio is printed.
`--pid` and `--beside-pid` add CPU per unit and memory; playbooks and loops need `--nats` (and `--beside-nats`).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import httptools
import nats
import orjson

PAYLOAD: Final = {"status": "OK"}
_TICKS: Final = 100


class Connection:
    """One keep-alive HTTP/1.1 connection that has one request under way."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded JSON body of one request."""
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        self._writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            piece = await self._reader.read(65_536)
            if not piece:
                raise ConnectionResetError("connection closed")
            parser.feed_data(piece)
        text = b"".join(answer.body)
        return parser.get_status_code(), orjson.loads(text) if text[:1] in (b"{", b"[") else text

    def close(self) -> None:
        """Give the connection up."""
        if self._writer is not None:
            self._writer.close()


class _Answer:
    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


@dataclass
class Figures:
    """One measured run."""

    unit: str
    count: int = 0
    errors: int = 0
    seconds: float = 0.0
    latencies: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: float | None = None
    resident_mib: float | None = None

    @property
    def rate(self) -> float:
        return self.count / self.seconds if self.seconds else 0.0

    def lines(self, name: str) -> list[str]:
        """The run for people."""
        head = f"{name:<12} {self.rate:10.0f} {self.unit}/s"
        lines = [f"{head}  {self.count} in {self.seconds:.1f} s, {self.errors} errors"]
        for kind, values in sorted(self.latencies.items()):
            cuts = statistics.quantiles(values, n=100) if len(values) > 1 else [values[0]] * 99
            shown = "  ".join(f"p{cut} {cuts[cut - 1] * 1e3:7.2f} ms" for cut in (50, 95, 99))
            lines.append(f"{'':<12} {kind:<18} {shown}")
        if self.cpu_seconds is not None and self.count:
            lines.append(f"{'':<12} server CPU {self.cpu_seconds / self.count * 1e6:.0f} us per {self.unit[:-1]}")
        if self.resident_mib is not None:
            lines.append(f"{'':<12} RSS {self.resident_mib:.0f} MiB")
        return lines


class Target:
    """A server under load."""

    def __init__(self, url: str, pid: int | None, nats_url: str | None) -> None:
        self.nats_url = nats_url
        host, _, port = url.removeprefix("http://").partition(":")
        self.host, self.port, self.pid = host, int(port or 80), pid

    def connect(self) -> Connection:
        return Connection(self.host, self.port)

    def cpu_seconds(self) -> float | None:
        if self.pid is None:
            return None
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self) -> float | None:
        if self.pid is None:
            return None
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def playbook(path: str, steps: list[dict[str, Any]]) -> str:
    """A playbook as JSON, which is YAML."""
    return orjson.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": path, "path": path},
            "workload": {"n": 0},
            "workflow": steps,
        }
    ).decode()


def chain(length: int) -> list[dict[str, Any]]:
    """So many noop steps in a row."""
    names = ["start", *(f"s{number}" for number in range(1, length - 1)), "end"]
    return [
        {"step": name, "tool": {"kind": "noop"}, **({"next": [{"step": following}]} if following else {})}
        for name, following in zip(names, [*names[1:], None], strict=True)
    ]


LOOP: Final = [
    {"step": "start", "tool": {"kind": "noop"}, "next": [{"step": "many"}]},
    {
        "step": "many",
        "tool": {"kind": "noop"},
        "loop": {"in": "{{ n }}", "iterator": "item", "spec": {"mode": "parallel"}},
        "next": [{"step": "end"}],
    },
    {"step": "end", "tool": {"kind": "noop"}},
]


async def start(target: Target, path: str, steps: list[dict[str, Any]], payload: dict[str, Any] | None = None) -> str:
    """Register and execute; returns the execution id."""
    connection = target.connect()
    await connection.call("POST", "/api/catalog/register", {"content": playbook(path, steps)})
    _, answer = await connection.call("POST", "/api/execute", {"path": path, "payload": payload or {}})
    connection.close()
    return answer["execution_id"]


async def measure_events(target: Target, seconds: float, connections: int, executions: int) -> Figures:
    """POST /api/events of type step.enter, each connection sending the next as soon as it has its answer."""
    ids = [await start(target, "bench/events", chain(2)) for _ in range(executions)]
    bodies = [
        orjson.dumps(
            {
                "execution_id": identifier,
                "step": "load_smoke",
                "event_type": "step.enter",
                "result_kind": "data",
                "payload": PAYLOAD,
                "actionable": False,
                "informative": True,
            }
        )
        for identifier in ids
    ]
    figures = Figures("events", latencies={"POST /api/events": []})
    latencies = figures.latencies["POST /api/events"]
    warm_until = time.perf_counter() + 1
    end = warm_until + seconds
    begin_cpu: list[float | None] = [None]

    async def client(number: int) -> None:
        connection = target.connect()
        body = bodies[number % len(bodies)]
        while (begin := time.perf_counter()) < end:
            status, _ = await connection.call("POST", "/api/events", body)
            if begin >= warm_until:
                if begin_cpu[0] is None:
                    begin_cpu[0] = target.cpu_seconds()
                latencies.append(time.perf_counter() - begin)
                figures.count += 1
                figures.errors += status != 200
        connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(client(number))
    figures.seconds = seconds
    _account(figures, target, begin_cpu[0])
    return figures


class Workers:
    """Scripted workers that hear of commands as real ones do, through NATS, and report like them."""

    def __init__(self, target: Target, count: int) -> None:
        self.target = target
        self.count = count
        self.figures = Figures("commands", latencies={"claim": [], "command.completed": []})
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._client: Any = None

    async def __aenter__(self) -> Self:
        if self.target.nats_url is None:
            raise SystemExit("this scenario needs the NATS URL of each server")
        self._client = await nats.connect(self.target.nats_url)

        async def heard(message: Any) -> None:
            self.queue.put_nowait(orjson.loads(message.data))

        # What is published to the stream also reaches a plain subscription, at once and without an acknowledgement.
        await self._client.subscribe("noetl.commands.>", cb=heard)
        await self._client.flush()
        self._tasks = [asyncio.create_task(self._serve()) for _ in range(self.count)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def finished(self, execution_ids: list[str]) -> None:
        """Wait until these executions have reported the end of their step `end`."""
        for identifier in execution_ids:
            await self.ended.setdefault(identifier, asyncio.Event()).wait()

    async def _serve(self) -> None:
        connection = self.target.connect()
        try:
            while True:
                await self._work(connection, await self.queue.get())
        finally:
            connection.close()

    async def _work(self, connection: Connection, notice: dict[str, Any]) -> None:
        begin = time.perf_counter()
        status, claimed = await connection.call(
            "POST", f"/api/commands/{notice['event_id']}/claim", {"worker_id": "bench"}
        )
        self.figures.latencies["claim"].append(time.perf_counter() - begin)
        if status != 200:
            self.figures.errors += status != 409
            return
        command_id = claimed["meta"]["command_id"]
        result = {"status": "success", "context": {"status": "success", "data": {"ok": True}}}
        for event_type, state, payload in (
            ("command.started", "STARTED", {}),
            ("call.done", "COMPLETED", {"call_index": 0, "result": result}),
            ("command.completed", "success", {"status": "success"}),
        ):
            begin = time.perf_counter()
            status, _ = await connection.call(
                "POST",
                "/api/events",
                {
                    "execution_id": notice["execution_id"],
                    "step": notice["step"],
                    "event_type": event_type,
                    "status": state,
                    "context": {"command_id": command_id, **payload},
                    "worker_id": "bench",
                    "meta": {"attempts": 0},
                },
            )
            self.figures.errors += status != 200
        self.figures.latencies["command.completed"].append(time.perf_counter() - begin)
        self.figures.count += 1
        if notice["step"] == "end":
            self.ended.setdefault(str(notice["execution_id"]), asyncio.Event()).set()


async def measure_playbooks(target: Target, workers: int, steps: int, executions: int) -> Figures:
    """Chains of steps; as many executions under way as there are workers."""
    path = f"bench/chain{steps}"
    connection = target.connect()
    await connection.call("POST", "/api/catalog/register", {"content": playbook(path, chain(steps))})
    async with Workers(target, workers) as crew:
        cpu = target.cpu_seconds()
        begin = time.perf_counter()
        window = asyncio.Semaphore(workers)

        async def one(own: Connection) -> None:
            _, answer = await own.call("POST", "/api/execute", {"path": path})
            await crew.finished([answer["execution_id"]])

        async def client(count: int) -> None:
            own = target.connect()
            for _ in range(count):
                async with window:
                    await one(own)
            own.close()

        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(client(executions // workers + (number < executions % workers)))
        crew.figures.seconds = time.perf_counter() - begin
        _account(crew.figures, target, cpu)
    connection.close()
    return crew.figures


async def measure_loop(target: Target, workers: int, iterations: int) -> Figures:
    """One parallel loop of so many iterations."""
    async with Workers(target, workers) as crew:
        cpu = target.cpu_seconds()
        begin = time.perf_counter()
        execution_id = await start(target, "bench/loop", LOOP, {"n": iterations})
        await crew.finished([execution_id])
        crew.figures.seconds = time.perf_counter() - begin
        _account(crew.figures, target, cpu)
    return crew.figures


def _account(figures: Figures, target: Target, cpu: float | None) -> None:
    now = target.cpu_seconds()
    if now is not None and cpu is not None:
        figures.cpu_seconds = now - cpu
    figures.resident_mib = target.resident_mib()


async def main() -> None:
    """Run what the command line asks for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=("events", "playbooks", "loop"))
    parser.add_argument("--server", required=True)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--beside")
    parser.add_argument("--beside-pid", type=int)
    parser.add_argument("--nats")
    parser.add_argument("--beside-nats")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--executions", type=int, default=1)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--iterations", default="100,1000")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    targets = [("ours", Target(options.server, options.pid, options.nats))]
    if options.beside:
        targets.insert(0, ("beside", Target(options.beside, options.beside_pid, options.beside_nats)))
    if options.scenario == "loop":
        for name, target in targets:
            for iterations in map(int, options.iterations.split(",")):
                figures = await measure_loop(target, options.workers, iterations)
                print("\n".join(figures.lines(f"{name} {iterations}")))
        return
    rates: dict[str, list[float]] = {name: [] for name, _ in targets}
    for _ in range(options.rounds):
        for name, target in targets:
            if options.scenario == "events":
                figures = await measure_events(target, options.seconds, options.connections, options.executions)
            else:
                figures = await measure_playbooks(target, options.workers, options.steps, options.executions)
            rates[name].append(figures.rate)
            print("\n".join(figures.lines(name)))
    if options.beside:
        ratio = statistics.median(rates["ours"]) / statistics.median(rates["beside"])
        print(f"ratio ours / beside: {ratio:.2f} (medians of {options.rounds} rounds)")


if __name__ == "__main__":
    asyncio.run(main())
