"""A second fold with fewer rules, which makes ``expected.json`` of the parity fixture (spec 15, section 8.3).

Usage: ``python tests/golden/replay_generator.py`` folds ``tests/golden/replay/parity/events.json`` and writes
``expected.json`` beside it. It is what parity harnesses compare a server's replay with: on well-formed events the two
folds agree in everything that section 8.4 lists. It shares no code with the product on purpose.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "replay" / "parity"

EXECUTION_STATUS = {
    **dict.fromkeys(
        ("playbook.completed", "playbook_completed", "workflow.completed", "execution.completed"), "COMPLETED"
    ),
    **dict.fromkeys(("playbook.failed", "playbook_failed", "workflow.failed", "execution.failed"), "FAILED"),
    **dict.fromkeys(("playbook.cancelled", "playbook_cancelled"), "CANCELLED"),
}
ENTERING = ("step.enter", "step_enter", "step_started")
LEAVING = ("step.exit", "step_completed", "command.completed")
COMMAND_BEGINS = {
    "command.issued": ("PENDING", "issued_event_id"),
    "command.claimed": ("CLAIMED", "claimed_event_id"),
    "command.started": ("RUNNING", "started_event_id"),
}
COMMAND_ENDS = {"command.completed": "COMPLETED", "command.failed": "FAILED", "command.cancelled": "CANCELLED"}
SUMMARY_KEYS = ("sha256", "schema_digest", "row_count", "media_type", "ref")

Json = dict[str, Any]


def generate(events: list[Json]) -> Json:
    """The expected state of a log."""
    state: Json = {
        "event_count": 0, "last_event_id": None, "last_event_type": None,
        "execution": {"status": "UNKNOWN", "last_node_name": None, "payload_refs": []},
        "stages": {}, "frames": {}, "commands": {}, "business_objects": {}, "loops": {},
    }  # fmt: skip
    for event in sorted(events, key=lambda event: integer(event.get("event_id")) or 0):
        state["event_count"] += 1
        state["last_event_id"], state["last_event_type"] = event.get("event_id"), event.get("event_type")
        fold(state, event)
    return state


def text(state: Json) -> str:
    """The text of ``expected.json``."""
    return json.dumps(state, indent=2, sort_keys=True) + "\n"


def fold(state: Json, event: Json) -> None:
    kind = event.get("event_type") or ""
    meta = as_object(event.get("meta"))
    reference = reference_of(event)
    execution = state["execution"]
    if kind in EXECUTION_STATUS:
        execution["status"] = EXECUTION_STATUS[kind]
    elif kind in ENTERING and execution["status"] == "UNKNOWN":
        execution["status"] = "RUNNING"
    if kind in (*ENTERING, *LEAVING) and event.get("node_name") is not None:
        execution["last_node_name"] = event["node_name"]
    if reference is not None:
        execution["payload_refs"].append({"event_id": event["event_id"], "reference": reference})
    stage, frame = entity(event, meta, "stage"), entity(event, meta, "frame")
    command = first_not_null(event.get("command_id"), meta.get("command_id"))
    loop = first_not_null(meta.get("loop_id"), meta.get("loop_event_id"), meta.get("__loop_epoch_id"))
    if stage:
        fold_stage(state["stages"], event, meta, stage)
    if frame:
        fold_frame(state["frames"], event, meta, frame, stage, command, reference)
    if command:
        fold_command(state["commands"], event, command, stage, frame)
    if loop:
        fold_loop(state["loops"], event, meta, loop)
    named = business_object(event, meta)
    if named is not None:
        fold_business_object(state["business_objects"], event, meta, *named, reference)


def fold_stage(stages: Json, event: Json, meta: Json, stage_id: str) -> None:
    stage = stages.setdefault(
        stage_id,
        {
            "stage_id": stage_id, "status": "UNKNOWN", "kind": meta.get("kind"),
            "step_name": meta.get("step_name") or event.get("node_name"),
            "frame_count": 0, "row_count": 0, "events_emitted": 0, "failed_count": 0,
        },
    )  # fmt: skip
    stage["last_event_id"] = event["event_id"]
    if event["event_type"] == "stage.opened":
        stage.update(status="OPEN", opened_event_id=event["event_id"])
    elif event["event_type"] == "stage.closed":
        stage.update(status=status_of(event) or "CLOSED", closed_event_id=event["event_id"])


def fold_frame(
    frames: Json, event: Json, meta: Json, frame_id: str, stage: str | None, command: str | None, reference: Any
) -> None:
    frame = frames.setdefault(
        frame_id,
        {
            "frame_id": frame_id, "stage_id": stage, "status": "UNKNOWN",
            "row_count": 0, "attempts": 0, "events_emitted": 0,
        },
    )  # fmt: skip
    kind, status = event["event_type"], status_of(event)
    frame["last_event_id"] = event["event_id"]
    if stage:
        frame["stage_id"] = stage
    if command:
        frame["command_id"] = command
    if kind == "frame.dispatched":
        frame.update(status="CLAIMED", claimed_event_id=event["event_id"])
        frame["attempts"] = max(frame["attempts"], integer(meta.get("attempt") or 1) or 0)
    elif kind == "frame.started":
        frame["status"] = "RUNNING"
    elif kind == "frame.abandoned":
        frame["status"] = status or "ABANDONED"
    elif kind in ("frame.committed", "frame.failed"):
        frame["status"] = status or ("COMPLETED" if kind == "frame.committed" else "FAILED")
        for key in ("row_count", "events_emitted"):
            count = integer(meta.get(key))
            if count is not None and not (key == "row_count" and kind == "frame.failed"):
                frame[key] = count
        frame["terminal_event_id"] = event["event_id"]
        frame.update(output_ref=reference, output_ref_summary=summary(reference))
    elif status:
        frame["status"] = status


def fold_command(commands: Json, event: Json, command_id: str, stage: str | None, frame: str | None) -> None:
    command = commands.setdefault(command_id, {"command_id": command_id, "status": "UNKNOWN"})
    kind, status = event["event_type"], status_of(event)
    command["last_event_id"] = event["event_id"]
    for key, value in (("stage_id", stage), ("frame_id", frame), ("worker_id", event.get("worker_id"))):
        if value:
            command[key] = str(value)
    if kind in COMMAND_BEGINS:
        command["status"], marker = COMMAND_BEGINS[kind]
        command[marker] = event["event_id"]
    elif kind in COMMAND_ENDS:
        command["status"] = status or COMMAND_ENDS[kind]
        command["terminal_event_id"] = event["event_id"]
    elif status and kind.startswith("command."):
        command["status"] = status


def fold_loop(loops: Json, event: Json, meta: Json, loop_id: str) -> None:
    loop = loops.setdefault(
        loop_id,
        {
            "loop_id": loop_id, "step_name": event.get("node_name"),
            "total": meta.get("collection_size") or meta.get("total"),
            "done": 0, "failed": 0, "completed": False, "last_event_id": None,
        },
    )  # fmt: skip
    loop["last_event_id"] = event["event_id"]
    if event["event_type"] in ("command.completed", "loop.shard.done"):
        loop["done"] += 1
    elif event["event_type"] in ("command.failed", "loop.shard.failed"):
        loop["failed"] += 1
    elif event["event_type"] in ("loop.done", "loop.fanin.completed"):
        loop["completed"] = True


def fold_business_object(
    objects: Json, event: Json, meta: Json, object_type: str, object_id: str, reference: Any
) -> None:
    carried = as_object(meta.get("business_object"))
    key = f"{object_type}/{object_id}"
    entry = objects.setdefault(
        key,
        {
            "object_key": key, "object_type": object_type, "object_id": object_id, "status": "UNKNOWN", "version": 0,
            "event_count": 0, "first_event_id": event["event_id"], "last_event_id": None, "deleted_event_id": None,
            "last_event_type": None, "attributes": {}, "payload_refs": [], "last_payload_ref": None,
        },
    )  # fmt: skip
    entry.update(last_event_id=event["event_id"], last_event_type=event["event_type"])
    entry["event_count"] += 1
    entry["version"] = int(carried.get("version") or meta.get("business_object_version") or entry["event_count"])
    suffix = event["event_type"].lower().rpartition(".")
    by_type = {
        "deleted": "DELETED", "removed": "DELETED", "created": "ACTIVE", "updated": "ACTIVE", "upserted": "ACTIVE",
    }.get(suffix[2] if suffix[1] else "")  # fmt: skip
    status = status_of(event) or by_type
    if status:
        entry["status"] = status
        if status == "DELETED":
            entry["deleted_event_id"] = event["event_id"]
    if isinstance(carried.get("state"), dict):
        entry["attributes"] = dict(carried["state"])
    patch = carried.get("patch") or carried.get("attributes")
    if isinstance(patch, dict):
        entry["attributes"].update(patch)
    if reference is not None:
        payload = {"event_id": event["event_id"], "reference": reference, "summary": summary(reference)}
        entry["payload_refs"].append(payload)
        entry["last_payload_ref"] = payload


def entity(event: Json, meta: Json, kind: str) -> str | None:
    column, aggregate = event.get(f"{kind}_id"), event.get("aggregate_id")
    if column is not None:
        return str(column)
    if event.get("aggregate_type") == kind and aggregate:
        return str(aggregate).removeprefix(f"{kind}/")
    return first_not_null(meta.get(f"{kind}_id"))


def business_object(event: Json, meta: Json) -> tuple[str, str] | None:
    carried, aggregate = as_object(meta.get("business_object")), event.get("aggregate_id")
    object_type = (
        carried.get("object_type") or carried.get("type")
        or meta.get("business_object_type") or meta.get("object_type")
    )  # fmt: skip
    object_id = carried.get("object_id") or carried.get("id") or meta.get("business_object_id") or meta.get("object_id")
    if event.get("aggregate_type") == "business_object" and aggregate is not None:
        parts = [part for part in str(aggregate).split("/") if part]
        if parts[:1] == ["business_object"]:
            del parts[0]
        if len(parts) >= 2:
            object_type, object_id = object_type or parts[0], object_id or "/".join(parts[1:])
        else:
            object_type, object_id = object_type or "business_object", object_id or str(aggregate)
    return None if object_type is None or object_id is None else (str(object_type), str(object_id))


def reference_of(event: Json) -> Any:
    return first(event.get("payload_ref"), as_object(event.get("result")).get("reference"))


def summary(reference: Any) -> Json:
    if not isinstance(reference, dict):
        return dict.fromkeys(SUMMARY_KEYS)
    rows = as_object(reference.get("rows_ref"))
    meta, ipc = as_object(rows.get("meta")), as_object(rows.get("ipc"))
    found = {key: reference.get(key) or meta.get(key) or ipc.get(key) for key in SUMMARY_KEYS[:4]}
    found["sha256"] = found["sha256"] or reference.get("digest")
    found["ref"] = reference.get("ref") or rows.get("ref") or reference.get("uri")
    return found


def status_of(event: Json) -> str:
    status = event.get("status")
    return str(status) if status else ""


def as_object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def first_not_null(*values: Any) -> str | None:
    found = first(*values)
    return None if found is None else str(found)


def integer(value: Any) -> int | None:
    with suppress(TypeError, ValueError, OverflowError):
        return int(value)
    return None


def main() -> None:
    events = json.loads((FOLDER / "events.json").read_text())
    (FOLDER / "expected.json").write_text(text(generate(events)))


if __name__ == "__main__":
    main()
