"""The client's connections, against peers that count, close, refuse, dawdle and babble."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from noetl.client import BadRequestError, NoAnswerError, NoetlClient, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 27\r\n\r\n" + b'{"error":"busy","status":1}'
)
LAST = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]"


class Peer:
    """Answers the requests of all connections with these bytes in turn, the last for ever; None closes the connection.

    ``requests`` are (number of the connection, head) in the order of arrival.
    """

    def __init__(self, answers: Sequence[bytes | None], *, stays: bool) -> None:
        self._answers = answers
        self._stays = stays
        self.requests: list[tuple[int, bytes]] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.closed = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = self.connections
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
                self.requests.append((number, head))
                self.arrived.set()
                await self.may_answer.wait()
                if answer is None:
                    return
                for index in range(len(answer)):  # byte by byte: an answer comes in whatever pieces the network makes
                    writer.write(answer[index : index + 1])
                    await writer.drain()
                if not self._stays:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.closed.set()


@asynccontextmanager
async def peer(
    *answers: bytes | None, stays: bool = False, seconds: float = 10.0, connections: int = 16
) -> AsyncIterator[tuple[NoetlClient, Peer]]:
    """A client, and its peer."""
    other = Peer(answers, stays=stays)
    server = await asyncio.start_server(other.handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, NoetlClient(url, seconds=seconds, connections=connections) as client:
        yield client, other


async def test_only_a_noetl_server_is_healthy() -> None:
    async with peer(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"up": true} ') as (other, _):
        assert not await other.is_healthy()
    assert not await other.is_healthy(), "nobody listens there any more"


async def test_refused_connection_names_the_server() -> None:
    async with peer(b"") as (gone, _):
        pass
    with pytest.raises(NoAnswerError, match=f"no answer from {gone.url}: connection refused"):
        await gone.pools.list()


@pytest.mark.parametrize(
    "answer",
    [
        EMPTY,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ],
    ids=["length", "chunks", "until the end of the connection", "after an interim answer"],
)
async def test_answer_is_read_to_its_end_however_that_is_told(answer: bytes) -> None:
    async with peer(answer) as (client, _):
        assert await client.pools.list() == []


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
    async with peer(answer) as (client, other):
        with pytest.raises(NoAnswerError, match=reason):
            await client.pools.list()
        assert len(other.requests) == 1, "it was asked once"


async def test_connection_is_used_again() -> None:
    async with peer(EMPTY, stays=True) as (client, other):
        for _ in range(5):
            await client.pools.list()
        assert [number for number, _ in other.requests] == [0] * 5
    await asyncio.wait_for(other.closed.wait(), 5)


async def test_connection_that_the_server_ends_is_not_used_again() -> None:
    async with peer(LAST, stays=True) as (client, other):
        await client.pools.list()
        await client.pools.list()
        assert [number for number, _ in other.requests] == [0, 1]


async def test_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with peer(EMPTY, stays=False) as (client, other):
        for number in range(2):
            assert await client.call("POST", "/once", {}) == [], "and not repeated either"
            await asyncio.wait_for(other.closed.wait(), 5)
            await asyncio.sleep(0.01)  # the end is on its way to us
            assert len(other.requests) == number + 1


async def test_surplus_behind_an_answer_is_never_taken_for_the_next_one() -> None:
    surplus = EMPTY.replace(b"[]", b"{}")
    said = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(EMPTY)
                await asyncio.sleep(0.02)
                writer.write(surplus)
                await writer.drain()
                said.set()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, NoetlClient(url) as client:
        for _ in range(3):
            assert await client.pools.list() == []
            await asyncio.wait_for(said.wait(), 5)
            await asyncio.sleep(0.01)  # it is on its way to us
            said.clear()


async def test_concurrent_requests_have_connections_of_their_own_up_to_the_limit() -> None:
    async with peer(EMPTY, stays=True, connections=3) as (client, other):
        await asyncio.gather(*(client.pools.list() for _ in range(12)))
        assert (other.connections, len(other.requests)) == (3, 12)


async def test_lost_kept_connection_is_replaced_where_that_does_no_harm() -> None:
    async with peer(EMPTY, None, EMPTY, stays=True) as (client, other):
        await client.pools.list()
        assert await client.pools.list() == []
        assert [number for number, _ in other.requests] == [0, 0, 1]


async def test_request_that_may_have_been_served_is_not_sent_again() -> None:
    async with peer(EMPTY, None, EMPTY, stays=True) as (client, other):
        await client.pools.list()
        with pytest.raises(NoAnswerError, match="closed before the end"):
            await client.executions.cancel(5)
        assert len(other.requests) == 2


async def test_busy_server_is_asked_again_when_it_wants_to() -> None:
    async with peer(BUSY, BUSY, EMPTY, stays=True) as (client, other):
        assert await client.pools.list() == []
        assert len(other.requests) == 3


async def test_busy_server_is_not_asked_for_ever() -> None:
    async with peer(BUSY, stays=True) as (client, other):
        with pytest.raises(UnavailableError, match="busy") as refusal:
            await client.pools.list()
        assert (len(other.requests), refusal.value.retry_after) == (4, 0)


@pytest.mark.parametrize(
    "answer",
    [BUSY.replace(b"Retry-After: 0\r\n", b""), BUSY.replace(b"After: 0", b"After: 3600")],
    ids=["without Retry-After", "much later"],
)
async def test_busy_server_that_does_not_want_to_be_asked_soon_is_not(answer: bytes) -> None:
    async with peer(answer, stays=True) as (client, other):
        with pytest.raises(UnavailableError):
            await client.pools.list()
        assert len(other.requests) == 1


async def test_start_is_repeated_under_the_same_key() -> None:
    started = b'{"execution_id":"7","status":"started","commands_generated":1}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(started), started)
    async with peer(BUSY, None, answer, BUSY, stays=True) as (client, other):
        assert (await client.executions.start("p")).execution_id == 7
        keys = [re.findall(rb"Idempotency-Key: (\w+)", head) for _, head in other.requests]
        assert (len(keys), len(keys[0])) == (3, 1)
        assert keys[0] == keys[1] == keys[2]


async def test_request_in_flight_ends_with_its_task() -> None:
    async with peer(b"", stays=True) as (client, other):
        other.may_answer.clear()
        task = asyncio.create_task(client.pools.list())
        await asyncio.wait_for(other.arrived.wait(), 5)
        task.cancel()
        async with asyncio.timeout(1):
            with pytest.raises(asyncio.CancelledError):
                await task
        other.may_answer.set()
        await asyncio.wait_for(other.closed.wait(), 5)


async def test_answer_of_a_cancelled_request_is_not_given_to_the_next() -> None:
    async with peer(EMPTY.replace(b"[]", b"{}"), EMPTY, stays=True) as (client, other):
        other.may_answer.clear()
        task = asyncio.create_task(client.pools.list())
        await asyncio.wait_for(other.arrived.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        other.may_answer.set()
        assert await client.pools.list() == []
        assert [number for number, _ in other.requests] == [0, 1]


async def test_silent_server_is_given_up_after_a_while() -> None:
    async with peer(b"", stays=True, seconds=0.05) as (client, other):
        with pytest.raises(NoAnswerError, match=r"within 0\.05 s"):
            await client.pools.list()
        with pytest.raises(NoAnswerError, match=r"within 0\.05 s"):
            async with client.results.stream("r"):
                pass
        assert other.connections == 2


async def test_stream_that_stops_is_given_up_after_a_while() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1"
    async with peer(half, stays=True, seconds=0.2) as (client, _), client.results.stream("r") as pieces:
        with pytest.raises(NoAnswerError, match=r"within 0\.2 s"):
            [piece async for piece in pieces]


async def test_stream_that_is_left_early_leaves_its_connection() -> None:
    async with peer(EMPTY, stays=True) as (client, other):
        async with client.results.stream("r"):
            pass
        assert await client.pools.list() == []
        assert [number for number, _ in other.requests] == [0, 1]


async def test_stream_of_a_busy_server_is_asked_for_again() -> None:
    async with peer(BUSY, BUSY, EMPTY, stays=True) as (client, other):
        async with client.results.stream("r") as pieces:
            assert b"".join([piece async for piece in pieces]) == b"[]"
        assert len(other.requests) == 3
    async with peer(BUSY, stays=True) as (client, other):
        with pytest.raises(UnavailableError, match="busy"):
            async with client.results.stream("r"):
                pass
        assert len(other.requests) == 4


async def test_connection_that_is_in_use_when_the_client_closes_is_closed_after_it() -> None:
    async with peer(EMPTY, stays=True) as (client, other):
        async with client.results.stream("r") as pieces:
            client._transport.close()
            assert b"".join([piece async for piece in pieces]) == b"[]"
        await asyncio.wait_for(other.closed.wait(), 5)


async def test_kept_connection_grows_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl.client.transport.IDLE_SECONDS", -1.0)
    async with peer(EMPTY, stays=True) as (client, other):
        for _ in range(2):
            await client.pools.list()
        assert [number for number, _ in other.requests] == [0, 1]


async def test_path_cannot_break_the_request_line() -> None:
    async with peer(EMPTY) as (client, other):
        await client.call("GET", "/api/credentials/a b\r\nX: ü?q=1&r=2")
    assert other.requests[0][1].startswith(b"GET /api/credentials/a%20b%0D%0AX:%20%C3%BC?q=1&r=2 HTTP/1.1\r\n")


async def test_header_cannot_break_the_head() -> None:
    async with peer(EMPTY) as (client, other):
        with pytest.raises(ValueError, match="line break"):
            await client.executions.start("p", idempotency_key="a\r\nX: y")
        assert other.requests == []


async def test_server_may_be_below_a_path() -> None:
    async with peer(EMPTY) as (client, other):
        await NoetlClient(f"{client.url}/noetl/").pools.list()
    assert other.requests[0][1].startswith(b"GET /noetl/api/worker/pools HTTP/1.1\r\n")


async def test_upload_that_is_refused_early_is_stopped_and_leaves_its_connection() -> None:
    refusal = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 8\r\n\r\ntoo much"
    stopped = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with peer(refusal, EMPTY, stays=True) as (client, other):
        with pytest.raises(BadRequestError, match="too much") as error:
            await client.results.put_stream(1, "x", stuck())
        assert (error.value.status, error.value.code) == (413, "too_large")
        await asyncio.wait_for(stopped.wait(), 5)
        assert await client.pools.list() == []
        assert [number for number, _ in other.requests] == [0, 1]


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Files of a certificate for 127.0.0.1 and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_file, key_file


async def test_https_server_is_believed_only_with_a_known_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    other = Peer([EMPTY], stays=True)
    server = await asyncio.start_server(other.handle, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with NoetlClient(url) as stranger:
            with pytest.raises(NoAnswerError, match="certificate verify failed"):
                await stranger.pools.list()
        async with NoetlClient(url, tls=ssl.create_default_context(cafile=str(certificate))) as client:
            assert [await client.pools.list() for _ in range(2)] == [[], []]
        assert [number for number, _ in other.requests] == [0, 0]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "file:///etc/passwd", "localhost:8082", "http://localhost:port"])
async def test_url_that_is_none_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(NoAnswerError):
        await NoetlClient(url).pools.list()
