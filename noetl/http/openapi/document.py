"""Assembles the OpenAPI 3.1 document from the descriptions of the routes that are registered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from noetl.http.openapi.description import JSON, PATH_PARAMETERS
from noetl.http.openapi.refusals import BARE_ERROR, ERROR, REQUEST_ID, Refusals
from noetl.http.openapi.schemas import Schemas

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from noetl.http.openapi.description import Operation, Parameter, Tag
    from noetl.http.openapi.examples import Exchange
    from noetl.http.openapi.schemas import Schema

INTRODUCTION: Final = """\
The control plane of NoETL: clients register playbooks and start executions; the engine turns every event into the next
commands; workers hear of commands through NATS, claim them here, run them, and send events back.

**Errors.** What is wrong with the form of a request (path, query, content type, size, JSON) is refused with a text.
Everything else is refused with `{"error": message, "status": code}`. Unknown paths and other methods are answered 404
and 405 without a body. 503 has `Retry-After`, and can be repeated.

**Ids** are 64-bit integers. Clients that keep numbers as doubles (JavaScript) send `X-Noetl-Ids: string` and get texts.

**Times** are RFC 3339 in UTC.

`HEAD` works wherever `GET` does. Every answer has `X-Request-Id`, which the log tells as well; a client may send one of
its own. Unknown members of bodies and unknown query parameters are ignored, `null` stands for an absent member wherever
the schema allows it, and integers in paths and queries may have a sign and leading zeros.
"""

IDS_HEADER: Final[Schema] = {
    "name": "X-Noetl-Ids",
    "in": "header",
    "description": "How ids are written in the answer; `number` unless `NOETL_JSON_IDS` says otherwise",
    "schema": {"enum": ["number", "string"]},
}


def assemble(
    tags: Iterable[Tag],
    registered: Collection[tuple[str, str]],
    version: str,
    exchanges: Mapping[tuple[str, str], list[Exchange]] | None = None,
) -> dict[str, Any]:
    """The document of those described operations that are ``registered`` (method and template).

    ``exchanges`` are examples by method and path of the document.
    """
    schemas = Schemas()
    refusals = Refusals(schemas)
    paths: dict[str, dict[str, Any]] = {}
    used: list[Tag] = []
    for tag in tags:
        for operation in tag.operations:
            if (operation.method, operation.route) not in registered:
                continue
            if tag not in used:
                used.append(tag)
            path = operation.path or operation.route
            examples = (exchanges or {}).get((operation.method, path), [])
            written = _Writer(schemas, refusals, operation, path, examples).operation(tag.name)
            paths.setdefault(path, {})[operation.method.lower()] = written
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "NoETL server",
            "version": version,
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "This server"}],
        "tags": [{"name": tag.name, "description": tag.text} for tag in used],
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR, "BareError": BARE_ERROR, **schemas.components},
            "responses": refusals.components,
            "headers": {
                "RequestId": {"description": "Tells the request in the log", "schema": {"type": "string"}},
            },
            "securitySchemes": {
                "internalToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The value of `NOETL_INTERNAL_API_TOKEN`",
                }
            },
        },
    }


class _Writer:
    """Writes one operation."""

    def __init__(
        self,
        schemas: Schemas,
        refusals: Refusals,
        operation: Operation,
        path: str,
        exchanges: list[Exchange],
    ) -> None:
        self._schemas = schemas
        self._refusals = refusals
        self._operation = operation
        self._path = path
        self._exchanges = exchanges
        self._names = re.findall(r"{(\w+)}", path)

    def operation(self, tag: str) -> dict[str, Any]:
        described = self._operation
        written: dict[str, Any] = {
            "tags": [tag],
            "operationId": _identifier(described.summary),
            "summary": described.summary,
        }
        if described.text:
            written["description"] = described.text
        if described.guard is not None:
            token: dict[str, list[str]] = {"internalToken": []}
            written["security"] = [token] if described.guard == "always" else [token, {}]
        parameters = [self._path_parameter(name) for name in self._names]
        parameters += [self._parameter(parameter) for parameter in described.parameters]
        if described.ids:
            parameters.append(IDS_HEADER)
        if parameters:
            written["parameters"] = parameters
        if described.body is not None:
            written["requestBody"] = self._body()
        written["responses"] = self._responses()
        return written

    # -- the request ----------------------------------------------------------------------------------------------

    def _path_parameter(self, name: str) -> Schema:
        kind, text = PATH_PARAMETERS[name]
        schema = self._schemas.read(kind)
        if kind is str:
            schema["minLength"] = 1
        return self._with_example(
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": self._operation.path_texts.get(name, text),
                "schema": schema,
            }
        )

    def _parameter(self, parameter: Parameter) -> Schema:
        written: Schema = {"name": parameter.name, "in": parameter.place, "description": parameter.text}
        if parameter.required:
            written["required"] = True
        return self._with_example({**written, "schema": self._schemas.read(parameter.type)})

    def _with_example(self, parameter: Schema) -> Schema:
        for exchange in self._exchanges:
            if exchange.status < 400 and parameter["name"] in exchange.parameters:
                return {**parameter, "example": exchange.parameters[parameter["name"]]}
        return parameter

    def _body(self) -> Schema:
        body = self._operation.body
        assert body is not None
        schemas = [self._schemas.read(kind) for kind in body.types]
        content: Schema = {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}
        for name, said in body.members.items():
            struct, _, nested = name.rpartition(".")
            component = self._schemas.components[struct or body.types[0].__name__]
            described = component["properties"][nested] if nested else component
            described.update({"description": said} if isinstance(said, str) else said)
        if examples := self._examples([one for one in self._exchanges if one.has_body and one.status < 400], "body"):
            content["examples"] = examples
        written: Schema = {"required": not body.optional, "content": {JSON: content}}
        return {"description": body.text, **written} if body.text else written

    # -- the answers ----------------------------------------------------------------------------------------------

    def _responses(self) -> dict[str, Any]:
        responses: dict[str, Schema] = {}
        for answer in self._operation.answers:
            response: Schema = {"description": answer.text, "headers": {**REQUEST_ID}}
            for name, text in answer.headers.items():
                response["headers"][name] = {"description": text, "schema": {"type": "string"}}
            if answer.type is not None:
                content: Schema = {"schema": self._schemas.written(answer.type)}
                fitting = [one for one in self._exchanges if one.status == answer.status]
                if examples := self._examples(fitting, "answer"):
                    content["examples"] = examples
                elif answer.example is not msgspec.UNSET:
                    content["example"] = answer.example
                response["content"] = {answer.media: content}
            if answer.links:
                response["links"] = {_identifier(summary): _link(summary, to) for summary, to in answer.links.items()}
            responses[str(answer.status)] = response
        for status, refusal in self._refusals.of(self._operation, self._names):
            if status in responses:
                responses[status]["content"].update(refusal["content"])
            else:
                responses[status] = self._refusals.shared(status, refusal)
        return responses

    @staticmethod
    def _examples(exchanges: Iterable[Exchange], part: str) -> dict[str, Schema]:
        named: dict[str, Schema] = {}
        for exchange in exchanges:
            if all(example["value"] != getattr(exchange, part) for example in named.values()):
                named[_identifier(exchange.title)] = {"summary": exchange.title, "value": getattr(exchange, part)}
        return named


def _link(summary: str, parameters: Mapping[str, str]) -> Schema:
    return {
        "operationId": _identifier(summary),
        "parameters": {name: f"$response.body#{pointer}" for name, pointer in parameters.items()},
    }


def _identifier(text: str) -> str:
    """``List all executions`` as ``listAllExecutions``."""
    first, *rest = re.findall(r"\w+", text)
    return first.lower() + "".join(word[0].upper() + word[1:] for word in rest)
