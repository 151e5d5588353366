"""Examples of the document: requests and answers as a server gave them, from ``examples.json`` beside this module."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE: Final = "examples.json"


class Exchange(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A request and its answer; ``path`` is that of the document, ``parameters`` are those of path and query."""

    title: str
    method: str
    path: str
    parameters: dict[str, Any] = {}
    body: Any = msgspec.UNSET
    status: int
    answer: Any = msgspec.UNSET

    @property
    def has_body(self) -> bool:
        """Whether the request had a body."""
        return self.body is not msgspec.UNSET


def recorded() -> dict[tuple[str, str], list[Exchange]]:
    """The recorded exchanges by method and path."""
    text = files("noetl.http.openapi").joinpath(FILE).read_bytes()
    return by_operation(msgspec.json.decode(text, type=list[Exchange]))


def by_operation(exchanges: Iterable[Exchange]) -> dict[tuple[str, str], list[Exchange]]:
    """Exchanges by method and path, in their order."""
    grouped: dict[tuple[str, str], list[Exchange]] = {}
    for exchange in exchanges:
        grouped.setdefault((exchange.method, exchange.path), []).append(exchange)
    return grouped
