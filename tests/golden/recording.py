"""What the recording scripts share: how a request is written down, sent, filled in, masked, and kept in a file.

A step is ``{"method", "target", "content_type", "authorization", "body", "answer": {"status", "content_type", "allow",
"body"}}``; absent members mean "not sent". ``deviation`` is the status that we answer on purpose, with the reason, and
our ``body`` (parsed JSON) where that is fixed as well. ``shape`` tells that only members and types of the answer are
compared, ``superset`` that ours may have further members. Status 0 stands for a connection that was cut without
an answer.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JSON = "application/json"

Step = dict[str, Any]
Deviation = tuple[int, str] | tuple[int, str, Any]
"""Our status, the reason, and our body where it is fixed."""


def call(
    method: str,
    target: str,
    body: Any = None,
    *,
    content_type: str | None = JSON,
    authorization: str | None = None,
    deviation: Deviation | None = None,
    shape: bool = False,
    superset: bool = False,
) -> Step:
    """One request; ``body`` is JSON, or a text to send as it is."""
    built: Step = {"method": method, "target": target}
    if body is not None:
        built["body"] = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        if content_type is not None:
            built["content_type"] = content_type
    if authorization is not None:
        built["authorization"] = authorization
    if deviation is not None:
        status, reason, *expected = deviation
        built["deviation"] = {"status": status, "reason": reason}
        if expected:
            built["deviation"]["body"] = expected[0]
    if shape:
        built["shape"] = True
    if superset:
        built["superset"] = True
    return built


class Names:
    """Values that differ from run to run, by the names that stand for them in targets, bodies, SQL and answers.

    ``{name}`` is replaced wherever it is written; in an answer the value is replaced by ``{name}``. ``{ref N}`` in a
    target is the percent-encoded reference that the Nth stored result got.
    """

    def __init__(self, **values: object) -> None:
        self.values = {name: str(value) for name, value in values.items()}
        self.references: list[str] = []

    def fill(self, text: str) -> str:
        """A text with its names replaced by their values."""
        for name, value in self.values.items():
            text = text.replace(f"{{{name}}}", value)
        return re.sub(r"\{ref (\d+)\}", lambda found: quote(self.references[int(found[1]) - 1], safe=""), text)

    def note(self, answer: str) -> None:
        """Remember the reference that an answer tells, if any."""
        found = re.search(r'"ref":"(noetl://[^"]*)"', answer)
        if found is not None:
            self.references.append(json.loads(f'"{found[1]}"'))

    def mask(self, text: str) -> str:
        """An answer without what differs each time: our values, ids and moments that a server makes."""
        for name, value in self.values.items():
            if value.isdigit():
                text = re.sub(rf"(?<=[:\[,]){value}(?=[,\]}}])", f'"{{{name}}}"', text)
            if value:
                text = text.replace(value, f"{{{name}}}")
        text = re.sub(r'("ref":"noetl://[^"]*/)\d+"', r'\1<id>"', text)
        text = re.sub(r'"(catalog_id|execution_id|id)":"[1-9]\d{9,}"', r'"\1":"<id>"', text)
        text = re.sub(r'"(event_id|runtime_id|catalog_id|command_id)":[1-9]\d{16,}', r'"\1":"<id>"', text)
        text = re.sub(r'"event_ids":\[\d{17,}[\d,]*\]', '"event_ids":"<ids>"', text)
        moments = "created_at|updated_at|accessed_at|generated_at|heartbeat|started_at|completed_at"
        return re.sub(rf'"({moments})":"20[0-8]\d-[^"]*Z"', r'"\1":"<moment>"', text)


def ask(url: str, step: Step, names: Names) -> dict[str, Any]:
    """Send one request as it is, and keep what of the answer is compared."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=60)
    body = names.fill(step["body"]).encode() if "body" in step else None
    connection.putrequest(step["method"], names.fill(step["target"]), skip_accept_encoding=True)
    for name, value in headers(step, names):
        connection.putheader(name, value.encode())
    if body is not None:
        connection.putheader("content-length", str(len(body)))
    try:
        connection.endheaders(body)
        response = connection.getresponse()
        text = response.read().decode()
    except http.client.RemoteDisconnected:
        return {"status": 0}
    finally:
        connection.close()
    names.note(text)
    return {
        "status": response.status,
        "content_type": response.getheader("content-type"),
        "allow": response.getheader("allow"),
        "body": names.mask(in_order(text)),
    }


async def check_database(url: str, database: Any) -> None:
    """Refuse to record when the server at ``url`` works on another database than this connection: it is not ours."""
    wanted = await database.fetchval("SELECT current_database()")
    step = call("POST", "/api/postgres/execute", {"query": "SELECT current_database()::text AS name"})
    answer = await asyncio.to_thread(ask, url, step, Names())
    if f'"name":"{wanted}"' not in answer.get("body", ""):
        raise SystemExit(f"{url} does not work on database {wanted}: {answer}")


def headers(step: Step, names: Names) -> list[tuple[str, str]]:
    """The headers that a step sends beside those of every request."""
    found = [("content-type", step["content_type"])] if "content_type" in step else []
    return [*found, *([("authorization", names.fill(step["authorization"]))] if "authorization" in step else [])]


def in_order(text: str) -> str:
    """An answer with claimed outbox rows by id: the reference gives them in any order."""
    if not text.startswith('{"rows":['):
        return text
    answer = json.loads(text)
    answer["rows"].sort(key=lambda row: row["outbox_id"])
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":"))


def record(url: str, steps: list[Step], names: Names) -> list[Step]:
    """The steps with the answers of the server, asked in order."""
    return [{**step, "answer": ask(url, step, names)} for step in steps]


def write(folder: Path, recorded: Mapping[str, list[Step]]) -> None:
    """One file per group, one line per step."""
    folder.mkdir(exist_ok=True)
    for group, steps in recorded.items():
        lines = ",\n".join(json.dumps(step, ensure_ascii=False) for step in steps)
        (folder / f"{group}.json").write_text(f"[\n{lines}\n]\n")
