"""Describes the routes of `noetl.http.catalog` and `noetl.http.ui_schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from noetl.http.catalog import ListRequest, RegisterRequest, ResourceRequest
from noetl.http.openapi.description import DIGITS, Answer, Body, IdText, Moment, Operation, Parameter, Tag
from noetl.http.ui_schema_fields import Field

Version = Annotated[int, Meta(ge=-32768, le=32767)]

YAML_REFUSALS = (
    'Invalid YAML: duplicate entry with key "a"',
    "Missing 'metadata' section",
    "Missing 'path' or 'name' in metadata",
    "metadata.path must not be empty",
    "resource_type must not contain U+0000",
)


class Remark(Struct):
    """A problem of a document, or a warning about it; null where unknown."""

    step: str | None
    field: Annotated[str, Meta(description="A path such as `workflow[0].loop.in`; empty for the document")]
    message: str
    line: Annotated[int, Meta(ge=1)] | None
    column: Annotated[int, Meta(ge=1)] | None


class Validation(Struct):
    """What registration and execution would say."""

    valid: Annotated[bool, Meta(description="Whether there are no problems")]
    path: str | None
    kind: str | None
    problems: list[Remark]
    warnings: Annotated[list[Remark], Meta(description="About what is accepted and hardly meant")]


class RegisteredResource(Struct, omit_defaults=True):
    """The version that was stored."""

    status: Literal["success"]
    message: str
    path: str
    version: Version
    catalog_id: IdText
    kind: Annotated[str, Meta(description="As `noetl.resource` spells it")]
    problems: Annotated[
        list[Remark] | UnsetType, Meta(description="What would keep the playbook from being executed, if anything")
    ] = UNSET


class CatalogEntry(Struct):
    """One version of a resource."""

    catalog_id: IdText
    path: str
    kind: str
    version: Version
    content: Annotated[str | None, Meta(description="The document; null where the list was asked to leave it out")]
    layout: Annotated[Any, Meta(description="`workflow` of the document as JSON")]
    payload: Annotated[Any, Meta(description="`workload` of the document as JSON")]
    meta: Annotated[Any, Meta(description="`metadata.labels` of the document as JSON")]
    created_at: Moment


class CatalogList(Struct):
    """Entries, newest first."""

    entries: list[CatalogEntry]


class UiSchema(Struct):
    """The input form of a playbook."""

    path: str
    version: Version
    kind: Annotated[str, Meta(description="In lower case")]
    title: str | None
    description_markdown: str | None
    exposed_in_ui: bool
    fields: list[Field]
    generated_at: Moment


CATALOG = Tag(
    "Catalog",
    "Versioned playbooks and other resources.",
    (
        Operation(
            method="POST",
            route="/api/catalog/register",
            summary="Register a resource",
            text="Stores the next version of the resource at `metadata.path` (or `metadata.name`). Nothing of it is "
            "checked beyond YAML, path and kind; a playbook is checked when it is executed. Concurrent registrations "
            "of one path all succeed.",
            body=Body(
                (RegisterRequest,),
                {
                    "content": "YAML 1.2 (JSON is YAML), plain or in base64",
                    "resource_type": "The kind where the document has none; letter case does not matter",
                },
            ),
            answers=(
                Answer(RegisteredResource, "Stored", links={"List keychain entries": {"catalog_id": "/catalog_id"}}),
            ),
            refusals={409: ("Version limit 32767 reached for 'a/b'",), 422: YAML_REFUSALS},
        ),
        Operation(
            method="POST",
            route="/api/catalog/validate",
            summary="Check a document",
            text="What registration and execution would say about a document, all at once. Nothing is stored.",
            body=Body((RegisterRequest,), {"content": "YAML 1.2 (JSON is YAML), plain or in base64"}),
            answers=(Answer(Validation, "Checked, whatever was found"),),
            refusals={422: ("resource_type must not contain U+0000",)},
        ),
        Operation(
            method="POST",
            route="/api/catalog/list",
            summary="List the catalog",
            text="All versions of everything, or of one kind, newest first. The answer is streamed.",
            body=Body(
                (ListRequest,),
                {
                    "resource_type": "Only this kind; letter case does not matter",
                    "limit": {"minimum": 0, "maximum": 2**63 - 1, "description": "At most so many entries"},
                    "offset": {"minimum": 0, "maximum": 2**63 - 1, "description": "Leave out so many entries"},
                    "latest_only": "Only the newest version of each path",
                    "include_content": "`false` leaves `content` null",
                },
            ),
            answers=(Answer(CatalogList, "The entries"),),
            refusals={422: ("limit must be an integer from 0 to 2^63-1", "resource_type must not contain U+0000")},
        ),
        Operation(
            method="POST",
            route="/api/catalog/resource",
            summary="Get a resource",
            text="One entry by `catalog_id`, else by `path` and `version`.",
            body=Body(
                (ResourceRequest,),
                {
                    "": {
                        "anyOf": [
                            {"required": ["catalog_id"], "properties": {"catalog_id": {"not": {"type": "null"}}}},
                            {"required": ["path"], "properties": {"path": {"not": {"type": "null"}}}},
                        ]
                    },
                    "catalog_id": {**DIGITS, "description": "Id in decimal digits, or a number; wins over `path`"},
                    "path": "Path of the resource",
                    "version": "`latest` (default), digits, or a number, from -32768 to 32767",
                },
            ),
            answers=(Answer(CatalogEntry, "The entry"),),
            refusals={
                404: ("Catalog entry 'nope' not found", "Catalog entry 'a' version 9 not found"),
                422: (
                    "Either 'catalog_id' or 'path' must be provided",
                    "Invalid catalog_id",
                    "Invalid version number",
                    "path must not contain U+0000",
                ),
            },
        ),
        Operation(
            method="GET",
            route="/api/catalog/{tail...}",
            path="/api/catalog/{path}/ui_schema",
            summary="Input form of a playbook",
            text="The fields of the `workload`, in the order of the document, with what `# ui:` directives in comments "
            "say about them. Any other path below `/api/catalog/` answers 404.",
            parameters=(Parameter("version", str, "`latest` (default) or a number"),),
            answers=(Answer(UiSchema, "The form; without fields where the document has none, or cannot be read"),),
            refusals={
                404: ("Catalog entry 'nope' not found", "no route matched GET /api/catalog/foo"),
                422: ("Invalid version number", "ui_schema path must not be empty", "path must not contain U+0000"),
            },
        ),
    ),
)
