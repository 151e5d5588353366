"""What the description of one operation consists of; `noetl.http.openapi.document` makes OpenAPI of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
IdText = Annotated[str, msgspec.Meta(pattern="^-?[0-9]+$", description="A 64-bit id in decimal digits")]
AnyId = Annotated[
    Int64 | Annotated[str, msgspec.Meta(pattern="^-?[0-9]+$")],
    msgspec.Meta(description="A 64-bit id: a number, or digits where `X-Noetl-Ids` or `NOETL_JSON_IDS` say so"),
]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]

DIGITS: Final = {"pattern": "^[+-]?[0-9]+$", "minimum": -(1 << 63), "maximum": (1 << 63) - 1}
"""Constraints of a member that is a 64-bit integer, or a text with its digits."""

TIME: Final = {
    "format": "date-time",
    "examples": ["2026-01-02T03:04:05.678Z"],
    "description": "RFC 3339 with a zone",
}
"""What the schema of a member that is a timestamp says beside its type."""

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


class Parameter(msgspec.Struct, frozen=True):
    """A parameter that is not part of the route's template."""

    name: str
    type: Any
    text: str
    required: bool = False
    place: Literal["query", "header"] = "query"


class Body(msgspec.Struct, frozen=True):
    """A JSON body of one of several types, as a rule of the one Struct that decodes it.

    ``members`` says about members of the first type (or, as ``Struct.member``, of one inside it) what their types do
    not: a text, or parts of a schema. The empty name stands for the Struct itself. ``optional`` is for the one route
    that takes its body as a wish.
    """

    types: tuple[Any, ...]
    members: Mapping[str, str | dict[str, Any]] = {}
    text: str = ""
    optional: bool = False


class Answer(msgspec.Struct, frozen=True):
    """What the operation answers when it does not refuse."""

    type: Any
    text: str
    status: int = 200
    media: str = JSON
    headers: Mapping[str, str] = {}
    links: Mapping[str, Mapping[str, str]] = {}
    """What can be asked next, by summary: parameters there, and where in this answer their values are."""
    example: Any = msgspec.UNSET
    """An answer, where none is recorded."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one route.

    ``method`` and ``route`` are what was registered. The refusals that all routes with a body, with parameters or
    behind the token have in common need not be told.
    """

    method: str
    route: str
    summary: str
    """Unique; the operation's id is made of it."""
    text: str = ""
    path: str | None = None
    """The path in the document, where OpenAPI cannot tell the route's template."""
    path_texts: Mapping[str, str] = {}
    """What path parameters mean, where `PATH_PARAMETERS` does not say it well."""
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...]
    refusals: Mapping[int, tuple[str, ...]] = {}
    """Messages of refusals in the form ``{"error", "status"}`` by status: examples, recorded where they can be."""
    bare_refusals: Mapping[int, tuple[str, ...]] = {}
    """The same for the few routes whose refusals have no ``status``."""
    ids: bool = False
    """The answer has ids whose form ``X-Noetl-Ids`` chooses."""
    guard: Literal["always", "by setting"] | None = None
    """Whether the internal token is needed: always, or where NOETL_SQL_API is `token`."""
    database: bool = True
    """It reads or writes the database, and fails with it."""
    probe: bool = False
    """It is served however busy the server is."""


def never_both(name: str, alias: str) -> dict[str, Any]:
    """The rule for a member that has two names."""
    return {"not": {"required": [name, alias]}}


class Tag(msgspec.Struct, frozen=True):
    """A chapter of the document."""

    name: str
    text: str
    operations: tuple[Operation, ...]


PATH_PARAMETERS: Final[Mapping[str, tuple[Any, str]]] = {
    "execution_id": (Int64, "Id of the execution"),
    "event_id": (Int64, "Id of the event that issued the command, as the notification tells it"),
    "catalog_id": (Int64, "Id of the catalog entry"),
    "identifier": (str, "Id or name of the credential"),
    "var_name": (str, "Name of the variable; a slash in it is sent as `%2F`"),
    "keychain_name": (str, "Name of the entry; a slash in it is sent as `%2F`"),
    "path": (str, "Path of the playbook; its slashes may be sent as they are or as `%2F`"),
    "step": (str, "Name of the step"),
}
