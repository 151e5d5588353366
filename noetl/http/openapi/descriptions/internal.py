"""Describes the routes below `/api/internal/`: outbox, projection, container callback, wallet and secret audit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from noetl.http.container_callback import CallbackRequest
from noetl.http.cross_region import CrossRegionRequest
from noetl.http.openapi.description import (
    DIGITS,
    TIME,
    Answer,
    Body,
    Count,
    IdText,
    Int64,
    Moment,
    Operation,
    Parameter,
    Tag,
)
from noetl.http.outbox import FailedRequest, OutboxClaimRequest, PublishedRequest
from noetl.http.projection import ProjectRequest
from noetl.http.wallet import RotateRequest
from noetl.observability.metrics import CALLBACK_STATES
from noetl.secrets.rotation import Outcome
from noetl.secrets.sealed import SealedEnvelope
from noetl.secrets.wallet import NO_KEY
from noetl.store.secret_audit import AuditRow


class OutboxMessage(Struct):
    """A message to be published; what is NULL is left out."""

    outbox_id: Int64
    event_id: Int64
    payload_codec: str
    attempts: Annotated[int, Meta(ge=1, description="This one included")]
    payload: Any
    execution_id: Int64 | UnsetType = UNSET
    subject: str | UnsetType = UNSET


class OutboxClaim(Struct):
    """Messages that nobody else has."""

    rows: list[OutboxMessage]
    claimed: Count


class Marked(Struct):
    """How many messages were closed."""

    marked: Count


class MarkedFailed(Struct):
    """Whether the message was given back, and the pause before its next attempt in seconds."""

    marked: bool
    available_at_in: int


class PendingCount(Struct):
    """How many messages wait."""

    pending: Count


class Projected(Struct):
    """How many events were stored, and how many were there already."""

    projected: Count
    duplicates: Count


class CallbackAccepted(Struct):
    """Whether the execution is known; then the event that tells it."""

    status: Literal["accepted_in_flight", "accepted_stale"]
    event_id: IdText | UnsetType = UNSET


class SecretAudit(Struct):
    """Attempts at secrets, newest first."""

    rows: list[AuditRow]


_OPTIONAL_ID: dict[str, Any] = {
    **DIGITS,
    "pattern": r"^\s*([+-]?[0-9]+)?\s*$",
    "description": "A number or digits; a blank text is as none",
}

INTERNAL = Tag(
    "Internal",
    "For publishers, projectors, container jobs and operators. Every path below `/api/internal/`, known or not, "
    "answers 401 without the token.",
    (
        Operation(
            method="POST",
            route="/api/internal/outbox/claim",
            summary="Claim outbox messages",
            body=Body((OutboxClaimRequest,), {"limit": "1 to 1000; what is beyond is cut"}),
            answers=(Answer(OutboxClaim, "Messages"),),
            guard="always",
        ),
        Operation(
            method="POST",
            route="/api/internal/outbox/mark-published",
            summary="Acknowledge outbox messages",
            body=Body((PublishedRequest,), {"outbox_ids": {"minItems": 1, "description": "Messages that were sent"}}),
            answers=(Answer(Marked, "Closed"),),
            refusals={400: ("outbox_ids must not be empty",)},
            guard="always",
        ),
        Operation(
            method="POST",
            route="/api/internal/outbox/mark-failed",
            summary="Give an outbox message back",
            text="For another attempt after 1, 2, 4 ... 256 seconds. A published message stays published.",
            body=Body(
                (FailedRequest,),
                {
                    "error": {"minLength": 1, "description": "Why it failed; the first 2000 characters are kept"},
                    "attempts": "What the claim told",
                    "max_delay_seconds": "Longest pause",
                },
            ),
            answers=(Answer(MarkedFailed, "Given back, or not"),),
            refusals={400: ("error must not be empty",), 422: ("error must not contain U+0000",)},
            guard="always",
        ),
        Operation(
            method="GET",
            route="/api/internal/outbox/pending-count",
            summary="Count outbox messages",
            answers=(Answer(PendingCount, "The number that autoscalers watch"),),
            guard="always",
        ),
        Operation(
            method="POST",
            route="/api/internal/events/project",
            summary="Take over events",
            text="Stores events as they are, without a decision: all that are not there yet, or none.",
            body=Body(
                (ProjectRequest,),
                {
                    "events": {"minItems": 1, "description": "The events"},
                    "EventEnvelope.catalog_id": _OPTIONAL_ID,
                    "EventEnvelope.parent_execution_id": _OPTIONAL_ID,
                    "EventEnvelope.timestamp": TIME,
                    "EventEnvelope.created_at": {
                        "description": "ISO 8601, in UTC where it has no zone; not looked at beside `timestamp`",
                        "examples": ["2026-01-02T03:04:05.678"],
                    },
                    "EventEnvelope.result": {
                        "type": ["object", "null"],
                        "required": ["status"],
                        "properties": {
                            "status": {"type": "string"},
                            "reference": {"type": "object"},
                            "context": {"type": "object"},
                        },
                        "additionalProperties": False,
                    },
                },
            ),
            answers=(Answer(Projected, "Stored"),),
            refusals={
                400: ("events must not be empty",),
                422: (
                    "events[0] (event_id 11): catalog_id 5 is not in the catalog",
                    "events hold a number or text too large for the log",
                ),
            },
            guard="always",
        ),
        Operation(
            method="POST",
            route="/api/internal/container-callback/{execution_id}/{step}",
            summary="Tell how a container job ended",
            text="Stores it as the step's `call.done`. A repeated callback is answered like the first.",
            body=Body(
                (CallbackRequest,),
                {
                    "state": {"enum": list(CALLBACK_STATES), "description": "How it ended"},
                    "completed_at": {**TIME, "description": "RFC 3339 with a zone; now by default"},
                },
            ),
            answers=(Answer(CallbackAccepted, "Accepted", 202),),
            refusals={
                422: (
                    "container-callback: execution_id 'x' is not parseable as i64",
                    "step must not be longer than 1000 bytes",
                )
            },
            guard="always",
        ),
        Operation(
            method="POST",
            route="/api/internal/cross-region/resolve",
            summary="Seal a secret for another region",
            text="For servers of other regions: the credential as a JSON text, encrypted to the worker's X25519 key. "
            "There is no second hop.",
            body=Body(
                (CrossRegionRequest,),
                {
                    "alias": "Stored credential, or entry of the keychain of the execution's playbook",
                    "worker_public_key_b64": "The worker's X25519 key, standard base64",
                    "worker_id": "Goes to the audit",
                    "expected_entry_region": "Must be the region of this server",
                    "execution_id": "The execution that needs it",
                    "parent_execution_id": "Its parent",
                    "requesting_region": "Goes to the audit",
                },
            ),
            answers=(Answer(SealedEnvelope, "The sealed credential"),),
            refusals={
                400: ("cross-region: invalid worker_public_key_b64: expected 32 bytes, got 3",),
                403: (
                    "cross-region broker: this server is in region 'eu-central-1', not 'us-east-1' as the requesting "
                    "peer expected",
                ),
                404: ("Credential not found: pg_prod",),
                422: ("alias must not contain U+0000",),
                500: (NO_KEY,),
                502: ("vault: HTTP 403 Forbidden reading 'secret/app/crm': permission denied",),
            },
            guard="always",
        ),
        Operation(
            method="POST",
            route="/api/internal/wallet/rotate-kek",
            summary="Rotate the encryption key",
            text="Wraps the data keys of all rows by the current key, and touches no value. Can be repeated.",
            body=Body(
                (RotateRequest,),
                {
                    "batch_size": "100 by default",
                    "max_batches": "1000 by default; the product bounds the rows of each table",
                },
            ),
            answers=(Answer(dict[str, Outcome], "What was done, by table"),),
            refusals={500: (NO_KEY,)},
            guard="always",
        ),
        Operation(
            method="GET",
            route="/api/internal/wallet/key-status",
            summary="State of the encryption key",
            parameters=(
                Parameter("states", bool, "`true`: unwrap each row and also count by what opens it, under `states`"),
            ),
            answers=(
                Answer(
                    dict[str, dict[str, Count | dict[str, Count]]],
                    "Rows by the version of the key that guards them, by table; `states` has tables inside",
                ),
            ),
            guard="always",
        ),
        Operation(
            method="GET",
            route="/api/internal/secret-audit",
            summary="Audit of secrets",
            text="Who asked for which secret, and what came of it; the newest first. No row ever holds a value.",
            parameters=(
                Parameter("credential", str, "Only this credential"),
                Parameter("execution_id", Int64, "Only this execution"),
                Parameter("worker_id", str, "Only this worker"),
                Parameter("operation", str, "Only this operation, for example `get_sealed`"),
                Parameter("outcome", str, "Only this outcome, for example `ok`"),
                Parameter("from", Moment, "From this time on: RFC 3339 with a zone"),
                Parameter("to", Moment, "Before this time"),
                Parameter("limit", Int64, "100 by default, 1 to 10000; what is beyond is cut"),
            ),
            answers=(Answer(SecretAudit, "The rows"),),
            refusals={
                422: tuple(
                    f"{name} must not contain U+0000" for name in ("credential", "worker_id", "operation", "outcome")
                )
            },
            guard="always",
        ),
    ),
)
