"""Schemathesis runs over the API document against a real server: no 5xx, and nothing that the document does not tell.

About 3,000 requests: the examples, and every boundary of every schema, right and wrong. ``NOETL_FUZZ_EXAMPLES=100``
adds that many random requests to each operation, and sequences of requests along the document's links.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import noetl
from noetl.http.openapi.descriptions import TAGS
from noetl.http.openapi.document import assemble
from noetl.http.openapi.examples import by_operation, recorded
from tests.conftest import INTERNAL_TOKEN
from tests.golden.record_examples import play
from tests.integration.http.golden_comparison import shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from noetl.dev.server_process import ServerProcess
    from noetl.http.openapi.examples import Exchange
    from tests.conftest import MakeServer

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
SEED = "20260704"


@pytest.fixture(scope="module")
async def server(make_server: MakeServer) -> ServerProcess:
    return await make_server()


@pytest.fixture(scope="module")
async def played(server: ServerProcess) -> list[Exchange]:
    """The story of the examples on this server, so that what they name exists."""
    return await asyncio.to_thread(play, server.url, INTERNAL_TOKEN)


async def test_the_examples_are_what_the_server_answers(played: list[Exchange]) -> None:
    told = [exchange for exchanges in recorded().values() for exchange in exchanges]
    assert {outline(exchange) for exchange in told} == {outline(exchange) for exchange in played}


def outline(exchange: Exchange) -> str:
    """What stays the same from run to run: everything but the answer's values, and the ids that are names in it."""
    answer = re.sub(r"\d{16,}", "id", json.dumps(shape(exchange.answer)))
    return f"{exchange.method} {exchange.path} {exchange.title}: {exchange.status} {answer}"


@pytest.mark.slow
async def test_no_answer_is_a_failure_or_beyond_the_document(
    server: ServerProcess, played: list[Exchange], tmp_path: Path
) -> None:
    registered = {(operation.method, operation.route) for tag in TAGS for operation in tag.operations}
    document = seeded(closed(assemble(TAGS, registered, noetl.__version__, by_operation(played))), played)
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    examples = os.environ.get("NOETL_FUZZ_EXAMPLES")
    arguments = [
        "--config-file", str(CONFIGURATION), "--no-color", "run", "openapi.json", "--url", server.url, "--seed", SEED,
        "--header", f"Authorization: Bearer {INTERNAL_TOKEN}", "--continue-on-failure", "--warnings", "off",
        *(("--phases", "examples,coverage") if examples is None else ("--max-examples", examples)),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", *arguments, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    text = output.decode()
    print(text[text.rfind("SUMMARY") :])
    assert process.returncode == 0, text
    assert f"Tested: {len(registered)}" in text
    cases = re.search(r"(\d+) generated", text)
    assert cases is not None
    assert int(cases[1]) > 2500
    assert [line for line in server.log_text().splitlines() if '"level":"ERROR"' in line] == []


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """The document without room for members of answers that it does not tell."""
    components = document["components"]["schemas"]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    waiting = [name for operation in operations for name in _references(operation["responses"])]
    waiting += _references(document["components"]["responses"])
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _references(components[name])
            components[name]["additionalProperties"] = False
    return document


def seeded(document: dict[str, Any], played: list[Exchange]) -> dict[str, Any]:
    """The document with ids that exist as examples of members, so that requests get past the first refusal."""
    known: dict[str, Any] = {}
    for exchange in played:
        known |= {name: value for name, value in exchange.parameters.items() if name.endswith("_id")}
    for schema in document["components"]["schemas"].values():
        for name, member in schema.get("properties", {}).items():
            if name in known and "integer" in member.get("type", ()):
                member["examples"] = [known[name]]
    return document


def _references(value: Any) -> Iterator[str]:
    """Names of the schemas that a part of the document refers to."""
    if isinstance(value, dict):
        for key, member in value.items():
            if key == "$ref" and "/schemas/" in member:
                yield member.rpartition("/")[2]
            elif key not in ("example", "examples"):
                yield from _references(member)
    elif isinstance(value, list):
        for element in value:
            yield from _references(element)
