"""The embedded PostgreSQL and NATS: start, stop, crash and recovery, leftovers of a killed supervisor."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import nats as nats_client
import pytest

from noetl.dev import services
from noetl.dev.services import EmbeddedNats, EmbeddedPostgres, ServiceError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.conftest import MakeDatabase, MakePostgres, MakeServer


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder in the system's temporary folder, which every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="noetl-test-"))
    yield folder
    shutil.rmtree(folder)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def copied_postgres(folder: Path) -> tuple[Path, int]:
    """The program copied into a data folder, and when."""
    (copy,) = folder.glob("installation/*/*/bin/postgres")
    return copy, copy.stat().st_ctime_ns


async def fetch(dsn: str, query: str) -> Any:
    connection: Any = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def reap(process: subprocess.Popen[bytes]) -> threading.Thread:
    """Wait for an abandoned child in the background, as init does for orphans."""
    thread = threading.Thread(target=process.wait)
    thread.start()
    return thread


async def test_postgres_serves_over_tcp_with_the_given_settings(make_postgres: MakePostgres) -> None:
    cluster = await make_postgres({"work_mem": "7MB"})
    assert await fetch(cluster.dsn, "SHOW work_mem") == "7MB"
    assert await fetch(cluster.dsn, "SHOW fsync") == "off"
    assert await fetch(cluster.dsn, "SHOW server_encoding") == "UTF8"


async def test_committed_rows_survive_kill_and_restart_of_postgres(make_postgres: MakePostgres) -> None:
    cluster = await make_postgres()
    port = cluster.port
    writer: Any = await asyncpg.connect(cluster.dsn)
    await writer.execute("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)")
    await cluster.kill()
    assert not is_listening(port)
    await cluster.restart()
    assert cluster.port == port
    assert await fetch(cluster.dsn, "SELECT count(*) FROM t") == 1000


async def test_stored_messages_survive_kill_and_restart_of_nats(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path) as server:
        client = await nats_client.connect(server.url)
        stream = client.jetstream()
        await stream.add_stream(name="s", subjects=["s.>"])
        await stream.publish("s.a", b"1")
        await client.close()
        await server.kill()
        await server.restart()
        client = await nats_client.connect(server.url)
        assert (await client.jetstream().stream_info("s")).state.messages == 1
        await client.close()


async def test_nothing_listens_after_the_context(public_folder: Path, tmp_path: Path) -> None:
    async with EmbeddedPostgres(public_folder) as cluster, EmbeddedNats(tmp_path) as server:
        assert is_listening(cluster.port)
        assert is_listening(server.port)
    assert not is_listening(cluster.port)
    assert not is_listening(server.port)


async def test_data_of_an_earlier_run_is_found_again_on_another_port(public_folder: Path) -> None:
    async with EmbeddedPostgres(public_folder) as first:
        await fetch(first.dsn, "CREATE TABLE kept ()")
    async with EmbeddedPostgres(public_folder) as second:
        assert await fetch(second.dsn, "SELECT to_regclass('kept')::text") == "kept"


async def test_services_that_a_killed_supervisor_left_are_ended_first(public_folder: Path, tmp_path: Path) -> None:
    cluster, server = EmbeddedPostgres(public_folder), EmbeddedNats(tmp_path)
    await cluster.start()
    await server.start()
    # what is left of a supervisor after kill -9: running children that nobody knows
    orphans = [cluster._process, server._process]
    reapers = [reap(process) for process in orphans if process is not None]
    async with EmbeddedPostgres(public_folder) as successor, EmbeddedNats(tmp_path):
        assert [process.poll() for process in orphans if process is not None] == [0, 0]
        assert await fetch(successor.dsn, "SELECT 1") == 1
    for thread in reapers:
        thread.join()


async def test_failing_start_reports_the_end_of_the_log(public_folder: Path) -> None:
    with pytest.raises(ServiceError, match=r"unrecognized configuration parameter \"no_such_setting\""):
        await EmbeddedPostgres(public_folder, settings={"no_such_setting": "1"}).start()


async def test_occupied_port_is_reported(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(ServiceError, match="nats ended with code 1"):
            await EmbeddedNats(tmp_path, port=other.getsockname()[1]).start()


async def test_cancelled_start_leaves_nothing_running(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)

    async def use() -> None:
        async with server:
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await asyncio.sleep(0)  # the start has begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_listening(server.port)


async def test_every_database_is_fresh(make_database: MakeDatabase) -> None:
    first, second = await make_database(), await make_database()
    await fetch(first, "CREATE TABLE only_here ()")
    assert await fetch(second, "SELECT to_regclass('only_here')") is None


async def test_interrupted_initialisation_is_begun_again(public_folder: Path) -> None:
    half = public_folder / "cluster.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("16\n")
    async with EmbeddedPostgres(public_folder) as cluster:
        assert await fetch(cluster.dsn, "SELECT 1") == 1
    assert not half.exists()


@pytest.fixture
def private_folder(tmp_path: Path) -> Path:
    """A folder that only its owner may enter."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def private_binaries(private_folder: Path) -> Path:
    """The PostgreSQL of the wheel as installed in an environment that only its owner may enter."""
    package = services._postgres_binaries().parent.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, private_folder / source.name, symlinks=True)
    return private_folder / package.name / services._postgres_binaries().parent.name / "bin"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run PostgreSQL as another user")
class TestUnderRoot:
    async def test_private_data_folder_is_refused_with_advice(self, private_folder: Path) -> None:
        with pytest.raises(ServiceError, match=r"cannot reach .*choose a data folder outside"):
            await EmbeddedPostgres(private_folder / "data").start()

    async def test_private_binaries_are_copied_with_their_libraries(
        self, public_folder: Path, private_binaries: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(services, "_postgres_binaries", lambda: private_binaries)
        async with EmbeddedPostgres(public_folder) as cluster:
            assert await fetch(cluster.dsn, "SELECT 1") == 1
        first = copied_postgres(public_folder)
        async with EmbeddedPostgres(public_folder):
            assert copied_postgres(public_folder) == first, "copied once"


async def test_server_answers_again_on_its_port_after_kill_and_restart(make_server: MakeServer) -> None:
    server = await make_server()
    port, first = server.port, server.pid
    await server.kill()
    assert not is_listening(port)
    await server.restart()
    assert (server.port, is_listening(port)) == (port, True)
    assert server.pid != first


async def test_refused_configuration_of_the_server_is_shown(make_server: MakeServer) -> None:
    with pytest.raises(ServiceError, match=r"(?s)ended with code 2.*NOETL_LANES"):
        await make_server({"NOETL_LANES": "many"})


async def test_settings_of_the_caller_do_not_reach_the_server(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOETL_LANES", "many")
    monkeypatch.setenv("POSTGRES_PORT", "none")
    server = await make_server()
    assert is_listening(server.port)
    await server.stop()
