"""Worker registry and shard arithmetic (spec 20, section 11; spec 10, section 9; spec 60, section 9)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import msgspec

from noetl._fast.sharding import shard_for
from noetl.errors import NotFoundError, UnprocessableError
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import (
    IntegerSyntaxError,
    Query,
    decode_json,
    json_text,
    parse_integer,
    refuse_nul,
    refuse_nul_in_json,
)
from noetl.http.responses import json_response, stored_json, timestamp
from noetl.store.runtime import Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.runtime import RuntimeRow, RuntimeStore

ABSENT: Final = msgspec.UNSET
ALIASES: Final = {"component_type": "kind"}
KINDS: Final = frozenset({"worker_pool", "server_api", "broker"})
DEFAULT_KIND: Final = "worker_pool"
MAX_SHARDS: Final = 1024
TEXT_LIMIT: Final = 1000
"""Bytes of an indexed text; PostgreSQL refuses index entries above 2,704 bytes."""

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}

Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]


class WriteObserver(Protocol):
    """What these routes tell the metrics (spec 60, section 10)."""

    def observe_write(self, endpoint: str, ok: bool, seconds: float, /) -> None:
        """Count one registration or heartbeat."""
        ...


class RuntimeKey(msgspec.Struct, kw_only=True):
    """Who is meant: body of the deregistration."""

    name: str
    kind: str | msgspec.UnsetType = ABSENT
    component_type: str | msgspec.UnsetType = ABSENT


class Description(msgspec.Struct, kw_only=True):
    """What a runtime says about itself besides its name and kind."""

    uri: str | msgspec.UnsetType | None = ABSENT
    status: str | msgspec.UnsetType = ABSENT
    labels: msgspec.Raw = msgspec.Raw()
    capabilities: msgspec.Raw = msgspec.Raw()
    capacity: Int32 | msgspec.UnsetType | None = ABSENT
    runtime: msgspec.Raw = msgspec.Raw()
    hostname: str | msgspec.UnsetType | None = ABSENT


class RuntimeRegisterRequest(Description, kw_only=True):
    """Body of the registration; ``hostname`` is accepted and not stored, as in the reference."""

    name: str
    kind: str | msgspec.UnsetType = ABSENT
    component_type: str | msgspec.UnsetType = ABSENT


class HeartbeatRequest(RuntimeKey, kw_only=True):
    """Body of the heartbeat; with ``registration`` an unknown runtime is registered instead of refused."""

    registration: Description | msgspec.UnsetType | None = ABSENT


class RuntimeRoutes:
    """The registry's routes and shard-info.

    Args:
        store: the rows.
        mint: gives ids of new rows.
        shard_index, shard_count: identity of this process, reported by shard-info.
        observer: told about registrations and heartbeats; None for none.
    """

    def __init__(
        self,
        store: RuntimeStore,
        mint: Callable[[], int],
        *,
        shard_index: int = 0,
        shard_count: int = 1,
        observer: WriteObserver | None = None,
    ) -> None:
        self._store = store
        self._mint = mint
        self._shard_index = shard_index
        self._shard_count = shard_count
        self._observer = observer
        self._register = msgspec.json.Decoder(RuntimeRegisterRequest)
        self._heartbeat = msgspec.json.Decoder(HeartbeatRequest)
        self._key = msgspec.json.Decoder(RuntimeKey)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``. Workers deregister with POST, which the reference refuses with 405."""
        application.add_route("POST", "/api/worker/pool/register", self.register_runtime)
        application.add_route("POST", "/api/worker/pool/heartbeat", self.heartbeat, quiet=True, last=True)
        application.add_route("DELETE", "/api/worker/pool/deregister", self.deregister)
        application.add_route("POST", "/api/worker/pool/deregister", self.deregister)
        application.add_route("GET", "/api/worker/pools", self.pools)
        application.add_route("GET", "/api/runtime/shard-info", self.shard_info)

    async def register_runtime(self, request: Request) -> Response:
        """Insert or overwrite the runtime of this kind and name; answers with its row."""
        body = await json_text(request)
        given = decode_json(body, self._register)
        refuse_duplicates(body, given, ALIASES)
        with self._observed("runtime_register"):
            row = await self._store.upsert(self._mint(), _registration(given, given))
        return json_response(_object(row))

    async def heartbeat(self, request: Request) -> Response:
        """Record that the runtime lives; 404 for an unknown one that does not bring its registration."""
        body = await json_text(request)
        given = decode_json(body, self._heartbeat)
        description = given.registration if isinstance(given.registration, Description) else None
        if description is None:
            refuse_duplicates(body, given, ALIASES)
        kind = _kind(given)
        with self._observed("runtime_heartbeat"):
            refuse_nul("name", given.name)
            refuse_nul("kind", kind)
            if not await self._store.heartbeat(kind, given.name):
                if description is None:
                    raise NotFoundError(f"Runtime not found: {kind} {given.name}")
                await self._store.upsert(self._mint(), _registration(given, description), begins=False)
        return json_response({"status": "ok", "message": "Heartbeat recorded"})

    async def deregister(self, request: Request) -> Response:
        """Delete the runtime's row."""
        body = await json_text(request)
        given = decode_json(body, self._key)
        refuse_duplicates(body, given, ALIASES)
        kind = _kind(given)
        refuse_nul("name", given.name)
        refuse_nul("kind", kind)
        if not await self._store.delete(kind, given.name):
            raise NotFoundError(f"Runtime not found: {kind} {given.name}")
        return json_response({"status": "ok", "message": f"Runtime {kind} {given.name} deregistered"})

    async def pools(self, request: Request) -> Response:
        """The runtimes of a kind, by name."""
        query = Query(request)
        kind, status, name = query.text("kind"), query.text("status"), query.text("name")
        for field, text in (("kind", kind), ("status", status), ("name", name)):
            refuse_nul(field, text)
        rows = await self._store.list(DEFAULT_KIND if kind is None else kind, status, name)
        return json_response([_object(row) for row in rows])

    async def shard_info(self, request: Request) -> Response:
        """The shard of an execution among ``shard_count``: pure arithmetic, which gateways compare with theirs."""
        query = Query(request)
        query.integer("shard_count", bits=32, signed=False)  # a wrong value is reported before a missing one
        text = query.required_text("execution_id")
        count = query.required_integer("shard_count", bits=32, signed=False)
        try:
            execution_id = parse_integer(text)
        except IntegerSyntaxError:
            return json_response({"error": f"execution_id {_quoted(text)} is not a valid i64"}, 400)
        if count < 1:
            return json_response({"error": "shard_count must be >= 1"}, 400)
        if count > MAX_SHARDS:
            return json_response({"error": f"shard_count {count} exceeds practical maximum {MAX_SHARDS}"}, 400)
        return json_response(
            {
                "execution_id": execution_id,
                "shard_count": count,
                "shard_index": shard_for(execution_id, count),
                "source": "noetl-server",
                "hash_function": "twox_hash::XxHash64",
                "seed": 0,
                "server_config": {"shard_index": self._shard_index, "shard_count": self._shard_count},
            }
        )

    @contextmanager
    def _observed(self, endpoint: str) -> Generator[None]:
        started = time.perf_counter()
        ok = False
        try:
            yield
            ok = True
        finally:
            if self._observer is not None:
                self._observer.observe_write(endpoint, ok, time.perf_counter() - started)


def _kind(given: RuntimeKey | RuntimeRegisterRequest) -> str:
    for kind in (given.kind, given.component_type):
        if isinstance(kind, str):
            return kind
    return DEFAULT_KIND


def _registration(key: RuntimeKey | RuntimeRegisterRequest, description: Description) -> Registration:
    kind = _kind(key)
    if kind not in KINDS:
        raise UnprocessableError(f"Invalid runtime kind: {kind}")
    status = description.status if isinstance(description.status, str) else "active"
    uri = description.uri if isinstance(description.uri, str) else None
    for field, text in (("name", key.name), ("status", status)):
        if len(text.encode()) > TEXT_LIMIT:
            raise UnprocessableError(f"{field} must not be longer than {TEXT_LIMIT} bytes")
    for field, text in (("name", key.name), ("status", status), ("uri", uri)):
        refuse_nul(field, text)
    return Registration(
        name=key.name,
        kind=kind,
        uri=uri,
        status=status,
        labels=_json("labels", description.labels),
        capabilities=_json("capabilities", description.capabilities),
        capacity=description.capacity if isinstance(description.capacity, int) else None,
        runtime=_json("runtime", description.runtime),
    )


def _json(field: str, raw: msgspec.Raw) -> bytes | None:
    text = bytes(raw)
    if not text or text == b"null":
        return None
    refuse_nul_in_json(field, text)
    return text


def _object(row: RuntimeRow) -> dict[str, Any]:
    return {
        "runtime_id": row.runtime_id,
        "name": row.name,
        "kind": row.kind,
        "uri": row.uri,
        "status": row.status,
        "labels": stored_json(row.labels),
        "capabilities": stored_json(row.capabilities),
        "capacity": row.capacity,
        "runtime": stored_json(row.runtime),
        "heartbeat": timestamp(row.heartbeat),
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
    }


def _quoted(text: str) -> str:
    """The text in quotes with the escapes of the reference's message: ``\\n``, ``\\"``, ``\\u{7f}``."""
    return f'"{"".join(_escaped(character) for character in text)}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\u{{{ord(character):x}}}"
