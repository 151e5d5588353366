"""`client.credentials`: secrets that playbooks refer to by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from noetl.client.calls import segment
from noetl.client.models import Credential

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence

    from noetl.client.calls import Calls


class _Items(msgspec.Struct):
    items: list[Credential]


class CredentialsApi:
    """Calls under ``/api/credentials``. Errors and representations never show a value."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self,
        name: str,
        type: str,
        data: Any,
        *,
        meta: Any = None,
        tags: Sequence[str] | None = None,
        description: str | None = None,
    ) -> Credential:
        """Create a credential, or replace all of it; ``data`` is the secret, such as ``{"password": ...}``."""
        body = {"name": name, "type": type, "data": data, "meta": meta, "tags": tags, "description": description}
        return await self._calls.call(Credential, "POST", "/api/credentials", body, repeatable=True)

    async def list(self, *, type: str | None = None, q: str | None = None) -> builtins.list[Credential]:
        """Credentials without their values, newest first; ``q`` is a part of the name or description."""
        query = {"type": type, "q": q}
        return (await self._calls.call(_Items, "GET", "/api/credentials", query=query)).items

    async def get(
        self, identifier: int | str, *, include_data: bool = False, execution_id: int | str | None = None
    ) -> Credential:
        """One credential by name or id.

        Args:
            include_data: also its value; the server records who was given it.
            execution_id: for which execution; its playbook may say where the value comes from.
        """
        query = {"include_data": include_data or None, "execution_id": execution_id}
        return await self._calls.call(Credential, "GET", f"/api/credentials/{segment(identifier)}", query=query)

    async def delete(self, identifier: int | str) -> None:
        """Delete a credential by name or id."""
        await self._calls.call(object, "DELETE", f"/api/credentials/{segment(identifier)}")
