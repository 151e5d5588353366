"""The catalog's routes: register, validate, list, resource (spec 10, section 4)."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import orjson

from noetl.engine.playbook import playbook_problems, review_document
from noetl.engine.playbook.resource import read_head
from noetl.engine.playbook.yaml import MappingNode, load_yaml, to_json
from noetl.errors import NotFoundError, UnprocessableError
from noetl.http.measured import measured
from noetl.http.requests import IntegerSyntaxError, json_body, parse_integer, refuse_nul
from noetl.http.responses import json_response, timestamp
from noetl.http.streams import json_stream_response
from noetl.store.catalog import NewEntry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from blacksheep import Request, Response

    from noetl.engine.playbook import Problem, Remark
    from noetl.http.application import HttpApplication
    from noetl.http.secret_routes import WriteObserver
    from noetl.store.catalog import CatalogEntry


class Catalog(Protocol):
    """What these routes need of the store."""

    async def get_entry(self, catalog_id: int) -> CatalogEntry | None: ...
    async def latest(self, path: str) -> CatalogEntry | None: ...
    async def by_version(self, path: str, version: int) -> CatalogEntry | None: ...
    async def register(self, entry: NewEntry) -> tuple[int, int]: ...
    def entries(
        self,
        kind: str | None = None,
        *,
        latest_only: bool = False,
        with_content: bool = True,
        limit: int | None = None,
        offset: int = 0,
    ) -> AsyncGenerator[Sequence[CatalogEntry]]: ...


class RegisterRequest(msgspec.Struct):
    """Body of register and validate; ``content`` is YAML, plain or in base64."""

    content: str
    resource_type: str = "Playbook"


class ListRequest(msgspec.Struct):
    """Body of list; all but ``resource_type`` are additions to the reference."""

    resource_type: str | None = None
    limit: int | None = None
    offset: int | None = None
    latest_only: bool = False
    include_content: bool = True


class ResourceRequest(msgspec.Struct):
    """Body of resource; ids and versions may also be JSON integers."""

    catalog_id: str | int | None = None
    path: str | None = None
    version: str | int | None = None


_REGISTER: Final = msgspec.json.Decoder(RegisterRequest)
_LIST: Final = msgspec.json.Decoder(ListRequest)
_RESOURCE: Final = msgspec.json.Decoder(ResourceRequest)


class CatalogRoutes:
    """The routes under ``/api/catalog``; ``observer`` is told about registrations."""

    def __init__(self, catalog: Catalog, observer: WriteObserver | None = None) -> None:
        self._catalog = catalog
        self._observer = observer

    def register(self, application: HttpApplication) -> None:
        """Add the routes."""
        application.add_route("POST", "/api/catalog/register", measured(self.register_resource, self._registered))
        application.add_route("POST", "/api/catalog/validate", self.validate)
        application.add_route("POST", "/api/catalog/list", self.list_entries)
        application.add_route("POST", "/api/catalog/resource", self.resource)

    def _registered(self, status: int, seconds: float) -> None:
        if self._observer is not None:
            self._observer.observe_write("catalog_register", status < 400, seconds)

    async def register_resource(self, request: Request) -> Response:
        """Store the next version of a resource; nothing but YAML, path and kind decides whether it is taken.

        What would keep a playbook from being executed is told as ``problems``, a member that others do not have.
        """
        body = await json_body(request, _REGISTER)
        # Up to 2 MiB of YAML takes seconds to parse; other requests must not wait for it.
        entry, problems = await asyncio.to_thread(_read, body)
        catalog_id, version = await self._catalog.register(entry)
        answer: dict[str, object] = {
            "status": "success",
            "message": f"Resource '{entry.path}' version '{version}' registered.",
            "path": entry.path,
            "version": version,
            "catalog_id": str(catalog_id),
            "kind": entry.kind,
        }
        if problems:
            answer["problems"] = [_remark_members(problem) for problem in problems]
        return json_response(answer)

    async def validate(self, request: Request) -> Response:
        """What register and execute would say about a document, all at once; nothing is stored."""
        body = await json_body(request, _REGISTER)
        refuse_nul("resource_type", body.resource_type)
        review = await asyncio.to_thread(review_document, _decoded(body.content), body.resource_type)
        return json_response(
            {
                "valid": not review.problems,
                "path": review.path,
                "kind": review.kind,
                "problems": [_remark_members(problem) for problem in review.problems],
                "warnings": [_remark_members(warning) for warning in review.warnings],
            }
        )

    async def list_entries(self, request: Request) -> Response:
        """All versions of everything, or of one kind, newest first."""
        body = await json_body(request, _LIST)
        for name, value in (("limit", body.limit), ("offset", body.offset)):
            if value is not None and not 0 <= value < 2**63:
                raise UnprocessableError(f"{name} must be an integer from 0 to 2^63-1")
        refuse_nul("resource_type", body.resource_type)
        pages = self._catalog.entries(
            body.resource_type,
            latest_only=body.latest_only,
            with_content=body.include_content,
            limit=body.limit,
            offset=body.offset or 0,
        )
        return await json_stream_response(_list_parts(pages))

    async def resource(self, request: Request) -> Response:
        """One entry: by id, or by path and version."""
        body = await json_body(request, _RESOURCE)
        if body.catalog_id is not None:
            catalog_id = _integer(body.catalog_id, 64, "Invalid catalog_id")
            entry = await self._catalog.get_entry(catalog_id)
            missing = f"Catalog entry '{body.catalog_id}' not found"
        elif body.path is not None:
            refuse_nul("path", body.path)
            if body.version is None or body.version == "latest":
                entry = await self._catalog.latest(body.path)
                missing = f"Catalog entry '{body.path}' not found"
            else:
                version = _integer(body.version, 16, "Invalid version number")
                entry = await self._catalog.by_version(body.path, version)
                missing = f"Catalog entry '{body.path}' version {version} not found"
        else:
            raise UnprocessableError("Either 'catalog_id' or 'path' must be provided")
        if entry is None:
            raise NotFoundError(missing)
        return json_response(entry_members(entry))


def read_resource(content: str, default_kind: str) -> NewEntry:
    """Read what register stores out of a document (spec 10, section 4.1).

    Raises:
        UnprocessableError: no YAML, no path, or U+0000 somewhere.
    """
    return _entry_of(_decoded(content), default_kind)[0]


def _read(body: RegisterRequest) -> tuple[NewEntry, list[Problem]]:
    entry, document = _entry_of(_decoded(body.content), body.resource_type)
    return entry, playbook_problems(document, entry.kind)


def _entry_of(text: str, default_kind: str) -> tuple[NewEntry, MappingNode]:
    head = read_head(load_yaml(text), default_kind)
    refuse_nul("resource_type", head.kind)
    entry = NewEntry(
        path=head.path,
        kind=head.kind,
        content=text,
        layout=_column(head.document, "workflow"),
        payload=_column(head.document, "workload"),
        meta=_column(head.metadata, "labels"),
    )
    return entry, head.document


def entry_members(entry: CatalogEntry) -> dict[str, object]:
    """An entry as list and resource show it."""
    return {
        "catalog_id": str(entry.catalog_id),
        "path": entry.path,
        "kind": entry.kind,
        "version": entry.version,
        "content": entry.content,
        "layout": _embedded(entry.layout),
        "payload": _embedded(entry.payload),
        "meta": _embedded(entry.meta),
        "created_at": timestamp(entry.created_at),
    }


def _remark_members(remark: Remark) -> dict[str, object]:
    """A problem or warning; members that are not known are null."""
    return {
        "step": remark.step,
        "field": remark.field,
        "message": remark.message,
        "line": remark.line or None,
        "column": remark.column or None,
    }


async def _list_parts(pages: AsyncGenerator[Sequence[CatalogEntry]]) -> AsyncGenerator[bytes]:
    separator = b'{"entries":['
    async for page in pages:
        for entry in page:
            yield separator + orjson.dumps(entry_members(entry))
            separator = b","
    yield b"]}" if separator == b"," else b'{"entries":[]}'


def _decoded(content: str) -> str:
    """The text itself, or what it stands for if it is standard base64 of UTF-8, padded and in one line."""
    try:
        raw = base64.b64decode(content, validate=True)
        if base64.b64encode(raw).decode("ascii") == content:
            return raw.decode()
    except (binascii.Error, ValueError):
        return content
    return content


def _column(node: MappingNode, name: str) -> str | None:
    value = node.get(name)
    return None if value is None else orjson.dumps(to_json(value)).decode()


def _embedded(text: str | None) -> orjson.Fragment | None:
    return None if text is None else orjson.Fragment(text)


def _integer(value: str | int, bits: int, message: str) -> int:
    try:
        return parse_integer(str(value), bits=bits)
    except IntegerSyntaxError:
        raise UnprocessableError(message) from None
