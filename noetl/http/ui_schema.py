"""The route of playbooks' input forms, ``/api/catalog/{path...}/ui_schema`` (spec 10, section 5)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from noetl.errors import NotFoundError, UnprocessableError
from noetl.http.requests import IntegerSyntaxError, Query, parse_integer, path_text, refuse_nul
from noetl.http.responses import json_response, timestamp
from noetl.http.ui_schema_fields import form_of

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.store.catalog import CatalogEntry

SUFFIX: Final = "/ui_schema"


class PlaybookCatalog(Protocol):
    """What this route needs of the store."""

    async def latest(self, path: str) -> CatalogEntry | None: ...
    async def by_version(self, path: str, version: int) -> CatalogEntry | None: ...


class UiSchemaRoutes:
    """The form of one version of a playbook. Register it after the catalog's other routes, which go first."""

    def __init__(self, catalog: PlaybookCatalog) -> None:
        self._catalog = catalog

    def register(self, application: HttpApplication) -> None:
        """Add the route."""
        application.add_route("GET", "/api/catalog/{tail...}", self.form)

    async def form(self, request: Request) -> Response:
        """The fields of the workload, in the order of the document."""
        tail = path_text(request, "tail")
        version = Query(request).text("version")
        if not tail.endswith(SUFFIX):
            raise NotFoundError(f"no route matched GET /api/catalog/{tail}")
        path = tail.removesuffix(SUFFIX)
        if not path:
            raise UnprocessableError("ui_schema path must not be empty")
        refuse_nul("path", path)
        entry = await self._entry(path, version)
        # Up to 2 MiB of YAML takes seconds to parse; other requests must not wait for it.
        form = await asyncio.to_thread(form_of, entry.content or "")
        return json_response(
            {
                "path": entry.path,
                "version": entry.version,
                "kind": entry.kind.lower(),
                "title": form.title,
                "description_markdown": form.description_markdown,
                "exposed_in_ui": form.exposed_in_ui,
                "fields": form.fields,
                "generated_at": timestamp(datetime.now(UTC)),
            }
        )

    async def _entry(self, path: str, text: str | None) -> CatalogEntry:
        if text in (None, "", "latest"):
            entry, missing = await self._catalog.latest(path), f"Catalog entry '{path}' not found"
        else:
            try:
                version = parse_integer(text, bits=16)
            except IntegerSyntaxError:
                raise UnprocessableError("Invalid version number") from None
            entry = await self._catalog.by_version(path, version)
            missing = f"Catalog entry '{path}' version {version} not found"
        if entry is None:
            raise NotFoundError(missing)
        return entry
