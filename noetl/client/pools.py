"""`client.pools`: the registry of workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from noetl.client.models import Worker

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping

    from noetl.client.calls import Calls

WORKER: Final = "worker_pool"


class PoolsApi:
    """Calls under ``/api/worker``."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list(
        self, *, kind: str | None = None, status: str | None = None, name: str | None = None
    ) -> builtins.list[Worker]:
        """The registered workers by name, or what else is registered (``kind``: ``server_api``, ``broker``)."""
        query = {"kind": kind, "status": status, "name": name}
        return await self._calls.call(list[Worker], "GET", "/api/worker/pools", query=query)

    async def register(self, name: str, *, kind: str = WORKER, status: str = "ready", **members: Any) -> Worker:
        """Register a worker, or replace what it told before: ``uri``, ``labels``, ``capacity``, ``runtime``, ..."""
        body = {"name": name, "kind": kind, "status": status, **members}
        return await self._calls.call(Worker, "POST", "/api/worker/pool/register", body, repeatable=True)

    async def heartbeat(self, name: str, *, kind: str = WORKER, registration: Mapping[str, Any] | None = None) -> None:
        """Say that a worker lives; with ``registration`` an unknown one is registered, else NotFoundError is raised."""
        body: dict[str, Any] = {"name": name, "kind": kind}
        if registration is not None:
            body["registration"] = dict(registration)
        await self._calls.call(object, "POST", "/api/worker/pool/heartbeat", body, repeatable=True)

    async def deregister(self, name: str, *, kind: str = WORKER) -> None:
        """Forget a worker."""
        await self._calls.call(object, "DELETE", "/api/worker/pool/deregister", {"name": name, "kind": kind})
