"""Event logs for replays: one per rule of the fold, and random ones in which anything may stand anywhere.

An event is a dictionary of columns; ``meta`` and ``result`` are decoded JSON. Missing columns are NULL, but ``status``
is empty and ``event_id`` counts from 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

Log = list[dict[str, Any]]

EVENT_TYPES = [
    "playbook_started", "playbook.completed", "playbook_completed", "playbook.failed", "playbook_failed",
    "playbook.cancelled", "playbook_cancelled", "execution.cancelled", "workflow.completed", "step.enter", "step_enter",
    "step_started", "step.exit", "step_completed", "step.skipped", "command.issued", "command.claimed",
    "command.started", "command.completed", "command.failed", "command.cancelled", "command.heartbeat", "commandx",
    "stage.opened", "stage.closed", "stage.planned", "frame.dispatched", "frame.started", "frame.abandoned",
    "frame.committed", "frame.failed", "frame.other", "loop.shard.done", "loop.shard.failed", "loop.done",
    "loop.fanin.completed", "loop.started", "order.created", "Order.UPDATED", "order.upserted", "order.deleted",
    "order.Removed", "order.touched", "",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -3, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, -(2**63) - 1, 2.0, 2.5, 0.1, 1e-5, 1e-6,
    1e15, 1e16, 1e22, 1.5e17, -0.5, 123456.789e-12, "", "x", "5", "a/b", "é\u2028\U0001f600", 'q"\\\n\t\x01/\x7f', [],
    [1, "a", None], {}, {"b": 1, "a": [2.0, {"d": 1e22, "c": None}], "é": "ü", "z\uffff": 1, "z\U00010000": 2},
]  # fmt: skip
SUMMARY_KEYS = ["sha256", "schema_digest", "row_count", "media_type", "ref", "uri", "digest"]
META_KEYS = [
    "stage_id", "frame_id", "command_id", "loop_id", "loop_event_id", "__loop_epoch_id", "parent_stage_id",
    "parent_frame_id", "parent_command_id", "worker_id", "worker_locator", "kind", "step_name", "collection_size",
    "total", "attempt", "frame_count", "row_count", "events_emitted", "failed_count", "business_object_type",
    "object_type", "business_object_id", "object_id", "business_object_version",
]  # fmt: skip
OBJECT_KEYS = ["object_type", "type", "object_id", "id", "version", "state", "patch", "attributes"]


def event(event_type: str, **columns: Any) -> dict[str, Any]:
    return {"event_type": event_type, "status": "", **columns}


def numbered(log: Log) -> Log:
    return [{"event_id": number, **entry} for number, entry in enumerate(log, 1)]


def about(**carried: Any) -> dict[str, Any]:
    """Metadata about the business object ``order/1``."""
    return {"business_object": {"type": "order", "id": "1", **carried}}


def refers(reference: Any) -> dict[str, Any]:
    return {"status": "ok", "reference": reference}


def rules() -> dict[str, Log]:
    """One log per rule of spec 15, section 4, most with every event type of the rule, with and without status."""
    ends = ["playbook.completed", "playbook_failed", "playbook.cancelled", "playbook_completed"]
    logs: dict[str, Log] = {
        "worked_example": [
            event("playbook_started", status="STARTED"),
            event("step.enter", node_name="load", status="ENTERED"),
            event(
                "stage.opened", node_name="load", aggregate_type="stage", aggregate_id="stage/s1",
                meta={"kind": "fanout", "loop_id": "L1", "collection_size": 2},
            ),
            event("command.issued", node_name="load", status="PENDING", command_id=70,
                  meta={"stage_id": "s1", "loop_id": "L1"}),
            event("frame.dispatched", command_id=70, meta={"stage_id": "s1", "frame_id": "f1", "attempt": 2}),
            event(
                "frame.committed", meta={"stage_id": "s1", "frame_id": "f1", "row_count": 3},
                result=refers({"digest": "abc", "rows_ref": {"ref": "r://1", "meta": {"row_count": 3}}}),
            ),
            event("command.completed", node_name="load", status="success", command_id=70, worker_id="w-1",
                  meta={"loop_id": "L1"}),
            event("order.created", meta={"business_object": {"type": "order", "id": "o/1", "state": {"qty": 1}}}),
            event(
                "order.updated", aggregate_type="business_object", aggregate_id="business_object/order/o/1",
                meta={"business_object": {"patch": {"qty": 2.5}, "version": 9}},
            ),
            event("stage.closed", meta={"stage_id": "s1", "frame_count": 1, "row_count": 3}),
            event("playbook.completed", node_name="playbook", status="COMPLETED"),
        ],
        "started_only": [event("playbook_started", node_name="p", status="STARTED")],
        "terminal_then_terminal": [event(kind, node_name=f"n{index}") for index, kind in enumerate(ends)],
        "terminal_then_steps": [event("playbook.failed"), event("step.enter", node_name="a"), event("step.exit")],
        "steps": [event(kind, node_name=f"n-{kind}") for kind in EVENT_TYPES[9:15]],
        "events_that_end_nothing": [
            event(kind, status="DONE") for kind in ("execution.cancelled", "workflow.completed", "execution.failed")
        ],
        "null_status": [
            event("step.enter", status=None, node_name="a"), event("command.issued", status=None, command_id=5),
        ],
        "stage_and_frame_columns": [
            event("stage.opened", stage_id=7), event("frame.dispatched", stage_id=7, frame_id=8),
            event("frame.committed", frame_id=8, status="OK"), event("stage.closed", stage_id=7),
        ],
        "stage_aggregates": [
            event("stage.opened", aggregate_type="stage", aggregate_id=text, meta={"stage_id": "other"})
            for text in ("stage/a", "stage/stage/a", "a", "", "stage/", "frame/a", "STAGE/a")
        ],
        "frame_aggregates": [
            event("frame.started", aggregate_type=kind, aggregate_id=text, meta={"frame_id": "other"})
            for kind in ("frame", "Frame", "stage") for text in ("frame/a", "frame/frame/a", "a", "", "frame/")
        ],
        "stage_life": [
            event("stage.planned", meta={"stage_id": "s", "kind": 5, "step_name": None}),
            event("stage.planned", status="READY", node_name="late", meta={"stage_id": "s", "kind": "late"}),
            event("stage.opened", status="IGNORED", meta={"stage_id": "s", "parent_stage_id": "p", "loop_event_id": 9}),
            event("frame.started", status="FROM_FRAME", meta={"stage_id": "s"}),
            event("stage.closed", meta={"stage_id": "s", "frame_count": 4, "row_count": "5", "failed_count": 2.0,
                                        "events_emitted": 2**63}),
            event("stage.closed", status="PARTLY", meta={"stage_id": "s", "row_count": -1}),
        ],
        "frame_life": [
            event("frame.other", meta={"frame_id": "f", "stage_id": ""}),
            event("frame.dispatched", status="IGNORED", meta={"frame_id": "f", "attempt": 3}),
            event("frame.dispatched", meta={"frame_id": "f"}),
            event("frame.started", status="IGNORED", meta={"frame_id": "f", "parent_frame_id": "p"}),
            event("frame.abandoned", meta={"frame_id": "f"}),
            event("frame.committed", meta={"frame_id": "f", "row_count": 4, "events_emitted": 2},
                  result=refers({"sha256": "s"})),
            event("frame.committed", status="AGAIN", meta={"frame_id": "f", "row_count": 4.0}),
            event("frame.failed", meta={"frame_id": "f", "row_count": 9, "events_emitted": 7, "command_id": 3},
                  result=refers({"uri": "u"})),
            event("frame.abandoned", status="GONE", meta={"frame_id": "f"}),
            event("frame.other", status="OTHER", meta={"frame_id": "f"}),
        ],
        "command_life": [
            event(kind, status=status, command_id=number, worker_id=worker, meta=meta)
            for number, kind in enumerate(EVENT_TYPES[15:23])
            for status in ("", "S")
            for worker, meta in (
                (None, {"worker_id": "m", "worker_locator": "l"}), ("w", {"worker_id": "m"}), ("w", None),
            )
        ],
        "command_end_to_end": [
            event(kind, meta={"command_id": "1:a:2", "parent_command_id": 4, "stage_id": "s", "frame_id": "f"})
            for kind in ("command.issued", "command.claimed", "command.started", "order.touched", "command.failed")
        ],
        "loop_counters": [
            event(kind, node_name=f"n{index}", meta={key: "L", "total": index})
            for index, kind in enumerate(["loop.started", *EVENT_TYPES[18:20], *EVENT_TYPES[32:36]])
            for key in ("loop_id", "loop_event_id", "__loop_epoch_id")
        ],
        "loop_total": [
            event("loop.started", meta={"loop_id": f"{size}-{total}", "collection_size": size, "total": total})
            for size in (None, 3, "3", 3.0) for total in (None, 4, True)
        ],
        "integers": [
            event("frame.committed", meta={"frame_id": str(index), "row_count": value, "events_emitted": value})
            for index, value in enumerate(VALUES)
        ],
        "ids_of_any_type": [
            event("command.issued", meta={"command_id": value, "stage_id": value, "loop_id": value, "frame_id": value})
            for value in VALUES
        ],
        "meta_of_any_type": [
            event("command.issued", meta=value, command_id=index) for index, value in enumerate(VALUES)
        ],
        "object_names": [
            *(event("order.created", meta={"business_object": {a: "t", b: 5}}) for a in ("object_type", "type")
              for b in ("object_id", "id")),
            *(event("order.created", meta={a: "u", b: None}) for a in ("business_object_type", "object_type")
              for b in ("business_object_id", "object_id")),
            event("order.created", meta={"business_object": {"object_type": None, "type": "t", "id": ""}}),
            event("order.created", meta={"business_object": [], "object_type": "t", "object_id": "i"}),
            event("order.created", meta={"business_object": {"type": "t"}}),
            event("order.created", meta={"object_id": "only"}),
        ],
        "object_aggregates": [
            event("order.created", aggregate_type="business_object", aggregate_id=text, meta=meta)
            for text in ("a/b", "business_object/a/b/c", "solo", "business_object/solo", "/", "", "a//b/", "a/")
            for meta in (None, {"object_type": "T"}, {"object_id": "I"})
        ],
        "object_life": [
            event("order.created", meta=about(state={"a": 1, "b": None})),
            event("order.updated", meta=about(patch={"a": {"y": 1, "x": 2.50}, "c": [1]}, attributes={"hidden": 1})),
            event("order.updated", meta=about(patch="none", attributes={"hidden": 2}, version=40)),
            event("order.updated", meta=about(patch=None, attributes={"hidden": 3})),
            event("order.updated", meta=about(patch={}, attributes={"hidden": 4})),
            event("order.updated", meta=about(attributes={"shown": True}, version="41")),
            event("order.deleted", meta=about(version=2.0)),
            event("order.touched", meta=about(version=3)),
            event("order.UPSERTED", meta={**about(), "business_object_version": -7}),
            event("order.touched", status="DELETED", meta=about()),
            event("order.removed", status="KEPT", meta=about(state={"new": 1}, patch={"new": 2, "q": "ü"})),
            event("order.touched", meta=about(state=[], patch=None), result=refers({"ref": "r", "row_count": 0})),
            event("order.touched", meta=about(), result=refers({"digest": "d"})),
        ],
        "object_status_by_type": [
            event(f"{prefix}{kind}", meta={"business_object": {"type": f"{prefix}{kind}", "id": 1}})
            for kind in ("created", "updated", "upserted", "deleted", "removed", "REMOVED", "Created", "deleted.", "x")
            for prefix in ("", ".", "order.", "order", "a.b.")
        ],
        "unicode_and_control_characters": [
            event("order.created", node_name='n"\n\u2028',
                  meta=about(state={text: text for text in VALUES if type(text) is str})),
            event("step.enter", node_name='é/"\\\x1f', result=refers({"k\x7f": "\x01\x1f\x7f/", "Z": 1, "a": 2})),
        ],
        "floats_in_references": [event("x", result=refers({"value": value, "list": [value]})) for value in VALUES],
        "summaries": [
            event("x", result=refers({**own, "rows_ref": {"meta": meta, "ipc": ipc, "ref": "rows"}}))
            for own, meta, ipc in (
                ({}, {}, {}), ({"digest": "d", "uri": "u"}, {}, {}), ({"sha256": ""}, {"sha256": "m"}, {}),
                ({"sha256": 5, "row_count": "5"}, {"sha256": None, "row_count": 2.0}, {"sha256": "i", "row_count": 0}),
                ({"ref": 5}, {"media_type": "m", "schema_digest": []}, {"media_type": "i", "schema_digest": "i"}),
                ({"row_count": 2**63}, [], {"row_count": -1}), ({"ref": ""}, "no", None),
            )
        ] + [event("x", result=refers({"rows_ref": value, "uri": "u"})) for value in ("text", None, [])],
        "results_without_reference": [
            event("x", result={"status": "ok"}), event("x", result={"status": "ok", "context": {"reference": 1}}),
            event("x"), event("x", result=refers({})),
        ],
    }  # fmt: skip
    return {name: numbered(log) for name, log in logs.items()}


def random_log(chance: random.Random, length: int) -> Log:
    """A log of ``length`` events that share a handful of ids."""

    def some(values: list[Any], likely: float) -> Any:
        return chance.choice(values) if chance.random() < likely else None

    def members(keys: list[str], likely: float, values: list[Any]) -> dict[str, Any]:
        return {key: chance.choice(values) for key in keys if chance.random() < likely}

    texts: list[Any] = ["1", "2", "", None, 7, "é"]
    log: Log = []
    identifiers = sorted(chance.sample(range(-5, 10_000), length))
    for event_id in identifiers:
        meta: Any = members(META_KEYS, 0.12, [*texts, chance.choice(VALUES)])
        if chance.random() < 0.3:
            carried = members(OBJECT_KEYS, 0.4, [*texts, {"a": chance.choice(VALUES), "b": 1}, chance.choice(VALUES)])
            meta["business_object"] = chance.choice([carried, carried, carried, chance.choice(VALUES)])
        if chance.random() < 0.1:
            meta = chance.choice(VALUES)
        reference = members(SUMMARY_KEYS, 0.3, [*texts, chance.choice(VALUES)])
        if chance.random() < 0.4:
            reference["rows_ref"] = {
                "meta": members(SUMMARY_KEYS, 0.3, [*texts, chance.choice(VALUES)]),
                "ipc": members(SUMMARY_KEYS, 0.3, [*texts, 3]),
                **members(["ref", "meta"], 0.2, texts),
            }
        result = refers(reference) if chance.random() < 0.4 else some([{"status": "ok", "context": {}}], 0.5)
        log.append(
            event(
                chance.choice(EVENT_TYPES),
                event_id=event_id,
                node_name=some(["a", "b", ""], 0.6),
                status=chance.choice(["", "", "OK", "DELETED", "é"]),
                command_id=some([1, 2, -9], 0.3),
                worker_id=some(["w", ""], 0.3),
                aggregate_type=some(["stage", "frame", "business_object", "other"], 0.4),
                aggregate_id=some(["stage/1", "frame/1", "business_object/a/1", "a/1", "1", "", "/"], 0.6),
                meta=meta if chance.random() < 0.8 else None,
                **({} if result is None else {"result": result}),
            )
        )
    return log
