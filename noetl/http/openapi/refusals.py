"""How an operation refuses: what all have in common (spec 10, sections 2.1 to 2.5), and what its description says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from noetl.http.bodies import TOO_LARGE
from noetl.http.openapi.description import JSON, PATH_PARAMETERS, TEXT
from noetl.http.openapi.schemas import REFERENCE
from noetl.store.database import POOL_TIMEOUT, UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from noetl.http.openapi.description import Operation
    from noetl.http.openapi.schemas import Schema, Schemas

REQUEST_ID: Final[Schema] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
ERROR: Final[Schema] = {
    "type": "object",
    "description": "A refusal",
    "properties": {
        "error": {"type": "string", "description": "What is wrong"},
        "status": {"type": "integer", "description": "The status of the answer", "minimum": 400, "maximum": 599},
    },
    "required": ["error", "status"],
}
BARE_ERROR: Final[Schema] = {
    "type": "object",
    "description": "A refusal of one of the few routes that do not repeat the status",
    "properties": {"error": {"type": "string", "description": "What is wrong"}},
    "required": ["error"],
}
_REASONS: Final = {
    400: "The request cannot be understood",
    401: "The token is missing or wrong",
    403: "It may not be answered here",
    404: "There is no such thing",
    408: "The body did not arrive in time",
    409: "It contradicts the present state",
    413: "The body is too large",
    415: "The content type is not JSON",
    422: "It is understood and breaks a rule",
    500: "The server failed",
    502: "A service behind this server did not answer as it should",
    503: "Try again after `Retry-After`",
}
_HEADERS: Final[dict[int, Schema]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}},
    503: {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}},
}

# What the routes say, word by word.
_BAD_NUMBER: Final = "Invalid URL: Cannot parse `abc` to a `i64`"
_BAD_NAME: Final = "Invalid URL: Invalid UTF-8 in `{name}`"
_BAD_QUERY: Final = "Failed to deserialize query string: {name}: invalid digit found in string"
_TWICE: Final = "Failed to deserialize query string: duplicate field `{name}`"
_BAD_JSON: Final = "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 0"
_BAD_SHAPE: Final = "Failed to deserialize the JSON body into the target type: missing field `{name}`"
_BAD_TYPE: Final = "Expected request with `Content-Type: application/json`"
_BAD_IDS: Final = "X-Noetl-Ids must be 'number' or 'string'"
_LATE: Final = "The request body did not arrive in time"
_DEFECT: Final = "Internal error"
_NO_TOKEN: Final = (
    "Internal API requires Authorization header with Bearer token.",
    "Invalid service-account token for /api/internal/*.",
)


class Refusals:
    """Writes the refusals of operations; those that many have in common become ``components``."""

    _SHARED: Final = {
        401: "Unauthorized",
        408: "BodyTimeout",
        413: "BodyTooLarge",
        415: "NotJson",
        500: "ServerFailure",
        503: "TryAgain",
    }

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self.components: dict[str, Schema] = {}

    def of(self, operation: Operation, path_names: Sequence[str]) -> Iterator[tuple[str, Schema]]:
        """Status and response of every refusal, in the order of the statuses."""
        texts = self._texts(operation, path_names)
        messages = _messages(operation)
        for status in sorted({*texts, *messages, *operation.bare_refusals}):
            content: Schema = {}
            if status in texts:
                content[TEXT] = {"schema": {"type": "string"}, "examples": _examples(texts[status])}
            if status in messages:
                bodies = [{"error": message, "status": status} for message in messages[status]]
                content[JSON] = {"schema": {"$ref": f"{REFERENCE}Error"}, "examples": _examples(bodies)}
            if status in operation.bare_refusals:
                bare = [{"error": message} for message in operation.bare_refusals[status]]
                content[JSON] = {"schema": {"$ref": f"{REFERENCE}BareError"}, "examples": _examples(bare)}
            headers = {**REQUEST_ID, **_HEADERS.get(status, {})}
            yield str(status), {"description": _REASONS[status], "headers": headers, "content": content}

    def shared(self, status: str, response: Schema) -> Schema:
        """A reference to the component that is equal to ``response``, or itself where each operation has its own."""
        name = self._SHARED.get(int(status))
        if name is None:
            return response
        number = 1
        while self.components.setdefault(f"{name}{number}", response) != response:
            number += 1
        return {"$ref": f"#/components/responses/{name}{number}"}

    def _texts(self, operation: Operation, path_names: Sequence[str]) -> dict[int, list[str]]:
        """Refusals for the form of a request."""
        unreadable = [
            _BAD_NAME.format(name=name) if PATH_PARAMETERS[name][0] is str else _BAD_NUMBER for name in path_names
        ]
        for parameter in operation.parameters:
            if parameter.place == "query":
                bad = _TWICE if parameter.type is str else _BAD_QUERY
                unreadable.append(bad.format(name=parameter.name))
        body = operation.body
        if body is None or body.optional:
            return {400: unreadable} if unreadable else {}
        members = self._schemas.components[body.types[0].__name__]
        missing = [*members.get("required", ()), *members["properties"]][0]
        return {
            400: [*unreadable, _BAD_JSON],
            408: [_LATE],
            413: [TOO_LARGE],
            415: [_BAD_TYPE],
            422: [_BAD_SHAPE.format(name=missing)],
        }


def _messages(operation: Operation) -> dict[int, list[str]]:
    """Refusals as application errors."""
    messages = {status: [*told] for status, told in operation.refusals.items()}
    messages.setdefault(500, []).append(_DEFECT)
    if operation.database:
        messages[500].append("Database error")
    if not operation.probe:
        messages[503] = ["Too many requests in flight", *((UNREACHABLE, POOL_TIMEOUT) if operation.database else ())]
    if operation.guard is not None:
        messages[401] = [*_NO_TOKEN]
    if operation.ids:
        messages.setdefault(400, []).append(_BAD_IDS)
    return messages


def _examples(values: Iterable[object]) -> dict[str, Schema]:
    return {f"example{number}": {"value": value} for number, value in enumerate(values, 1)}
