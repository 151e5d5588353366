"""`client.catalog`: playbooks and other resources, in versions that never change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from noetl.client.models import CatalogEntry, RegisteredResource, Validation

if TYPE_CHECKING:
    import builtins

    from noetl.client.calls import Calls

PLAYBOOK: Final = "Playbook"


class _Entries(msgspec.Struct):
    entries: list[CatalogEntry]


class CatalogApi:
    """Calls under ``/api/catalog``."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def register(self, content: str, *, kind: str = PLAYBOOK) -> RegisteredResource:
        """Register a document as the next version of its path; ``kind`` is for documents that do not name theirs."""
        body = {"content": content, "resource_type": kind}
        return await self._calls.call(RegisteredResource, "POST", "/api/catalog/register", body)

    async def validate(self, content: str, *, kind: str = PLAYBOOK) -> Validation:
        """Everything that registration and execution would say about a document; nothing is stored."""
        body = {"content": content, "resource_type": kind}
        return await self._calls.call(Validation, "POST", "/api/catalog/validate", body, repeatable=True)

    async def list(
        self,
        *,
        kind: str | None = None,
        latest_only: bool = False,
        include_content: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> builtins.list[CatalogEntry]:
        """Resources of a kind (case does not matter; None: all), newest first; without their texts by default."""
        body = {
            "resource_type": kind,
            "latest_only": latest_only,
            "include_content": include_content,
            "limit": limit,
            "offset": offset,
        }
        return (await self._calls.call(_Entries, "POST", "/api/catalog/list", body, repeatable=True)).entries

    async def get(self, path: str, version: int | None = None) -> CatalogEntry:
        """One version of a resource, the newest by default."""
        body = {"path": path, "version": "latest" if version is None else str(version)}
        return await self._calls.call(CatalogEntry, "POST", "/api/catalog/resource", body, repeatable=True)

    async def get_by_id(self, catalog_id: int) -> CatalogEntry:
        """The resource with this id."""
        body = {"catalog_id": str(catalog_id)}
        return await self._calls.call(CatalogEntry, "POST", "/api/catalog/resource", body, repeatable=True)
