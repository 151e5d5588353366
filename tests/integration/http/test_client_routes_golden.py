"""Our answers about results, variables, forms, SQL and more beside those recorded from the reference."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden.record_client_routes import GROUPS, filled, mask, reference_in
from tests.integration.http.client_application import client_application
from tests.integration.http.test_golden import comparable_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.http.rawhttp import RawClient, Reply, Serve

ADDED = re.compile(r',"problems":\[\{.*\}\](?=\}$)')
"""What register says about a document that could not be executed; the reference has nothing in its place."""
FOLDER = Path(__file__).parents[2] / "golden" / "client_routes"


@pytest.fixture(scope="module")
async def client(serve: Serve, migrated_database_url: str) -> AsyncIterator[RawClient]:
    async with client_application(migrated_database_url) as opened:
        yield await serve(opened.application)


@pytest.mark.parametrize("group", GROUPS)
async def test_every_answer_is_the_recorded_one(client: RawClient, group: str) -> None:
    run = time.time_ns()
    references: list[str] = []
    for step in json.loads((FOLDER / f"{group}.json").read_text()):
        headers = [("content-type", step["content_type"])] if "content_type" in step else []
        body = filled(step["body"], run, references) if "body" in step else None
        reply = await client.request(step["method"], filled(step["target"], run, references), body, headers)
        if (reference := reference_in(reply.text)) is not None:
            references.append(reference)
        compare(reply, step, run)


def compare(reply: Reply, step: dict[str, Any], run: int) -> None:
    answer = step["answer"]
    about = f"{step} {reply.status} {reply.text}"
    if "deviation" in step:
        assert reply.status == step["deviation"]["status"], about
        return
    assert (reply.status, reply.headers.get("content-type")) == (answer["status"], answer["content_type"]), about
    assert reply.headers.get("allow") == answer["allow"], about
    if "shape" in step:
        assert shape(reply.json) == shape(json.loads(answer["body"])), about
    else:
        assert comparable_text(ADDED.sub("", mask(reply.text, run))) == comparable_text(answer["body"]), about


def shape(value: Any) -> Any:
    """Members in their order and types of a JSON value; of a list only that it is one."""
    if isinstance(value, dict):
        return [(name, shape(member)) for name, member in value.items()]
    return type(value).__name__
