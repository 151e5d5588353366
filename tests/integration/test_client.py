"""The typed client: against the real server, and against peers that behave badly."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from noetl.client import ApiError, NoAnswerError, NoetlClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import MakeServer

HELLO = (Path(__file__).parents[2] / "examples" / "hello.yaml").read_text()


@pytest.fixture(scope="module")
async def noetl(make_server: MakeServer) -> NoetlClient:
    return NoetlClient((await make_server()).url)


@asynccontextmanager
async def peer(answer: bytes, *, stays: bool = False) -> AsyncIterator[tuple[NoetlClient, list[bytes]]]:
    """A client of somebody who answers every request with these bytes; what it received so far is the second member."""
    received: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        for number in range(len(answer)):  # byte by byte: an answer comes in whatever pieces the network makes
            writer.write(answer[number : number + 1])
            await writer.drain()
        if stays:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield NoetlClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), received


async def test_playbook_is_registered_read_and_executed(noetl: NoetlClient) -> None:
    first, second = await noetl.register(HELLO), await noetl.register(HELLO)
    assert (second.path, second.version) == ("examples/hello", first.version + 1)
    assert (await noetl.resource("examples/hello")).version == second.version
    assert (await noetl.resource("examples/hello", first.version)).content == HELLO
    assert [entry.version for entry in await noetl.catalog() if entry.path == first.path][:1] == [second.version]

    started = await noetl.execute("examples/hello", {"name": "Ada"}, version=first.version)
    assert started.commands_generated == 1
    detail = await noetl.execution(started.execution_id)
    assert detail.workload == {"name": "Ada"}
    assert [event.event_type for event in detail.events] == ["playbook_started", "command.issued"]
    assert str(detail.execution_id) in {str(item.execution_id) for item in await noetl.executions(path="hello")}
    assert await noetl.executions(status="FAILED") == []


async def test_cancelled_execution_is_completed_but_not_failed(noetl: NoetlClient) -> None:
    await noetl.register(HELLO)
    started = await noetl.execute("examples/hello")
    before = await noetl.status(started.execution_id)
    assert (before.status, before.completed) == ("RUNNING", False)
    await noetl.cancel(started.execution_id, "no longer needed")
    after = await noetl.status(started.execution_id)
    assert (after.status, after.completed, after.failed) == ("CANCELLED", True, False)


async def test_refusal_carries_the_words_of_the_server(noetl: NoetlClient) -> None:
    with pytest.raises(ApiError, match=r"^Execution not found: 5555$") as refusal:
        await noetl.execution(5555)
    assert refusal.value.status == 404


async def test_only_a_noetl_server_is_healthy(noetl: NoetlClient) -> None:
    assert await noetl.is_healthy()
    async with peer(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"up": true} ') as (other, _):
        assert not await other.is_healthy()
    assert not await other.is_healthy(), "nobody listens there any more"


async def test_refused_connection_names_the_server() -> None:
    async with peer(b"") as (gone, _):
        pass
    with pytest.raises(NoAnswerError, match=f"no answer from {gone.url}: connection refused"):
        await gone.pools()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ],
    ids=["length", "chunks", "until the end of the connection", "after an interim answer"],
)
async def test_answer_is_read_to_its_end_however_that_is_told(answer: bytes) -> None:
    async with peer(answer) as (client, _):
        assert await client.pools() == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed before the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", "closed before the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "does not answer as a NoETL server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "does not answer as a NoETL server"),
        (b"220 mail.example.org ESMTP\r\n", "no HTTP answer"),
    ],
    ids=["nothing", "half", "a web page", "other JSON", "another protocol"],
)
async def test_useless_answer_is_an_error_that_says_so(answer: bytes, reason: str) -> None:
    async with peer(answer) as (client, received):
        with pytest.raises(NoAnswerError, match=reason):
            await client.pools()
        assert len(received) == 1, "a request is never repeated"


async def test_request_in_flight_ends_with_its_task() -> None:
    async with peer(b"", stays=True) as (client, received):
        task = asyncio.create_task(client.pools())
        while not received:  # noqa: ASYNC110 (filled by the peer)
            await asyncio.sleep(0.001)
        task.cancel()
        async with asyncio.timeout(1):
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_silent_server_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl.client.HEALTH_TIMEOUT_SECONDS", 0.05)
    async with peer(b"", stays=True) as (client, received):
        assert not await client.is_healthy()
        assert len(received) == 1


async def test_path_cannot_break_the_request_line() -> None:
    async with peer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as (client, received):
        await client.call("GET", "/api/credentials/a b\r\nX: ü?q=1&r=2")
    assert received[0].startswith(b"GET /api/credentials/a%20bX:%20%C3%BC?q=1&r=2 HTTP/1.1\r\n")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "file:///etc/passwd", "localhost:8082", "http://localhost:port"])
async def test_url_that_is_none_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(NoAnswerError):
        await NoetlClient(url).pools()
