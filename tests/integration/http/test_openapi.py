"""The API document: complete, valid, with examples that fit; and the page that shows it."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from noetl.config import load_settings
from noetl.http.application import HttpApplication
from noetl.http.openapi.description import Answer, Operation, Tag
from noetl.http.openapi.descriptions import TAGS
from noetl.http.openapi.document import assemble
from noetl.http.openapi.routes import PAGE_FILES, OpenApiRoutes, accepts_gzip, described
from noetl.http.openapi.schemas import Schemas
from noetl.server import Server
from noetl.store.database import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.http.rawhttp import RawClient, Serve


class Inner(msgspec.Struct):
    raw: msgspec.Raw
    again: Inner | None = None


class Outer(msgspec.Struct):
    """Text (spec 1, section 2) with ``code``."""

    first: int | msgspec.UnsetType | None = msgspec.UNSET
    second: dict[str, Inner] = {}
    third: str = "x"


@pytest.fixture(scope="module")
async def application(migrated_database_url: str) -> AsyncIterator[HttpApplication]:
    """All routes of a server; it is not running, so that only those without a database answer."""
    settings = load_settings({"DATABASE_URL": migrated_database_url, "NOETL_SERVER_MACHINE_ID": "1"})
    database = await Database.connect(settings.database)
    application = Server(settings, database).application
    application.open()
    try:
        yield application
    finally:
        await database.close()


@pytest.fixture(scope="module")
async def client(serve: Serve, application: HttpApplication) -> RawClient:
    return await serve(application)


@pytest.fixture(scope="module")
async def document(client: RawClient) -> dict[str, Any]:
    reply = await client.get("/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    return reply.json


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All operations with a name for messages."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


def test_every_route_is_described_and_nothing_else_is(application: HttpApplication) -> None:
    told = [(operation.method, operation.route) for tag in TAGS for operation in tag.operations]
    assert sorted(told) == sorted(described(application))


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()
    identifiers = [operation["operationId"] for _, operation in operations(document)]
    assert len(identifiers) == len({*identifiers}) > 60


def test_every_body_and_answer_has_an_example_that_fits(document: dict[str, Any]) -> None:
    without = []
    for name, operation in operations(document):
        places = {status: resolved(document, answer) for status, answer in operation["responses"].items()}
        places["body"] = operation.get("requestBody", {})
        for place, holder in places.items():
            for media, content in holder.get("content", {}).items():
                examples = [example["value"] for example in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                if not examples:
                    without.append(f"{name} {place}")
                for example in examples:
                    check(document, content["schema"], example, f"{name} {place} {media}")
        for parameter in operation.get("parameters", []):
            assert "example" in parameter or not parameter.get("required"), (name, parameter["name"])
            if "example" in parameter:
                check(document, parameter["schema"], parameter["example"], f"{name} {parameter['name']}")
    assert without == [f"GET {path} 200" for path in ("/openapi.json", *PAGE_FILES)]


def resolved(document: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
    reference = response.get("$ref")
    return response if reference is None else document["components"]["responses"][reference.rpartition("/")[2]]


def check(document: dict[str, Any], schema: dict[str, Any], value: Any, about: str) -> None:
    validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
    assert [error.message for error in validator.iter_errors(value)] == [], about


def test_links_lead_to_operations_and_their_parameters(document: dict[str, Any]) -> None:
    parameters = {
        operation["operationId"]: {parameter["name"] for parameter in operation.get("parameters", [])}
        for _, operation in operations(document)
    }
    for name, operation in operations(document):
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                assert {*link["parameters"]} <= parameters[link["operationId"]], name


async def test_the_document_tells_only_what_is_served(serve: Serve) -> None:
    application = HttpApplication()
    OpenApiRoutes("1.2.3").register(application)
    document = (await (await serve(application)).get("/openapi.json")).json
    assert {*document["paths"]} == {"/openapi.json", *PAGE_FILES}
    assert document["info"]["version"] == "1.2.3"
    assert [tag["name"] for tag in document["tags"]] == ["Documentation"]


def test_internal_routes_ask_for_the_token(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        security = operation.get("security")
        assert (security == [{"internalToken": []}]) == ("/api/internal/" in name), name
        assert ("401" in operation["responses"]) == (security is not None), name


async def test_no_schema_lets_the_document_hide_words_of_our_own(document: dict[str, Any]) -> None:
    assert re.findall(r"\(spec|\(fix|00-decisions|``", json.dumps(document)) == []


def test_two_structs_of_one_name_are_refused() -> None:
    schemas = Schemas()
    schemas.read(msgspec.defstruct("Same", [("a", int)]))
    with pytest.raises(ValueError, match="Same"):
        schemas.read(msgspec.defstruct("Same", [("b", int)]))


def test_schemas_say_what_a_struct_decodes() -> None:
    schemas = Schemas()
    assert schemas.read(list[Outer]) == {"type": "array", "items": {"$ref": "#/components/schemas/Outer"}}
    inner = {"$ref": "#/components/schemas/Inner"}
    assert schemas.components == {
        "Outer": {
            "type": "object",
            "description": "Text with `code`.",
            "properties": {
                "first": {"type": ["integer", "null"]},
                "second": {"type": "object", "additionalProperties": inner},
                "third": {"type": "string", "default": "x"},
            },
        },
        "Inner": {
            "type": "object",
            "properties": {"raw": {}, "again": {"anyOf": [inner, {"type": "null"}]}},
            "required": ["raw"],
        },
    }


def test_what_an_answer_always_has_is_required() -> None:
    schemas = Schemas()
    schemas.written(Outer)
    assert schemas.components["Outer"]["required"] == ["second", "third"]
    assert "default" not in schemas.components["Outer"]["properties"]["third"]
    assert schemas.components["Inner"]["required"] == ["raw", "again"]
    with pytest.raises(ValueError, match="Outer"):
        schemas.read(Outer)


def test_a_description_of_an_unknown_member_is_refused() -> None:
    from noetl.http.commands import ClaimRequest
    from noetl.http.openapi.description import Body

    operation = Operation(
        method="POST", route="/x", summary="X", body=Body((ClaimRequest,), {"worker": "?"}), answers=(Answer(str, ""),)
    )
    with pytest.raises(KeyError, match="worker"):
        assemble([Tag("T", "", (operation,))], {("POST", "/x")}, "1")


@pytest.mark.parametrize("path", ["/openapi.json", *PAGE_FILES])
async def test_files_have_a_tag_and_are_compressed_on_request(client: RawClient, path: str) -> None:
    plain = await client.get(path)
    compressed = await client.request("GET", path, headers=[("accept-encoding", "br, gzip;q=0.5")])
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed.body) == plain.body
    assert "accept-encoding" in compressed.headers["vary"]
    tag = plain.headers["etag"]
    assert tag == compressed.headers["etag"]
    again = await client.request("GET", path, headers=[("if-none-match", f'"x", {tag}')])
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    head = await client.request("HEAD", path)
    assert (head.status, head.headers["content-length"]) == (200, str(len(plain.body)))


async def test_the_page_is_self_contained_and_runs_under_a_strict_policy(client: RawClient) -> None:
    page = await client.get("/docs")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script[^>]*>", page.text) == ['<script type="module" src="docs/page.js">']
    assert re.findall(r"<style|\sstyle=|\son\w+=", page.text) == []
    for path, (_, content_type) in PAGE_FILES.items():
        file = await client.get(path)
        assert (file.status, file.headers["content-type"]) == (200, content_type.decode())
        assert re.findall(r"https?://|@import|\burl\(|innerHTML|eval\(", file.text) == []


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False), (b"", False), (b"br", False), (b"gzip", True), (b"deflate, GZIP;q=1.0", True),
        (b"gzip;q=0", False), (b"gzip; q=0.000", False), (b"gzip;q=0.1", True), (b"x-gzip", False),
    ],
)  # fmt: skip
def test_gzip_is_sent_to_those_who_accept_it(header: bytes | None, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
