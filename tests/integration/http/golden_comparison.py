"""Asks our server what was asked of the reference, and compares the answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.golden.recording import headers

if TYPE_CHECKING:
    from tests.golden.recording import Names, Step
    from tests.integration.http.rawhttp import RawClient, Reply

GOLDEN = Path(__file__).parents[2] / "golden"
SYNTAX = "Failed to parse the request body as JSON: "
SHAPE = "Failed to deserialize the JSON body into the target type: "
REGISTER = "/api/catalog/register"
_ADDED = re.compile(r',"problems":\[\{.*\}\](?=\}$)')
"""What register says about a document that could not be executed; the reference has nothing in its place."""


def recorded(folder: str) -> dict[str, Any]:
    """What was recorded in a folder, by file."""
    return {file.stem: json.loads(file.read_text()) for file in sorted((GOLDEN / folder).glob("*.json"))}


async def ask(client: RawClient, step: Step, names: Names) -> Reply:
    """Send the request of a step."""
    body = names.fill(step["body"]) if "body" in step else None
    reply = await client.request(step["method"], names.fill(step["target"]), body, headers(step, names))
    names.note(reply.text)
    return reply


def compare(reply: Reply, step: Step, names: Names) -> None:
    """Ours is the recorded answer, or the deviation that the step tells of."""
    answer = step["answer"]
    about = f"{step} {reply.status} {reply.text}"
    if "deviation" in step:
        assert reply.status == step["deviation"]["status"], about
        if "body" in step["deviation"]:
            assert reply.json == step["deviation"]["body"], about
        return
    if answer["status"] == 403 and "/internal/" in step["target"]:
        # The reference forbids where the deployment specification wants 401 (00-decisions, 7).
        assert (reply.status, reply.json) == (401, {"error": answer["body"], "status": 401}), about
        return
    assert (reply.status, reply.headers.get("content-type")) == (answer["status"], answer["content_type"]), about
    assert methods(reply.headers.get("allow")) == methods(answer["allow"]), about
    ours = _ADDED.sub("", names.mask(reply.text)) if step["target"] == REGISTER else names.mask(reply.text)
    if answer["status"] == 500:
        assert reply.json["status"] == 500, about  # the text is internal detail
    elif "shape" in step:
        expected, found = shape(json.loads(answer["body"])), shape(reply.json)
        assert contained(dict(expected), dict(found)) if "superset" in step else expected == found, about
    elif "superset" in step and answer["content_type"] == "application/json" and ours:
        assert contained(json.loads(answer["body"]), json.loads(ours)), about
    else:
        assert comparable_text(ours) == comparable_text(answer["body"]), about


def methods(allow: str | None) -> set[str]:
    """Methods of an ``allow`` header; the reference gives them in the order in which it registers its handlers."""
    return set() if allow is None else set(allow.split(","))


def comparable_text(text: str) -> str:
    """The answer's text; of a rejected JSON body the fixed part and the field (spec 10, section 2.4)."""
    if text.startswith(SYNTAX):
        return SYNTAX
    if text.startswith(SHAPE):
        reason = text.removeprefix(SHAPE)
        found = re.match(r"(?:[\w.\[\]]+: )?(?:missing|duplicate) field `\w+`", reason)
        return SHAPE + (found[0] if found else reason.partition(": ")[0])
    return text


def shape(value: Any) -> Any:
    """Members in their order and types of a JSON value; of a list only that it is one."""
    if isinstance(value, dict):
        return [(name, shape(member)) for name, member in value.items()]
    return type(value).__name__


def contained(reference: Any, ours: Any) -> bool:
    """Whether ours is the same but for members that the reference does not have (00-decisions, 15)."""
    if isinstance(reference, dict) and isinstance(ours, dict):
        return all(name in ours and contained(member, ours[name]) for name, member in reference.items())
    if isinstance(reference, list) and isinstance(ours, list):
        return len(reference) == len(ours) and all(map(contained, reference, ours))
    return type(reference) is type(ours) and reference == ours
