"""Marks for every route that the application has, whatever the route is for: a new one is covered by being there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from noetl.config import load_settings
from noetl.server import Server
from noetl.store.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.leaks.site import Families, Site

SECRET_HEADERS: Final = (
    "authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token", "x-access-token",
    "x-amz-security-token",
)  # fmt: skip
SECRET_MEMBERS: Final = ("password", "token", "data", "payload", "value", "authorization", "variables", "content")
NAMES_IN_QUERIES: Final = (
    "token",
    "password",
    "q",
    "limit",
    "execution_id",
    "worker_id",
    "include_data",
    "from",
    "path",
)


async def registered_routes(database_url: str) -> list[tuple[str, str]]:
    """Method and template of every route, from an application that is wired as the server's."""
    settings = load_settings({"DATABASE_URL": database_url})
    database = await Database.connect(settings.database)
    try:
        routes = Server(settings, database).application.routes
        return sorted({(method, route.template) for route in routes for method in route.endpoints})
    finally:
        await database.close()


async def push(site: Site, method: str, template: str) -> None:
    """Send secrets to one route where one can: headers, query, body; well and badly formed."""
    families, about = site.families, f"{method} {template}"
    internal = template.startswith("/api/internal/")
    marked_headers = [(name, families.header.token(f"{name} of {about}")) for name in SECRET_HEADERS]
    plain, numbered = _path(template, "x"), _path(template, "1")
    await site.send(method, plain, None, marked_headers)
    if (await site.send(method, numbered, None, internal=internal)).status == 405:
        return  # one of the methods that the guard of the prefix answers for
    await site.send(method, numbered, None, [("authorization", f"Bearer {families.header.token(about)}")])
    await site.send(method, numbered, None, [("authorization", f"Basic {families.header.token(about)}")])
    query = "&".join(f"{name}={quote(families.query.text(f'{name} of {about}'))}" for name in NAMES_IN_QUERIES)
    await site.send(method, f"{numbered}?{query}", None, internal=internal)
    if method == "HEAD":
        return  # the handler of GET
    for name in NAMES_IN_QUERIES:
        await site.send(method, f"{numbered}?{name}={quote(families.query.text(about))}", None, internal=internal)
    if method in {"POST", "PUT", "PATCH", "DELETE"}:
        for body in _bodies(families, about):
            await site.send(method, numbered, body, internal=internal)
        text = families.payload.text(f"text for {about}")
        await site.send(method, numbered, text, [("content-type", "text/plain")], internal=internal)


def _path(template: str, value: str) -> str:
    segments = template.split("/")
    return "/".join(value if segment.startswith("{") else segment for segment in segments)


def _bodies(families: Families, about: str) -> Iterator[Any]:
    def mark(what: str) -> str:
        return families.payload.text(f"{what} of {about}")

    whole = {name: mark(name) for name in SECRET_MEMBERS}
    yield whole
    yield {name: {"inner": mark(name)} for name in SECRET_MEMBERS}
    yield mark("text")
    yield [mark("array")]
    yield json.dumps(whole)[:-5]
    yield json.dumps(whole) + json.dumps(mark("more"))
    yield {mark("name of a member"): 1}
    yield json.dumps(whole)[:-1] + "," + json.dumps(whole)[1:]
