"""Describes the routes of `noetl.http.events`, `noetl.http.commands` and `noetl.http.runtime`: what workers call."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from noetl.http.commands import ClaimRequest
from noetl.http.events import BatchRequest, EventRequest
from noetl.http.openapi.description import (
    DIGITS,
    TIME,
    Answer,
    Body,
    Count,
    Int32,
    Int64,
    Moment,
    Operation,
    Parameter,
    Tag,
    never_both,
)
from noetl.http.runtime import KINDS, MAX_SHARDS, HeartbeatRequest, RuntimeKey, RuntimeRegisterRequest

EVENT_MEMBERS: dict[str, str | dict[str, Any]] = {
    "": {
        "oneOf": [{"required": ["event_type"]}, {"required": ["name"]}],
        **never_both("payload", "context"),
    },
    "step": {"maxLength": 1000, "description": "Name of the step, at most 1000 bytes"},
    "event_type": "Type of the event, for example `command.completed`; needed here or as `name`",
    "name": "Another name of `event_type`",
    "payload": "What happened; only objects are kept",
    "context": "Another name of `payload`",
    "status": "`COMPLETED`, `FAILED`, `RUNNING` or another text; by default it follows from the type",
    "event_id": {**DIGITS, "description": "Id that the sender has minted; it makes the event safe to repeat"},
    "created_at": {**TIME, "description": "RFC 3339 with a zone; now by default"},
    "meta": 'Kept with the event; what is no object is wrapped as `{"value": ...}`',
    "informative": "Goes to `meta`",
    "actionable": "Goes to `meta`",
}


class IngestedEvent(Struct):
    """The event is committed, and so is what follows from it."""

    status: Literal["ok"]
    event_id: Int64
    commands_generated: Annotated[int, Meta(description="Always 0, for compatibility")]


class IngestedEvents(Struct):
    """The events are committed, and so is what follows from them."""

    status: Literal["ok"]
    event_ids: list[Int64]
    commands_generated: Annotated[int, Meta(description="Always 0, for compatibility")]


class Command(Struct):
    """A command as it was issued."""

    execution_id: Int64
    node_id: str
    node_name: str
    action: Annotated[str, Meta(description="Kind of the tool")]
    context: Annotated[Any, Meta(description="Configuration and arguments of the tool, rendered")]
    meta: Any


class WorkOrder(Struct):
    """A command that now belongs to the worker."""

    status: Literal["ok"]
    event_id: Int64
    execution_id: Int64
    node_id: str
    node_name: str
    action: Annotated[str, Meta(description="Kind of the tool")]
    context: Annotated[Any, Meta(description="Configuration and arguments of the tool, rendered")]
    meta: Any


class Runtime(Struct):
    """A registered worker pool, server or broker."""

    runtime_id: Int64
    name: str
    kind: Annotated[str, Meta(description="`worker_pool`, `server_api` or `broker`")]
    uri: str | None
    status: str
    labels: Any
    capabilities: Any
    capacity: Int32 | None
    runtime: Any
    heartbeat: Moment | None
    created_at: Moment | None
    updated_at: Moment | None


class Done(Struct):
    """It is done."""

    status: Literal["ok"]
    message: str


class ServerShard(Struct):
    """Which shard this server is."""

    shard_index: Count
    shard_count: Count


class ShardInfo(Struct):
    """The shard of an execution: XXH64 of its id, seed 0, modulo the number of shards."""

    execution_id: Int64
    shard_count: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    shard_index: Annotated[int, Meta(ge=0, lt=MAX_SHARDS)]
    source: Literal["noetl-server"]
    hash_function: Literal["twox_hash::XxHash64"]
    seed: Literal[0]
    server_config: ServerShard


_KEY: dict[str, str | dict[str, Any]] = {
    "": never_both("kind", "component_type"),
    "name": {"maxLength": 1000, "description": "Name of the runtime"},
    "kind": "`worker_pool` (default), `server_api` or `broker`",
    "component_type": "Another name of `kind`",
}
_UNKNOWN = "Runtime not found: worker_pool nope"

WORKERS = Tag(
    "Workers",
    "What workers call: events in, commands out, and the registry. Everything answered with 2xx is committed.",
    (
        Operation(
            method="POST",
            route="/api/events",
            summary="Send an event",
            text="Commits an event of an execution together with its consequences: commands, further events, the end. "
            "Values under names that look like secrets are redacted. An event whose `event_id` is stored already is "
            "answered like the first and has no second effect.",
            body=Body(
                (EventRequest,),
                {
                    **EVENT_MEMBERS,
                    "execution_id": DIGITS,
                    "worker_id": "Goes to `meta`",
                    "result_kind": "`data` (default), or what is kept instead of the payload: `ref` (`result_uri`) or "
                    "`refs` (`event_ids`)",
                    "result_uri": "Where the result is",
                    "event_ids": "Events that have the parts of the result",
                },
            ),
            answers=(Answer(IngestedEvent, "Committed"),),
            refusals={
                404: ("Execution not found: 5555",),
                409: ("Event 383263798816944128 already exists",),
                422: ("Invalid execution_id", "Invalid event_id: x", "step must not be longer than 1000 bytes"),
            },
        ),
        Operation(
            method="POST",
            route="/api/events/batch",
            summary="Send events",
            text="Commits events of one execution together, in the order given. Only an item with `actionable: true` "
            "lets the workflow go on. An empty list is answered without looking at the execution.",
            body=Body(
                (BatchRequest,),
                {
                    "execution_id": "A number or digits; not looked at without events",
                    "worker_id": "Goes to the `meta` of all",
                    **{f"EventItem.{name}": said for name, said in EVENT_MEMBERS.items()},
                },
            ),
            answers=(Answer(IngestedEvents, "Committed"),),
            refusals={
                404: ("Execution not found: 5555",),
                409: ("Event 383263798816944128 already exists",),
                422: ("Invalid execution_id", "events[0].step must not be longer than 1000 bytes"),
            },
        ),
        Operation(
            method="GET",
            route="/api/commands/{event_id}",
            summary="Get a command",
            text="The command as it was issued, whatever has become of it.",
            answers=(Answer(Command, "The command"),),
            refusals={404: ("command.issued event not found: 5555",)},
        ),
        Operation(
            method="POST",
            route="/api/commands/{event_id}/claim",
            summary="Claim a command",
            text="Gives the command to the worker, who may claim it again. 409 tells a worker to drop the "
            "notification: another one has the command, it is done, or its execution is cancelled; so does an "
            "unknown command that is claimed over and over.",
            body=Body((ClaimRequest,), {"worker_id": "Who claims"}),
            answers=(Answer(WorkOrder, "The command is the worker's"),),
            refusals={
                404: ("command.issued event not found: 5555",),
                409: (
                    "Command already claimed by worker-1",
                    "Command already reached terminal state",
                    "Execution has been cancelled",
                ),
                422: ("worker_id must not contain U+0000",),
            },
        ),
        Operation(
            method="POST",
            route="/api/worker/pool/register",
            summary="Register a runtime",
            text="Inserts or overwrites the runtime of this kind and name.",
            body=Body(
                (RuntimeRegisterRequest,),
                {
                    **_KEY,
                    "kind": {"enum": sorted(KINDS), "description": "`worker_pool` by default"},
                    "component_type": {"enum": sorted(KINDS), "description": "Another name of `kind`"},
                    "uri": "Where it can be reached",
                    "status": "`active` by default",
                    "runtime": "Anything else; `worker_public_key` in it is what credentials are sealed to",
                    "hostname": "Accepted and not stored",
                },
            ),
            answers=(Answer(Runtime, "Its row"),),
            refusals={422: ("Invalid runtime kind: bogus", "name must not be longer than 1000 bytes")},
        ),
        Operation(
            method="POST",
            route="/api/worker/pool/heartbeat",
            summary="Tell that a runtime lives",
            text="An unknown runtime is registered if its `registration` comes along. The commands of a worker that "
            "stays silent go to others.",
            body=Body((HeartbeatRequest,), {**_KEY, "registration": "What `register` would be told"}),
            answers=(Answer(Done, "Recorded"),),
            refusals={404: (_UNKNOWN,), 422: ("Invalid runtime kind: bogus", "name must not contain U+0000")},
        ),
        *(
            Operation(
                method=method,
                route="/api/worker/pool/deregister",
                summary=summary,
                text="Deletes its row. Workers send POST.",
                body=Body((RuntimeKey,), _KEY),
                answers=(Answer(Done, "Deleted"),),
                refusals={404: (_UNKNOWN,), 422: ("name must not contain U+0000",)},
            )
            for method, summary in (("DELETE", "Deregister a runtime"), ("POST", "Deregister a worker"))
        ),
        Operation(
            method="GET",
            route="/api/worker/pools",
            summary="List runtimes",
            text="Runtimes of a kind, by name.",
            parameters=(
                Parameter("kind", str, "`worker_pool` by default"),
                Parameter("status", str, "Only those with this status"),
                Parameter("name", str, "Only the one with this name"),
            ),
            answers=(Answer(list[Runtime], "The runtimes"),),
            refusals={422: ("name must not contain U+0000",)},
        ),
        Operation(
            method="GET",
            route="/api/runtime/shard-info",
            summary="Shard of an execution",
            text="Pure arithmetic, by which gateways check that theirs is the same.",
            parameters=(
                Parameter("execution_id", Int64, "Id of the execution", required=True),
                Parameter("shard_count", Annotated[int, Meta(ge=1, le=MAX_SHARDS)], "Number of shards", required=True),
            ),
            answers=(Answer(ShardInfo, "The shard"),),
            bare_refusals={
                400: (
                    'execution_id "abc" is not a valid i64',
                    "shard_count must be >= 1",
                    "shard_count 1025 exceeds practical maximum 1024",
                )
            },
            database=False,
        ),
    ),
)
