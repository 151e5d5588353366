"""Describes the routes of `noetl.http.results`, `noetl.http.variables` and `noetl.http.replay`: an execution's data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from noetl.engine.replay import PROJECTIONS, ReplayState
from noetl.http.openapi.description import Answer, AnyId, Body, Count, Int64, Moment, Operation, Parameter, Tag
from noetl.http.results import PutRequest
from noetl.http.variables import SetRequest
from noetl.store.variables import TYPES

WorkersMap = Annotated[
    dict[str, Any],
    Meta(
        description="From names to values, as workers send it",
        extra_json_schema={"not": {"required": ["variables"]}, "propertyNames": {"minLength": 1}},
    ),
]
VariableType = Literal["user_defined", "step_result", "computed", "iterator_state"]


class StoredResult(Struct):
    """Where the result is; `bytes` and `sha256` are those of its canonical JSON."""

    ref: Annotated[
        str, Meta(pattern="^noetl://execution/", extra_json_schema={"examples": ["noetl://execution/1/result/step/2"]})
    ]
    store: Literal["db"]
    scope: str
    bytes: Count
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    expires_at: Moment | None


class Variable(Struct):
    """A variable of an execution."""

    var_name: str
    var_type: VariableType
    var_value: Any
    source_step: str | None
    created_at: Moment
    accessed_at: Moment
    access_count: Count


class VariablesSet(Struct):
    """How many were set."""

    execution_id: AnyId
    status: Literal["ok"]
    variables_set: Count


class VariablesDeleted(Struct):
    """How many were deleted."""

    execution_id: AnyId
    status: Literal["ok"]
    variables_deleted: Count


class VariableDeleted(Struct):
    """Which one was deleted."""

    execution_id: AnyId
    var_name: str
    status: Literal["deleted"]


_NO_VARIABLE = "Variable not found: nope for execution 42"
_NUL = "var_name must not contain U+0000"

RESULTS = Tag(
    "Results",
    "Results that are too large for an event.",
    (
        Operation(
            method="PUT",
            route="/api/result/{execution_id}",
            summary="Store a result",
            text="Every call makes a new result under a new reference. Bodies up to 64 MiB "
            "(`NOETL_RESULT_MAX_BYTES`); large ones wait for their turn.",
            body=Body(
                (PutRequest,),
                {
                    "name": {"minLength": 1, "description": "Usually the name of the step"},
                    "data": "The result: any JSON",
                    "source_step": "Kept with it",
                    "store": "Without effect",
                    "ttl": "Without effect",
                    "compress": "Without effect",
                },
            ),
            answers=(Answer(StoredResult, "Stored", links={"Fetch a result": {"ref": "/ref"}}),),
            refusals={422: ("name must not be empty", "data must not contain U+0000")},
        ),
        Operation(
            method="GET",
            route="/api/result/resolve",
            summary="Fetch a result",
            text="The stored value itself, streamed.",
            parameters=(
                Parameter(
                    "ref", str, "`noetl://execution/<execution id>/result/<name>/<result id>`, percent-encoded", True
                ),
            ),
            answers=(Answer(Any, "The value: any JSON"),),
            bare_refusals={
                400: (
                    "URI must start with 'noetl://', got: \"http://x\"",
                    "URI must have 5 path segments after 'noetl://', got 3: \"noetl://execution/1/result\"",
                ),
                404: ("result not found",),
            },
        ),
    ),
)

VARIABLES = Tag(
    "Variables",
    "Small values that the steps of an execution share.",
    (
        Operation(
            method="GET",
            route="/api/vars/{execution_id}",
            summary="List variables",
            text="By name; not counted as accesses.",
            answers=(Answer(list[Variable], "The variables"),),
        ),
        Operation(
            method="POST",
            route="/api/vars/{execution_id}",
            summary="Set variables",
            text='Sets all, or none if one is wrong. Instead of `{"variables": [...]}` the body may be a map from '
            "names to values.",
            body=Body(
                (SetRequest, WorkersMap),
                {
                    "variables": "A list of variables, or a map from names to values",
                    "GivenVariable.var_name": {"minLength": 1},
                    "GivenVariable.var_type": {"enum": list(TYPES), "description": "Origin of the value"},
                },
            ),
            answers=(Answer(VariablesSet, "Set"),),
            refusals={422: ("Invalid var_type: bogus", "var_name must not be empty", _NUL)},
            ids=True,
        ),
        Operation(
            method="DELETE",
            route="/api/vars/{execution_id}",
            summary="Delete all variables",
            answers=(Answer(VariablesDeleted, "Deleted"),),
            ids=True,
        ),
        Operation(
            method="GET",
            route="/api/vars/{execution_id}/{var_name}",
            summary="Get a variable",
            text="Counts the access; the answer has the new count.",
            answers=(Answer(Variable, "The variable"),),
            refusals={404: (_NO_VARIABLE,), 422: (_NUL,)},
        ),
        Operation(
            method="DELETE",
            route="/api/vars/{execution_id}/{var_name}",
            summary="Delete a variable",
            answers=(Answer(VariableDeleted, "Deleted"),),
            refusals={404: (_NO_VARIABLE,), 422: (_NUL,)},
            ids=True,
        ),
    ),
)

REPLAY = Tag(
    "Replay",
    "The state of an execution, rebuilt from nothing but its events.",
    (
        Operation(
            method="GET",
            route="/api/replay/state",
            summary="Replay an execution",
            text="Folds the log, or its part up to one of the three cutoffs. Ids are always numbers, because the "
            "checksums are computed over the answer. An execution without events has an empty state.",
            parameters=(
                Parameter("execution_id", Int64, "Id of the execution", required=True),
                Parameter("tenant_id", str, "Goes into the answer; `default` by default"),
                Parameter("organization_id", str, "Goes into the answer; `default` by default"),
                Parameter("as_of_event_id", Int64, "Only events up to this id"),
                Parameter("as_of_position", Int64, "Another name of `as_of_event_id`"),
                Parameter("as_of_time", Moment, "Only events up to this time: RFC 3339 with a zone"),
                Parameter("projection", Literal[PROJECTIONS], "Goes into the answer; `all` by default"),
                Parameter("limit", Int64, "At most so many events, 10000 by default, 1 to 100000"),
                Parameter("resolve_payloads", bool, "Without effect"),
            ),
            answers=(
                Answer(
                    ReplayState,
                    "The state",
                    headers={"X-Replay-Truncated": "`true` when there are more events than `limit`"},
                ),
            ),
            refusals={
                400: (
                    "Use only one replay cutoff: as_of_event_id, as_of_position, or as_of_time",
                    'unknown projection "bogus"; expected one of: execution, stage, frame, command, business_object, '
                    "loop, all",
                )
            },
        ),
    ),
)
