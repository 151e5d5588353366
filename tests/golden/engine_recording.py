"""What a played case left behind, in a form that is the same for every run: ids are numbered, times are taken out.

A recording has these members (an execution of a child is under its name in ``children``):

===========  ======================================================================================================
member       content
===========  ======================================================================================================
answers      ``[request, status, body]``; the usual body of a claim or an event is written ``"ok"``
events       the rows of ``noetl.event`` in log order, without what is NULL
messages     subject and body of the notifications
commands     the rows of ``noetl.command`` in order of their events; context and meta ``"as issued"`` if they are so
status       answer of the status route
detail       answer of the detail route; its events by number if they say what the rows say
===========  ======================================================================================================

Ids: ``X`` is the execution, ``C`` its catalog entry, ``E7`` the seventh event; ``$X`` in a text, ``#X`` for a number.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast

from tests.golden.scripted_worker import MAIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.golden.scripted_worker import Case, Execution, ScriptedWorker, Stage

Recording = dict[str, Any]

EVENT_COLUMNS: Final = (
    "event_type, node_id, node_name, node_type, status, parent_event_id, parent_execution_id, worker_id, error,"
    " context::text, result::text, meta::text, duration, catalog_id"
)
COMMAND_COLUMNS: Final = (
    "event_id, step_name, tool_kind, status, attempt, latest_event_id, error, context::text, meta::text"
)
TERMINAL: Final = (
    "playbook.completed", "playbook.failed", "playbook_completed", "playbook_failed", "playbook_cancelled",
    "execution.cancelled",
)  # fmt: skip
ENDS: Final = (
    "playbook.completed",
    "playbook_completed",
    "playbook.failed",
    "playbook_failed",
    "playbook.cancelled",
    "playbook_cancelled",
    "execution.cancelled",
)
COMMAND_STATUS: Final = {
    "command.claimed": "CLAIMED",
    "command.started": "RUNNING",
    "command.completed": "COMPLETED",
    "action_completed": "COMPLETED",
    "step.exit": "COMPLETED",
    "command.failed": "FAILED",
}
FINAL: Final = ("COMPLETED", "FAILED", "CANCELLED")
STATUS_MEMBERS: Final = ("execution_id", "status", "current_step", "progress", "is_cancelled")
DETAIL_MEMBERS: Final = (
    "execution_id", "catalog_id", "path", "status", "started_at", "completed_at", "parent_execution_id", "workload",
    "events",
)  # fmt: skip
_ENGINE_TYPES: Final = ("step.enter", "step.skipped", "step.exit", "command.issued", "playbook_started", *TERMINAL)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_ID: Final = re.compile(r"(?<!\d)\d{15,19}(?!\d)")


class Names:
    """The ids of a played case and what they are called in a recording."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._names: dict[int, str] = {}

    def add(self, identity: int, name: str) -> None:
        """Give an id its name; the first name stays."""
        self._names.setdefault(identity, name)

    def apply(self, value: Any) -> Any:
        """``value`` with names for ids, and ``$url`` for the address of the server, at every depth."""
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return {self.apply(key): self.apply(item) for key, item in members.items()}
        if isinstance(value, list):
            return [self.apply(item) for item in cast("list[Any]", value)]
        if isinstance(value, str):
            named = _ID.sub(lambda found: self._in_text(found[0]), value)
            return named.replace(self._url, "$url").replace(self._url.replace("127.0.0.1", "localhost"), "$url")
        if isinstance(value, int) and not isinstance(value, bool) and value in self._names:
            return f"#{self._names[value]}"
        return value

    def _in_text(self, digits: str) -> str:
        name = self._names.get(int(digits))
        return digits if name is None else f"${name}"


async def record(stage: Stage, case: Case, worker: ScriptedWorker, *, order: str) -> Recording:
    """Read back what the server did; ``order`` is the column that orders its log."""
    names = Names(stage.url)
    logs: dict[str, list[Any]] = {}
    for name, execution in worker.executions.items():
        prefix = f"{name}." if name != MAIN else ""
        logs[name] = await stage.database.fetch(
            f"SELECT event_id, {EVENT_COLUMNS} FROM noetl.event WHERE execution_id = $1 ORDER BY {order}",
            execution.execution_id,
        )
        names.add(execution.execution_id, f"{prefix}X")
        for number, row in enumerate(logs[name], 1):
            names.add(row["event_id"], f"{prefix}E{number}")
            names.add(row["catalog_id"], f"{prefix}C")
    recording: Recording = {"answers": [_answer(names, *answer) for answer in worker.answers]}
    for name, execution in worker.executions.items():
        part = await _execution(stage, names, execution, logs[name])
        if name == MAIN:
            recording.update(part)
        else:
            recording.setdefault("children", {})[name] = part
    assert not case.children or MAIN in worker.executions
    return recording


def _answer(names: Names, label: str, status: int, body: Any) -> list[Any]:
    if status == 200 and isinstance(body, dict):
        members = cast("dict[str, Any]", body)
        if members.get("status") == "ok" and members.get("commands_generated", 0) == 0:
            return [label, status, "ok" if members.get("event_id", 1) else {"event_id": 0}]
    return [label, status, names.apply(body)]


async def _execution(stage: Stage, names: Names, execution: Execution, log: Sequence[Any]) -> Recording:
    raw = [event_of(row) for row in log]
    rows = [{key: item for key, item in event.items() if key != "catalog_id"} for event in names.apply(raw)]
    by_id = {row["event_id"]: event for row, event in zip(log, raw, strict=True)}
    messages = [
        {"subject": names.apply(subject), "body": names.apply(body)}
        for subject, body in await stage.announced(execution.execution_id)
    ]
    commands = await stage.database.fetch(
        f"SELECT {COMMAND_COLUMNS} FROM noetl.command WHERE execution_id = $1 ORDER BY event_id, command_id",
        execution.execution_id,
    )
    base = f"/api/executions/{execution.execution_id}"
    status = await stage.call("GET", f"{base}/status")
    detail = await stage.call("GET", base)
    return {
        "events": rows,
        "messages": messages,
        "commands": [names.apply(_command(row, by_id)) for row in commands],
        "status": names.apply(list(status)),
        "detail": [detail[0], _detail(names, detail[1], by_id)],
    }


def event_of(row: Any) -> dict[str, Any]:
    """A row of ``noetl.event`` without what is NULL."""
    event = {key: value for key, value in row.items() if value is not None and key != "event_id"}
    for key in ("context", "result", "meta"):
        if key in event:
            event[key] = json.loads(event[key])
    meta = event.get("meta")
    if isinstance(meta, dict) and "emitted_at" in meta:
        meta["emitted_at"] = _time(cast("dict[str, Any]", meta)["emitted_at"])
    return event


def _command(row: Any, events: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    command = {key: value for key, value in row.items() if value is not None}
    issued = events.get(row["event_id"], {})
    for key in ("context", "meta"):
        value = json.loads(command[key]) if key in command else None
        command[key] = "as issued" if value == issued.get(key) else value
    return command


def _detail(names: Names, body: Any, events: Mapping[int, dict[str, Any]]) -> Any:
    if not isinstance(body, dict) or "events" not in body:
        return names.apply(body)
    members = cast("dict[str, Any]", body)
    named: dict[str, Any] = names.apply({**members, "events": [_detail_event(item, events) for item in body["events"]]})
    for key in ("started_at", "completed_at"):
        if named.get(key) is not None:
            named[key] = _time(named[key])
    return named


def _detail_event(item: dict[str, Any], events: Mapping[int, dict[str, Any]]) -> Any:
    row = events.get(int(item["event_id"]), {})
    said = {key: value for key, value in item.items() if key not in ("event_id", "created_at") and value is not None}
    shown = ("event_type", "node_name", "status", "result", "error")
    return item["event_id"] if said == {key: row[key] for key in shown if key in row} else said


def _time(text: str) -> str:
    assert _TIME.fullmatch(text), text
    return "$time"


# -- comparing ---------------------------------------------------------------------------------------------------------


def engine_lines(recording: Recording) -> list[str]:
    """What the engine decided, in short: type and step, the iteration, and the error of the end."""
    lines: list[str] = []
    for event in recording.get("events", []):
        if event["event_type"] in _ENGINE_TYPES:
            meta = event.get("meta") or {}
            index = meta.get("iteration_index")
            error = meta.get("error") or event.get("error")
            is_run = event["event_type"] in ("playbook_started", *TERMINAL)
            lines.append(
                event["event_type"]
                + ("" if is_run else f" {event['node_name']}")
                + ("" if index is None else f" #{index}")
                + (f": {error}" if error else "")
            )
    return lines


def in_reference_terms(recording: Recording, prefix: str = "") -> Recording:
    """A recording of ours without what we add to every answer, and with command rows that never change.

    What is taken away is checked first: the rows of ``noetl.command`` follow their events (D4), and the added booleans
    of the status say what the status says.
    """
    plain = dict(recording)
    for key, members in (("status", STATUS_MEMBERS), ("detail", DETAIL_MEMBERS)):
        if key in recording and recording[key][0] == 200:
            body = recording[key][1]
            assert body["completed"] == (body["status"] != "RUNNING"), body
            assert body["failed"] == (body["status"] == "FAILED"), body
            plain[key] = [200, {name: value for name, value in body.items() if name in members}]
    if "answers" in recording:
        plain["answers"] = [[label, status, _without_additions(body)] for label, status, body in recording["answers"]]
    if "commands" in recording:
        lives, expected = [_life(row) for row in recording["commands"]], command_lives(recording["events"], prefix)
        assert lives == expected, f"command rows are {lives}, their events say {expected}"
        issued = [event for event in recording["events"] if event["event_type"] == "command.issued"]
        plain["commands"] = [
            {**{key: value for key, value in row.items() if key != "error"}, "status": "PENDING",
             "latest_event_id": event["parent_event_id"], "attempt": 1}
            for row, event in zip(recording["commands"], issued, strict=True)
        ]  # fmt: skip
    if "children" in recording:
        parts = cast("dict[str, Recording]", recording["children"])
        plain["children"] = {name: in_reference_terms(part, f"{name}.") for name, part in parts.items()}
    return plain


def _without_additions(body: Any) -> Any:
    if not isinstance(body, dict):
        return body
    return {key: item for key, item in cast("dict[str, Any]", body).items() if key != "cancelled_executions"}


def _life(row: Mapping[str, Any]) -> list[Any]:
    return [row["event_id"], row["status"], row["latest_event_id"]]


def command_lives(events: Sequence[Mapping[str, Any]], prefix: str = "") -> list[list[Any]]:
    """What the command rows say after a log: event, status, latest event; what is open at the end is cancelled (D4)."""
    lives: dict[str, list[Any]] = {}
    for number, event in enumerate(events, 1):
        name, kind = f"#{prefix}E{number}", event["event_type"]
        if kind == "command.issued" and "parent_event_id" in event:
            lives[event["meta"]["command_id"]] = [name, "PENDING", event["parent_event_id"], event["node_name"]]
        elif kind in COMMAND_STATUS:
            own = _command_of(event, lives)
            if own is not None and own[1] not in FINAL:
                own[1:3] = [COMMAND_STATUS[kind], name]
        elif kind in ENDS:
            for own in lives.values():
                if own[1] not in FINAL:
                    own[1:3] = ["CANCELLED", name]
    return [own[:3] for own in lives.values()]


def _command_of(event: Mapping[str, Any], lives: Mapping[str, list[Any]]) -> list[Any] | None:
    result = event.get("result") or {}
    text = (event.get("meta") or {}).get("command_id") or (result.get("context") or {}).get("command_id")
    if text is not None or event["event_type"] == "command.started":
        found = lives.get(text)
        return found if found is not None and found[3] == event["node_name"] else None
    own = [life for key, life in lives.items() if life[3] == event["node_name"] and ":i" not in key]
    return own[-1] if own else None


def difference(reference: Recording, ours: Recording) -> Recording:
    """``ours`` in terms of ``reference``: the members that differ, and of lists what follows the first difference."""
    changed: Recording = {}
    for key in {**reference, **ours}:
        theirs, own = reference.get(key), ours.get(key)
        if theirs == own:
            continue
        if isinstance(theirs, list) and isinstance(own, list) and key not in ("status", "detail"):
            pairs = zip(cast("list[Any]", theirs), cast("list[Any]", own), strict=False)
            same = next((number for number, (left, right) in enumerate(pairs) if left != right), None)
            keep = min(len(theirs), len(own)) if same is None else same
            changed[key] = {"keep": keep, "then": own[keep:]}
        else:
            changed[key] = {"value": own}
    return changed


def patched(reference: Recording, changed: Recording) -> Recording:
    """The inverse of `difference`."""
    ours = dict(reference)
    for key, change in changed.items():
        ours[key] = (
            change["value"] if "value" in change else [*reference.get(key, [])[: change["keep"]], *change["then"]]
        )
    return {key: value for key, value in ours.items() if value is not None}


def load(path: Path) -> Recording:
    """A recording file: ``reference``, and ``ours`` where it differs."""
    return json.loads(path.read_text(encoding="utf-8"))


def save(path: Path, content: Recording) -> None:
    """Write a recording file, with one line for each row."""
    path.write_text(_layout(content, 0) + "\n", encoding="utf-8")


def _layout(value: Any, depth: int) -> str:
    flat = json.dumps(value, ensure_ascii=False, sort_keys=True)
    if depth == 4 or not value or not isinstance(value, dict | list) or len(flat) < 100:
        return flat
    pad = " " * (depth + 1)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        lines = [f"{json.dumps(key)}: {_layout(item, depth + 1)}" for key, item in members.items()]
        return "{\n" + ",\n".join(pad + line for line in lines) + "\n" + pad[1:] + "}"
    lines = [_layout(item, 4) for item in cast("list[Any]", value)]
    return "[\n" + ",\n".join(pad + line for line in lines) + "\n" + pad[1:] + "]"
