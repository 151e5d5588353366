"""Several server processes behind one port."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import re
import signal
import subprocess
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import msgspec
import orjson
import pytest

from noetl._fast.snowflake import SnowflakeGenerator
from noetl.app import with_port
from noetl.client import ConflictError, NoetlClient, NotFoundError
from noetl.config import load_settings
from noetl.dev.services import ServiceError, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from noetl.dev.server_process import ServerProcess
    from tests.conftest import MakeServer

PROCESSES = 2
PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata:
  name: wait
  path: processes/wait
workflow:
  - step: start
    tool:
      kind: noop
"""
TOTAL = re.compile(r'noetl_http_requests_total\{method="GET",route="/health",status="200"\} (\d+)')


@pytest.fixture
async def server(make_server: MakeServer) -> AsyncIterator[ServerProcess]:
    process = await make_server({"NOETL_WORKERS": str(PROCESSES)})
    yield process
    await process.stop()


def handle_of(server: ServerProcess) -> subprocess.Popen[bytes]:
    """The parent process."""
    process = server._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    return process


def children(parent: int) -> list[int]:
    """Process ids of the server processes."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def lives(pid: int) -> bool:
    """Whether a process is there and not merely waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until_gone(pids: list[int]) -> None:
    """Wait for processes that are not our children."""
    async with asyncio.timeout(20):
        while any(lives(pid) for pid in pids):  # noqa: ASYNC110 (not our children)
            await asyncio.sleep(0.05)


async def until_replaced(server: ServerProcess, victim: int) -> None:
    """Wait until as many processes as before are there, without the victim."""
    async with asyncio.timeout(20):
        while len(set(children(server.pid)) - {victim}) < PROCESSES:  # noqa: ASYNC110 (another process's child)
            await asyncio.sleep(0.05)


async def get(server: ServerProcess, path: str) -> str:
    """An answer over a connection of its own, so that the kernel chooses the process anew."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read()).decode()
    finally:
        writer.close()


async def health_requests(server: ServerProcess) -> int:
    """The counter of answered ``/health`` requests in one scrape."""
    text = await get(server, "/metrics")
    found = TOTAL.search(text)
    assert found is not None, text
    return int(found[1])


async def post(server: ServerProcess, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The answer over a connection of its own; None when the process behind it was just killed."""
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + content)
            answer = await reader.read()
        finally:
            writer.close()
    except OSError:
        return None
    if not answer:
        return None
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return orjson.loads(answer.partition(b"\r\n\r\n")[2])


async def rows_of(database_url: str, query: str) -> list[dict[str, Any]]:
    """All rows of a query."""
    connection = cast("Any", await asyncpg.connect(database_url))
    try:
        return [dict(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_every_scrape_shows_the_sum_of_all_processes(server: ServerProcess) -> None:
    for _ in range(60):
        assert " 200 " in await get(server, "/health")
    # Whichever process answers; with 2 processes the chance that one answers all is 1 in 512.
    assert [await health_requests(server) for _ in range(10)] == [60] * 10


async def test_work_of_the_ledger_the_messaging_and_the_sweeps_is_counted(server: ServerProcess) -> None:
    def value(text: str, series: str) -> float:
        found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
        assert found is not None, series
        return float(found[1])

    assert await post(server, "/api/catalog/register", {"content": PLAYBOOK}) is not None
    started = [await post(server, "/api/execute", {"path": "processes/wait", "payload": {}}) for _ in range(5)]
    assert all(answer is not None and answer["commands_generated"] == 1 for answer in started)
    moved = {
        'noetl_commands_issued_total{pool_segment="shared"}': 5,
        "noetl_executions_started_total": 5,
        'noetl_nats_publish_total{outcome="ok"}': 5,
    }
    async with asyncio.timeout(20):
        while True:
            text = await get(server, "/metrics")
            published = value(text, 'noetl_nats_publish_total{outcome="ok"}')
            # the runtime sweep runs in the one process with the lease, the registration in each
            if published >= 5 and 'sweep="runtime",status="ok"' in text and "registration" in text:
                break
            await asyncio.sleep(0.05)
    for series, count in moved.items():
        assert value(text, series) == count, series
    still = {
        "noetl_nats_connected": 1,
        "noetl_nats_notifications_waiting": 0,
        "noetl_nats_reannounced_total": 0,
        'noetl_nats_segment_unheard{pool_segment="system"}': 0,
        "noetl_commands_requeued_total": 0,
        "noetl_snowflake_clock_backwards_total": 0,
        "noetl_log_lines_dropped_total": 0,
        "noetl_lane_queue_depth": 0,
        'noetl_command_claim_total{outcome="claimed"}': 0,
    }
    for series, count in still.items():
        assert value(text, series) == count, series


async def test_claims_are_counted_by_outcome(server: ServerProcess, database_url: str) -> None:
    assert await post(server, "/api/catalog/register", {"content": PLAYBOOK}) is not None
    started = await post(server, "/api/execute", {"path": "processes/wait", "payload": {}})
    assert started is not None
    rows = await rows_of(
        database_url,
        f"SELECT event_id FROM noetl.event WHERE event_type = 'command.issued' "
        f"AND execution_id = {int(started['execution_id'])}",
    )
    command = rows[0]["event_id"]
    assert await post(server, f"/api/commands/{command}/claim", {"worker_id": "worker-1"}) is not None
    async with NoetlClient(server.url) as client:
        for other, refusal in ((command, ConflictError), (1, NotFoundError)):
            with pytest.raises(refusal):
                await client.call("POST", f"/api/commands/{other}/claim", {"worker_id": "worker-2"})
    text = await get(server, "/metrics")
    counts = dict(re.findall(r'noetl_command_claim_total\{outcome="(\w+)"\} (\d+)', text))
    assert counts == {"claimed": "1", "conflict": "1", "not_found": "1", "error": "0"}


async def test_stopped_process_counts_with_its_last_known_numbers(server: ServerProcess) -> None:
    for _ in range(30):
        await get(server, "/health")
    for _ in range(20):  # each process has seen the other's numbers with near certainty
        assert await health_requests(server) == 30
    victim = children(server.pid)[0]
    os.kill(victim, signal.SIGSTOP)
    try:
        answers = 0
        async with asyncio.timeout(20):
            while answers < 3:
                try:
                    async with asyncio.timeout(1):
                        assert await health_requests(server) == 30
                    answers += 1
                except TimeoutError:
                    continue  # the kernel chose the process that does not run
    finally:
        os.kill(victim, signal.SIGCONT)


async def test_killed_process_is_replaced_while_executions_start_and_ids_stay_distinct(
    server: ServerProcess, database_url: str
) -> None:
    assert await post(server, "/api/catalog/register", {"content": PLAYBOOK}) is not None
    before = children(server.pid)
    assert len(before) == PROCESSES
    ids: list[int] = []

    async def start() -> None:
        answer = await post(server, "/api/execute", {"path": "processes/wait", "payload": {}})
        if answer is not None:
            ids.append(int(answer["execution_id"]))

    async def start_until_both_processes_did(at_least: int) -> None:
        begin = len(ids)
        async with asyncio.timeout(30):
            while len(ids) - begin < at_least or {identifier >> 11 & 1 for identifier in ids[begin:]} != {0, 1}:
                await start()

    await start_until_both_processes_did(20)
    killing = asyncio.create_task(until_replaced(server, before[0]))
    os.kill(before[0], signal.SIGKILL)
    while not killing.done():
        await start()
    await killing
    await start_until_both_processes_did(20)
    assert before[1] in children(server.pid)
    assert len(set(ids)) == len(ids)
    rows = await rows_of(database_url, "SELECT execution_id, event_id FROM noetl.event")
    assert len({row["event_id"] for row in rows}) == len(rows)
    assert set(ids) <= {row["execution_id"] for row in rows}, "what was answered is in the log"


async def test_restart_waits_out_the_second_that_ids_may_be_ahead_of_the_clock(server: ServerProcess) -> None:
    victim = children(server.pid)[0]
    begin = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    await until_replaced(server, victim)
    assert time.monotonic() - begin >= 1


async def test_processes_have_identities_of_their_own(server: ServerProcess, database_url: str) -> None:
    query = "SELECT name FROM noetl.runtime WHERE kind = 'server_api' AND status = 'ready' ORDER BY name"
    async with asyncio.timeout(20):
        while len(rows := await rows_of(database_url, query)) < PROCESSES:  # noqa: ASYNC110 (written when they get to it)
            await asyncio.sleep(0.05)
    names = [row["name"] for row in rows]
    assert [name.rpartition("-")[2] for name in names] == ["0", "1"]
    leases = await rows_of(database_url, "SELECT holder FROM noetl.server_lease")
    assert {lease["holder"] for lease in leases} <= set(names)
    assert leases


async def test_log_lines_name_their_process(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_WORKERS": str(PROCESSES), "RUST_LOG": "debug"})
    async with asyncio.timeout(20):
        while server.log_text().count('"Server listening"') < PROCESSES:  # noqa: ASYNC110 (another process's log)
            await asyncio.sleep(0.05)
    for _ in range(20):
        await get(server, "/api/playbooks/none")  # not one of the quiet routes
    await server.stop()
    lines = [orjson.loads(line)["fields"] for line in server.log_text().splitlines() if line.startswith("{")]
    listening = sorted(line["process_number"] for line in lines if line["message"] == "Server listening")
    assert listening == [0, 1]
    requests = [line for line in lines if "/api/playbooks/none" in str(line)]
    assert len(requests) >= 20
    assert {line["process_number"] for line in requests} == {0, 1}


async def test_processes_drain_and_exit_with_zero(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_WORKERS": str(PROCESSES)})
    pids = children(server.pid)
    process = handle_of(server)
    os.kill(server.pid, signal.SIGHUP)  # has no effect
    assert " 200 " in await get(server, "/health")
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert not any(lives(pid) for pid in pids)


async def test_stop_during_the_pause_before_a_restart_is_prompt_and_clean(server: ServerProcess) -> None:
    process = handle_of(server)
    victim = children(server.pid)[0]
    os.kill(victim, signal.SIGKILL)
    await until_gone([victim])
    begin = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 20) == 0
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.2, 0.6])
async def test_stop_during_the_start_leaves_no_process(make_server: MakeServer, delay: float) -> None:
    server = await make_server({"NOETL_WORKERS": "4"}, start=False)
    starting = asyncio.create_task(server.start())
    pids: list[int] = []
    async with asyncio.timeout(30):
        while not pids:  # the first of four processes: the others are just being made
            await asyncio.sleep(0.002)
            pids = children(server.pid) if server._process is not None else []  # pyright: ignore[reportPrivateUsage]
    await asyncio.sleep(delay)
    process = handle_of(server)
    pids = children(server.pid)
    os.kill(server.pid, signal.SIGTERM)
    try:
        assert await asyncio.to_thread(process.wait, 25) == 0
    finally:
        process.kill()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    assert not any(lives(pid) for pid in pids)


async def test_second_signal_ends_all_processes_at_once(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_WORKERS": str(PROCESSES), "NOETL_SHUTDOWN_DELAY_SECONDS": "20"})
    pids = children(server.pid)
    process = handle_of(server)
    os.kill(server.pid, signal.SIGTERM)
    async with asyncio.timeout(10):
        while "draining" not in await get(server, "/readyz"):  # noqa: ASYNC110 (another process's phase)
            await asyncio.sleep(0.02)
    begin = time.monotonic()
    os.kill(server.pid, signal.SIGINT)
    assert await asyncio.to_thread(process.wait, 20) == 1
    await until_gone(pids)
    assert time.monotonic() - begin < 5


async def test_process_that_does_not_stop_is_killed_after_the_grace_period(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_WORKERS": str(PROCESSES), "NOETL_SHUTDOWN_TIMEOUT_SECONDS": "0"})
    pids = children(server.pid)
    process = handle_of(server)
    os.kill(pids[0], signal.SIGSTOP)
    os.kill(server.pid, signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, 30) == 1
    assert not any(lives(pid) for pid in pids)


async def test_processes_end_with_their_parent(make_server: MakeServer) -> None:
    server = await make_server({"NOETL_WORKERS": str(PROCESSES)})
    pids = children(server.pid)
    await server.kill()
    await until_gone(pids)


async def test_two_servers_do_not_share_a_port_by_accident(make_server: MakeServer, server: ServerProcess) -> None:
    second = await make_server({"NOETL_WORKERS": str(PROCESSES)}, port=server.port, start=False)
    process = await asyncio.create_subprocess_exec(
        *second._command(),  # pyright: ignore[reportPrivateUsage]
        env=second._environment(),  # pyright: ignore[reportPrivateUsage]
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            _, error = await process.communicate()
        assert process.returncode == 1
        assert "Address already in use" in error.decode()
    finally:
        if process.returncode is None:
            process.kill()


async def test_start_error_of_the_processes_ends_the_server(make_server: MakeServer) -> None:
    server = await make_server(
        {"NOETL_WORKERS": str(PROCESSES), "POSTGRES_ACQUIRE_TIMEOUT": "1"},
        database_url=f"postgres://nobody@127.0.0.1:{free_port()}/none",
        start=False,
    )
    begin = time.monotonic()
    with pytest.raises(ServiceError, match="Error: "):
        await server.start()
    assert time.monotonic() - begin < 15
    # each process says once why, none was started again
    assert 1 <= server.log_text().count("Error: ") <= PROCESSES + 1


def test_bound_port_enters_only_the_default_public_address() -> None:
    environment = {"NOETL_PORT": "0", "POSTGRES_HOST": "db"}
    assert with_port(load_settings(environment), 18099).http.public_server_url == "http://localhost:18099"
    given = load_settings({**environment, "NOETL_PUBLIC_SERVER_URL": "http://[fe80::1:0:0]:0123/x"})
    moved = with_port(given, 18099)
    assert moved.http.public_server_url == given.http.public_server_url
    assert moved.http.port == 18099
    assert with_port(moved, 18099) is moved
    assert msgspec.structs.replace(moved.http, port=0) == given.http


def mint(stripe: int, count: int) -> bytes:
    """So many ids of one process."""
    return array("q", SnowflakeGenerator(7, stripe, 4).mint_many(count)).tobytes()


def test_ten_million_ids_of_four_processes_are_distinct() -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        parts = pool.starmap(mint, [(stripe, 2_500_000) for stripe in range(4)])
    stripes: list[set[int]] = []
    for part in parts:
        ids = array("q", part)
        assert all(earlier < later for earlier, later in itertools.pairwise(ids))
        stripes.append({identifier >> 10 & 3 for identifier in ids})
    # ascending within a process, and no two processes share the bits of their stripe: all are distinct
    assert stripes == [{0}, {1}, {2}, {3}]
