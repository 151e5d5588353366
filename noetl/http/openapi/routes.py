"""`/openapi.json` and `/docs`: made when somebody first asks, kept as bytes, compressed, with an entity tag."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec
import orjson

from noetl.http.responses import empty_response, text_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication

PAGE_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere, runs nothing inline, and talks to this server only."""

PAGE_FILES: Final = {
    "/docs": ("page.html", b"text/html; charset=utf-8"),
    "/docs/page.css": ("page.css", b"text/css; charset=utf-8"),
    "/docs/page.js": ("page.js", b"text/javascript; charset=utf-8"),
}


class _File(msgspec.Struct, frozen=True):
    """What is served under one path."""

    content_type: bytes
    body: bytes
    compressed: bytes
    tag: bytes

    @classmethod
    def of(cls, body: bytes, content_type: bytes) -> _File:
        tag = b'W/"%b"' % hashlib.sha256(body).hexdigest()[:32].encode()
        return cls(content_type, body, gzip.compress(body, mtime=0), tag)


class OpenApiRoutes:
    """The document of the routes that the application has, and the page that shows it."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._files: dict[str, _File] = {}
        self._building = asyncio.Lock()

    def register(self, application: HttpApplication) -> None:
        """Add the routes. What other groups register later is in the document as well."""
        self._add(application, "/openapi.json", lambda: self._document(application))
        for path in PAGE_FILES:
            self._add(application, path, lambda path=path: _page_file(path))

    def _add(self, application: HttpApplication, path: str, build: Callable[[], _File]) -> None:
        async def serve(request: Request) -> Response:
            async with self._building:
                if path not in self._files:
                    # Tens of milliseconds of work: other requests must not wait for it.
                    self._files[path] = await asyncio.to_thread(build)
            return _response(self._files[path], request)

        application.add_route("GET", path, serve)

    def _document(self, application: HttpApplication) -> _File:
        from noetl.http.openapi.descriptions import TAGS
        from noetl.http.openapi.document import assemble
        from noetl.http.openapi.examples import recorded

        document = assemble(TAGS, described(application), self._version, recorded())
        return _File.of(orjson.dumps(document), b"application/json")


def described(application: HttpApplication) -> set[tuple[str, str]]:
    """Method and template of all endpoints of an application that belong into the document."""
    return {
        (method, route.template)
        for route in application.routes
        for method, endpoint in route.endpoints.items()
        if method != "HEAD" and endpoint.described
    }


def _page_file(path: str) -> _File:
    name, content_type = PAGE_FILES[path]
    return _File.of(files("noetl.http.openapi").joinpath(name).read_bytes(), content_type)


def _response(file: _File, request: Request) -> Response:
    headers = [
        (b"etag", file.tag),
        (b"cache-control", b"no-cache"),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if file.content_type.startswith(b"text/html"):
        headers += [(b"content-security-policy", PAGE_POLICY), (b"referrer-policy", b"no-referrer")]
    known = request.get_first_header(b"if-none-match") or b""
    if file.tag in (one.strip() for one in known.split(b",")):
        return empty_response(304, headers)
    if accepts_gzip(request.get_first_header(b"accept-encoding")):
        headers.append((b"content-encoding", b"gzip"))
        return text_response(file.compressed, headers=headers, content_type=file.content_type)
    return text_response(file.body, headers=headers, content_type=file.content_type)


def accepts_gzip(header: bytes | None) -> bool:
    """Whether an Accept-Encoding header names gzip and does not refuse it (``q=0``)."""
    for one in (header or b"").lower().split(b","):
        name, *parameters = (part.strip() for part in one.split(b";"))
        if name == b"gzip":
            return not any(parameter.replace(b" ", b"").rstrip(b"0.") == b"q=" for parameter in parameters)
    return False
