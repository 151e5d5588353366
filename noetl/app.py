"""The composition root: settings in, a running server out, as one process or as several behind one port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.errors import NoetlError
from noetl.observability.context import log_context
from noetl.runtime.processes import ProcessesError, Supervisor, place_of
from noetl.server import Server
from noetl.store.database import Database
from noetl.store.shards import Shards

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.config import Settings
    from noetl.runtime.processes import ProcessPlace
    from noetl.store.shards import Databases

log = logging.getLogger("noetl.app")

LAST_WORK_SECONDS: Final = 10.0
"""What a process may need after its drain before its parent kills it: lanes, NATS, own row, pools."""


class StartError(Exception):
    """The server cannot start; the message says why (exit code 1)."""


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """The listening socket; ``shared`` lets several processes accept from one port.

    Raises:
        StartError: the address is taken or is none.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


async def serve(
    settings: Settings, *, on_ready: Callable[[str], None] | None = None, stop: asyncio.Event | None = None
) -> None:
    """Run the server until SIGTERM, SIGINT or ``stop``; a second signal ends the process at once.

    ``on_ready`` gets the address when the server is ready for requests.

    Raises:
        StartError: the address cannot be bound, or the database does not answer in time.
    """
    stop = stop or asyncio.Event()
    _handle_signals(stop)
    place = place_of(os.environ)
    http = settings.http
    is_parent = http.workers > 1 and place is None
    if is_parent and http.port:
        # A shared socket would join the processes of another server on the same port; this one meets them and fails.
        bind(http.host, http.port).close()
    listener = bind(http.host, http.port, shared=is_parent or place is not None)
    with contextlib.closing(listener):
        settings = with_port(settings, listener.getsockname()[1])
        if is_parent:
            await _supervise(settings, stop)
        else:
            with log_context(**({} if place is None else {"process_number": place.number})):
                await _serve_alone(settings, place, listener, stop, on_ready)
    log.info("Server shutdown complete")


async def _serve_alone(
    settings: Settings,
    place: ProcessPlace | None,
    listener: socket.socket,
    stop: asyncio.Event,
    on_ready: Callable[[str], None] | None,
) -> None:
    """Run the server in this process."""
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    try:
        databases = await connect_databases(settings)
    except NoetlError as error:
        raise StartError(error.detail or error.message) from error
    try:
        server = Server(settings, databases, place=place)
        log.info(
            "Snowflake generator initialized",
            extra={"machine_id": settings.identity.machine_id, "source": settings.identity.machine_id_source},
        )

        def ready() -> None:
            log.info("Server listening", extra={"address": address})
            if on_ready is not None:
                on_ready(address)

        await server.run(listener, stop, ready)
    finally:
        await databases.close()


async def connect_databases(settings: Settings) -> Databases:
    """The one database, or with NOETL_SHARDS all of them; raises as `Database.connect`."""
    sharding = settings.sharding
    if sharding.shards:
        return await Shards.connect(sharding.cluster, sharding.shards)
    return await Database.connect(settings.database)


async def _supervise(settings: Settings, stop: asyncio.Event) -> None:
    """Run the server as several processes; the caller's listener, which never listens, keeps the port reserved."""
    http = settings.http
    supervisor = Supervisor(
        http.workers,
        {**os.environ, "NOETL_PORT": str(http.port)},
        grace_seconds=http.shutdown_delay_seconds + http.shutdown_timeout_seconds + LAST_WORK_SECONDS,
    )
    _handle_signals(stop, supervisor.kill)
    try:
        code = await supervisor.run(stop)
    except ProcessesError as error:
        raise StartError(str(error)) from error
    if code:
        raise StartError("not all server processes could drain")


def with_port(settings: Settings, port: int) -> Settings:
    """The settings with the port that was bound, also in the address for workers where that is the default one."""
    if settings.http.port == port:
        return settings
    url = settings.http.public_server_url
    if url == f"http://localhost:{settings.http.port}":
        url = f"http://localhost:{port}"
    http = msgspec.structs.replace(settings.http, port=port, public_server_url=url)
    return msgspec.structs.replace(settings, http=http)


def _handle_signals(stop: asyncio.Event, at_once: Callable[[], None] | None = None) -> None:
    """Stop in order at the first signal; at the second exit with 1, after calling ``at_once``."""
    loop = asyncio.get_running_loop()

    def request_stop() -> None:
        if stop.is_set():
            if at_once is not None:
                at_once()
            os._exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, request_stop)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
