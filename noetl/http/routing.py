"""The route table: exact paths by dictionary, templates with parameters by a tree of path segments (spec 10, 2.1).

Matching follows the reference: nothing is normalised (case, doubled and trailing slashes count), a literal segment
wins over a parameter and a parameter over a tail, whatever the method, and segments are split before they are
percent-decoded, so that ``%2F`` stays inside its segment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from noetl.errors import RejectedRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

from blacksheep import Request, Response

Handler = Callable[[Request], Awaitable[Response]]

_METHOD_ORDER: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Endpoint:
    """A handler under one method of a route, with what applies to its requests.

    ``body_limit`` in bytes overrides the application's; ``quiet`` keeps successful requests out of the access log;
    ``always`` lets requests in when the limit of requests in flight is reached (probes), ``last`` refuses them later
    than others; ``described`` is false for endpoints that only refuse, which the API document does not tell.
    """

    __slots__ = ("always", "body_limit", "described", "handler", "last", "quiet")

    def __init__(
        self,
        handler: Handler,
        body_limit: int | None,
        quiet: bool,
        always: bool,
        described: bool = True,
        last: bool = False,
    ) -> None:
        self.handler = handler
        self.described = described
        self.body_limit = body_limit
        self.quiet = quiet
        self.always = always
        self.last = last


class Route:
    """One path template and its endpoints by method. ``allow`` is the value of the ``allow`` header."""

    __slots__ = ("allow", "endpoints", "names", "template")

    def __init__(self, template: str, names: tuple[str, ...]) -> None:
        self.template = template
        self.names = names
        self.endpoints: dict[str, Endpoint] = {}
        self.allow = b""

    def add(self, method: str, endpoint: Endpoint) -> None:
        """Serve ``method``; GET brings HEAD."""
        if method in self.endpoints and not (method == "HEAD" or "GET" not in self.endpoints):
            raise ValueError(f"{method} {self.template} is registered twice")
        self.endpoints[method] = endpoint
        if method == "GET":
            self.endpoints.setdefault("HEAD", endpoint)
        self.allow = ",".join(name for name in _METHOD_ORDER if name in self.endpoints).encode()


class _Node:
    """A position in the tree: what may follow the segments read so far."""

    __slots__ = ("literals", "parameter", "route", "tail")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.route: Route | None = None
        self.tail: Route | None = None


class RouteTable:
    """All routes of the application."""

    def __init__(self) -> None:
        self._exact: dict[str, Route] = {}
        self._root = _Node()
        self._routes: dict[str, Route] = {}

    @property
    def routes(self) -> Sequence[Route]:
        """Every route in the order of registration."""
        return tuple(self._routes.values())

    def add(self, method: str, template: str, endpoint: Endpoint) -> None:
        """Register ``endpoint``.

        ``template`` is ``/`` and segments: literal, ``{name}`` (one segment; never empty in last place) or, in last
        place, ``{name...}`` (the rest of the path, at least one character).
        """
        if method not in _METHOD_ORDER or method == "HEAD":
            raise ValueError(f"{method} cannot be registered")
        route = self._routes.get(template)
        if route is None:
            route = self._routes[template] = self._insert(template)
        route.add(method, endpoint)

    def _insert(self, template: str) -> Route:
        if not template.startswith("/"):
            raise ValueError(f"{template} does not start with a slash")
        segments = template[1:].split("/")
        names = [segment[1:-1].removesuffix("...") for segment in segments if segment.startswith("{")]
        route = Route(template, tuple(names))
        if not names:
            self._exact[template] = route
        node = self._root
        for segment in segments:
            if segment.endswith("...}"):
                if segment is not segments[-1] or node.tail is not None:
                    raise ValueError(f"{template} has a tail that is not last or clashes with another")
                node.tail = route
                return route
            if segment.startswith("{"):
                if node.parameter is None:
                    node.parameter = _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.route is not None:
            raise ValueError(f"{template} clashes with {node.route.template}")
        node.route = route
        return route

    def find(self, path: str) -> tuple[Route | None, dict[str, str]]:
        """The route of a raw path (still percent-encoded) and its decoded parameters in the template's order.

        Raises RejectedRequestError 400 for a parameter outside UTF-8.
        """
        route = self._exact.get(path)
        if route is not None:
            return route, {}
        values: list[str] = []
        route = _descend(self._root, path[1:].split("/"), 0, values) if path.startswith("/") else None
        if route is None:
            return None, {}
        return route, {name: _decoded(name, value) for name, value in zip(route.names, values, strict=True)}


def _descend(node: _Node, segments: list[str], index: int, values: list[str]) -> Route | None:
    """Match ``segments[index:]`` below ``node``; appends raw parameter values to ``values`` on success."""
    if index == len(segments):
        return node.route
    segment = segments[index]
    literal = node.literals.get(segment)
    if literal is not None:
        found = _descend(literal, segments, index + 1, values)
        if found is not None:
            return found
    if node.parameter is not None and (segment or index + 1 < len(segments)):
        values.append(segment)
        found = _descend(node.parameter, segments, index + 1, values)
        if found is not None:
            return found
        values.pop()
    if node.tail is not None:
        rest = "/".join(segments[index:])
        if rest:
            values.append(rest)
            return node.tail
    return None


def _decoded(name: str, value: str) -> str:
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        raise RejectedRequestError(400, f"Invalid URL: Invalid UTF-8 in `{name}`") from None
