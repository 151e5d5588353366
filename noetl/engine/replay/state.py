"""The rebuilt state: what each projection knows, in the order of the answer (spec 15, section 5).

Members that are UNSET are absent in JSON, never null. Free-form JSON is kept as its canonical text (``msgspec.Raw``),
which takes a fraction of the memory of decoded values and is hashed and sent as it is.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Raw, Struct, UnsetType, field

UNKNOWN: Final = "UNKNOWN"

PROJECTIONS: Final = ("execution", "stage", "frame", "command", "business_object", "loop", "all")
"""The legal names of a projection, in the order in which the error message lists them."""


class Checksum(Struct, kw_only=True):
    """A digest over canonical JSON; ``value`` is 64 lower-case hexadecimal digits."""

    type: str = "sha256"
    value: str


class PayloadSummary(Struct, gc=False):
    """What a payload reference says about its payload."""

    sha256: str | UnsetType = UNSET
    schema_digest: str | UnsetType = UNSET
    row_count: int | UnsetType = UNSET
    media_type: str | UnsetType = UNSET
    ref: str | UnsetType = UNSET


class PayloadEntry(Struct, gc=False):
    """A reference to a payload outside the log, and the event that brought it."""

    event_id: int
    reference: Raw
    summary: PayloadSummary


class ExecutionEntry(Struct):
    """The execution as a whole."""

    status: str = UNKNOWN
    last_node_name: str | UnsetType = UNSET
    payload_refs: list[PayloadEntry] = field(default_factory=list[PayloadEntry])


class StageEntry(Struct, gc=False):
    """A stage: a step that fans out."""

    stage_id: str
    status: str = UNKNOWN
    kind: str | UnsetType = UNSET
    step_name: str | UnsetType = UNSET
    parent_stage_id: str | UnsetType = UNSET
    loop_event_id: str | UnsetType = UNSET
    opened_event_id: int | UnsetType = UNSET
    closed_event_id: int | UnsetType = UNSET
    frame_count: int = 0
    row_count: int = 0
    events_emitted: int = 0
    failed_count: int = 0
    last_event_id: int | UnsetType = UNSET


class FrameEntry(Struct, gc=False):
    """A frame: one portion of the rows of a stage."""

    frame_id: str
    stage_id: str | UnsetType = UNSET
    parent_frame_id: str | UnsetType = UNSET
    command_id: str | UnsetType = UNSET
    claimed_event_id: int | UnsetType = UNSET
    terminal_event_id: int | UnsetType = UNSET
    status: str = UNKNOWN
    row_count: int = 0
    attempts: int = 0
    last_event_id: int | UnsetType = UNSET
    events_emitted: int = 0
    output_ref: Raw | UnsetType = UNSET
    output_ref_summary: PayloadSummary | UnsetType = UNSET


class CommandEntry(Struct, gc=False):
    """A command: one call of a tool."""

    command_id: str
    stage_id: str | UnsetType = UNSET
    frame_id: str | UnsetType = UNSET
    parent_command_id: str | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    worker_locator: str | UnsetType = UNSET
    status: str = UNKNOWN
    issued_event_id: int | UnsetType = UNSET
    claimed_event_id: int | UnsetType = UNSET
    started_event_id: int | UnsetType = UNSET
    terminal_event_id: int | UnsetType = UNSET
    last_event_id: int | UnsetType = UNSET


class BusinessObjectEntry(Struct):
    """A thing of the user's domain whose history the log tells; ``attributes`` are canonical texts by name."""

    object_key: str
    object_type: str
    object_id: str
    status: str = UNKNOWN
    version: int = 0
    event_count: int = 0
    first_event_id: int | UnsetType = UNSET
    last_event_id: int | UnsetType = UNSET
    deleted_event_id: int | UnsetType = UNSET
    last_event_type: str | UnsetType = UNSET
    attributes: dict[str, Raw] = field(default_factory=dict[str, Raw])
    payload_refs: list[PayloadEntry] = field(default_factory=list[PayloadEntry])
    last_payload_ref: PayloadEntry | UnsetType = UNSET


class LoopEntry(Struct, gc=False):
    """A loop over a collection of ``total`` elements."""

    loop_id: str
    step_name: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    done: int = 0
    failed: int = 0
    completed: bool = False
    last_event_id: int | UnsetType = UNSET


class ReplaySnapshot(Struct):
    """The snapshot that a replay names as its origin; ``checksum`` and ``meta`` are canonical texts."""

    aggregate_id: str
    aggregate_type: str
    version: int
    checksum: Raw
    meta: Raw


class ReplayState(Struct):
    """The state of one execution after its first ``event_count`` events."""

    tenant_id: str
    organization_id: str
    execution_id: int
    projection: str
    event_count: int = 0
    last_event_id: int | UnsetType = UNSET
    last_event_type: str | UnsetType = UNSET
    execution: ExecutionEntry = field(default_factory=ExecutionEntry)
    stages: dict[str, StageEntry] = field(default_factory=dict[str, StageEntry])
    frames: dict[str, FrameEntry] = field(default_factory=dict[str, FrameEntry])
    commands: dict[str, CommandEntry] = field(default_factory=dict[str, CommandEntry])
    business_objects: dict[str, BusinessObjectEntry] = field(default_factory=dict[str, BusinessObjectEntry])
    loops: dict[str, LoopEntry] = field(default_factory=dict[str, LoopEntry])
    upcaster_registry_digest: str | UnsetType = UNSET
    replay_snapshot: ReplaySnapshot | UnsetType = UNSET
    checksum: Checksum | UnsetType = UNSET
    projection_checksums: dict[str, Checksum] | UnsetType = UNSET
