"""The fold: takes events in order of their ids and rebuilds the state (spec 15, section 4).

This fold and `noetl.engine.state` answer different questions. That one decides what an execution does next and
follows the server's own events; this one shows what a log says, event for event as the reference server reads it,
so that checksums over the result are comparable between servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from msgspec import UNSET, Raw

from noetl.engine.replay.canonical import UnreadableJsonError, canonical, integer_of
from noetl.engine.replay.events import (
    business_object_of,
    command_of,
    frame_of,
    loop_of,
    meta_integer,
    meta_of,
    meta_text,
    payload_of,
    stage_of,
)
from noetl.engine.replay.serialization import copy_state, settle
from noetl.engine.replay.state import (
    UNKNOWN,
    BusinessObjectEntry,
    CommandEntry,
    FrameEntry,
    LoopEntry,
    PayloadSummary,
    ReplaySnapshot,
    ReplayState,
    StageEntry,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from noetl.engine.replay.events import BusinessObjectName, Meta, ReplayEvent
    from noetl.engine.replay.state import PayloadEntry

_ENDED: Final = {
    "playbook.completed": "COMPLETED",
    "playbook_completed": "COMPLETED",
    "playbook.failed": "FAILED",
    "playbook_failed": "FAILED",
    "playbook.cancelled": "CANCELLED",
    "playbook_cancelled": "CANCELLED",
}
_STEP_ENTERED: Final = frozenset({"step.enter", "step_enter", "step_started"})
_STEP_LEFT: Final = frozenset({"step.exit", "step_completed", "command.completed"})
_COMMAND_STATUS: Final = {
    "command.issued": "PENDING",
    "command.claimed": "CLAIMED",
    "command.started": "RUNNING",
    "command.completed": "COMPLETED",
    "command.failed": "FAILED",
    "command.cancelled": "CANCELLED",
}
_FRAME_ENDED: Final = {"frame.committed": "COMPLETED", "frame.failed": "FAILED"}
_LOOP_DONE: Final = frozenset({"command.completed", "loop.shard.done"})
_LOOP_FAILED: Final = frozenset({"command.failed", "loop.shard.failed"})
_LOOP_COMPLETED: Final = frozenset({"loop.done", "loop.fanin.completed"})
_STAGE_COUNTERS: Final = ("frame_count", "row_count", "events_emitted", "failed_count")


class ReplayIdentity(NamedTuple):
    """What a replay is of; echoed in the state, and so part of its checksum."""

    execution_id: int
    tenant_id: str = "default"
    organization_id: str = "default"
    projection: str = "all"


class SnapshotSeed(NamedTuple):
    """A stored snapshot. It is named in the state, its ``state`` is seeded by passing it as the base state.

    ``checksum`` and ``meta`` are any JSON values, decoded.
    """

    aggregate_id: str
    aggregate_type: str
    version: int
    checksum: Any
    state: Any
    meta: Any


class ReplayFold:
    """A replay in progress: `extend` it with events in order of their ids, then run `settle` to the end.

    Args:
        identity: what is replayed; overwrites that of the base state.
        base_state: an earlier result, copied, that the fold goes on from. Only newer events may follow; this is not
            checked.
        snapshot_seed: named in the state as its origin.
        upcaster_registry_digest: noted in the state; without it that of the base state stays.
    """

    def __init__(
        self,
        identity: ReplayIdentity,
        *,
        base_state: ReplayState | None = None,
        snapshot_seed: SnapshotSeed | None = None,
        upcaster_registry_digest: str | None = None,
    ) -> None:
        execution_id, tenant_id, organization_id, projection = identity
        if base_state is None:
            state = ReplayState(tenant_id, organization_id, execution_id, projection)
        else:
            state = copy_state(base_state)
            state.tenant_id, state.organization_id = tenant_id, organization_id
            state.execution_id, state.projection = execution_id, projection
        if snapshot_seed is not None:
            state.replay_snapshot = ReplaySnapshot(
                aggregate_id=snapshot_seed.aggregate_id,
                aggregate_type=snapshot_seed.aggregate_type,
                version=snapshot_seed.version,
                checksum=Raw(canonical(snapshot_seed.checksum)),
                meta=Raw(canonical(snapshot_seed.meta)),
            )
        if upcaster_registry_digest is not None:
            state.upcaster_registry_digest = upcaster_registry_digest
        self.state: Final = state

    def extend(self, events: Iterable[ReplayEvent]) -> None:
        """Take the next events, in ascending order of their ids.

        Raises:
            UnreadableJsonError: an event holds JSON that is beyond doubles or nested too deeply; the fold is of no
                more use then.
        """
        for event in events:
            try:
                self._apply(event)
            except UnreadableJsonError as error:
                raise UnreadableJsonError(f"Event {event.event_id} cannot be replayed", detail=error.detail) from error

    def settle(self) -> Iterator[None]:
        """Sort the maps and compute the checksums, a millisecond of work between two steps of the iterator.

        The state is complete when the iterator is exhausted.
        """
        return settle(self.state)

    def _apply(self, event: ReplayEvent) -> None:
        state = self.state
        state.event_count += 1
        state.last_event_id = event.event_id
        state.last_event_type = event.event_type
        self._follow_execution(event)
        meta = meta_of(event)
        payload = payload_of(event)
        if not meta and event.aggregate_type is None:
            # Most of a long log: no id can come from anywhere but the columns.
            stage_id, frame_id, loop_id, named = event.stage_id, event.frame_id, None, None
        else:
            stage_id, frame_id, loop_id = stage_of(event, meta), frame_of(event, meta), loop_of(meta)
            named = business_object_of(event, meta)
        command_id = command_of(event, meta)
        if stage_id is not None:
            self._follow_stage(event, meta, stage_id, loop_id)
        if frame_id is not None:
            self._follow_frame(event, meta, frame_id, stage_id, command_id, payload)
        if command_id is not None:
            self._follow_command(event, meta, command_id, stage_id, frame_id)
        if loop_id is not None:
            self._follow_loop(event, meta, loop_id)
        if named is not None:
            self._follow_business_object(event, meta, named, payload)
        if payload is not None:
            state.execution.payload_refs.append(payload)

    def _follow_execution(self, event: ReplayEvent) -> None:
        execution, event_type = self.state.execution, event.event_type
        ended = _ENDED.get(event_type)
        if ended is not None:
            execution.status = ended
            return
        entered = event_type in _STEP_ENTERED
        if entered and execution.status == UNKNOWN:
            execution.status = "RUNNING"
        if event.node_name is not None and (entered or event_type in _STEP_LEFT):
            execution.last_node_name = event.node_name

    def _follow_stage(self, event: ReplayEvent, meta: Meta, stage_id: str, loop_id: str | None) -> None:
        stage = self.state.stages.get(stage_id)
        if stage is None:
            stage = self.state.stages[stage_id] = StageEntry(stage_id)
            stage.kind = _present(meta_text(meta, "kind"))
            stage.step_name = _present(meta_text(meta, "step_name") if event.node_name is None else event.node_name)
        stage.last_event_id = event.event_id
        parent = meta_text(meta, "parent_stage_id")
        if parent is not None:
            stage.parent_stage_id = parent
        if loop_id is not None:
            stage.loop_event_id = loop_id
        if event.event_type == "stage.opened":
            stage.status, stage.opened_event_id = "OPEN", event.event_id
        elif event.event_type == "stage.closed":
            stage.status, stage.closed_event_id = event.status or "CLOSED", event.event_id
            for counter in _STAGE_COUNTERS:
                count = meta_integer(meta, counter)
                if count is not None:
                    setattr(stage, counter, count)
        elif event.status:
            stage.status = event.status

    def _follow_frame(
        self,
        event: ReplayEvent,
        meta: Meta,
        frame_id: str,
        stage_id: str | None,
        command_id: str | None,
        payload: PayloadEntry | None,
    ) -> None:
        frame = self.state.frames.get(frame_id)
        if frame is None:
            frame = self.state.frames[frame_id] = FrameEntry(frame_id)
        frame.last_event_id = event.event_id
        if stage_id is not None:
            frame.stage_id = stage_id
        parent = meta_text(meta, "parent_frame_id")
        if parent is not None:
            frame.parent_frame_id = parent
        if command_id is not None:
            frame.command_id = command_id
        event_type = event.event_type
        ended = _FRAME_ENDED.get(event_type)
        if ended is not None:
            frame.status = event.status or ended
            rows = meta_integer(meta, "row_count")
            if rows is not None and event_type == "frame.committed":
                frame.row_count = rows
            emitted = meta_integer(meta, "events_emitted")
            if emitted is not None:
                frame.events_emitted = emitted
            frame.terminal_event_id = event.event_id
            frame.output_ref = UNSET if payload is None else payload.reference
            frame.output_ref_summary = PayloadSummary() if payload is None else payload.summary
        elif event_type == "frame.dispatched":
            frame.status, frame.claimed_event_id = "CLAIMED", event.event_id
            attempt = meta_integer(meta, "attempt")
            frame.attempts = max(frame.attempts, 1 if attempt is None else attempt)
        elif event_type == "frame.started":
            frame.status = "RUNNING"
        elif event_type == "frame.abandoned":
            frame.status = event.status or "ABANDONED"
        elif event.status:
            frame.status = event.status

    def _follow_command(
        self, event: ReplayEvent, meta: Meta, command_id: str, stage_id: str | None, frame_id: str | None
    ) -> None:
        command = self.state.commands.get(command_id)
        if command is None:
            command = self.state.commands[command_id] = CommandEntry(command_id)
        event_id, event_type = event.event_id, event.event_type
        command.last_event_id = event_id
        if stage_id is not None:
            command.stage_id = stage_id
        if frame_id is not None:
            command.frame_id = frame_id
        worker_id = event.worker_id
        if meta:
            parent = meta_text(meta, "parent_command_id")
            if parent is not None:
                command.parent_command_id = parent
            if worker_id is None:
                worker_id = meta_text(meta, "worker_id")
            locator = meta_text(meta, "worker_locator")
            if locator is not None:
                command.worker_locator = locator
        if worker_id is not None:
            command.worker_id = worker_id
        default = _COMMAND_STATUS.get(event_type)
        if default is None:
            if event.status and event_type.startswith("command."):
                command.status = event.status
            return
        command.status = event.status or default
        if default == "PENDING":
            command.issued_event_id = event_id
        elif default == "CLAIMED":
            command.claimed_event_id = event_id
        elif default == "RUNNING":
            command.started_event_id = event_id
        else:
            command.terminal_event_id = event_id

    def _follow_loop(self, event: ReplayEvent, meta: Meta, loop_id: str) -> None:
        loop = self.state.loops.get(loop_id)
        if loop is None:
            loop = self.state.loops[loop_id] = LoopEntry(loop_id, step_name=_present(event.node_name))
            total = meta_integer(meta, "collection_size")
            loop.total = _present(meta_integer(meta, "total") if total is None else total)
        loop.last_event_id = event.event_id
        if event.event_type in _LOOP_DONE:
            loop.done += 1
        elif event.event_type in _LOOP_FAILED:
            loop.failed += 1
        elif event.event_type in _LOOP_COMPLETED:
            loop.completed = True

    def _follow_business_object(
        self, event: ReplayEvent, meta: Meta, named: BusinessObjectName, payload: PayloadEntry | None
    ) -> None:
        object_type, object_id, carried = named
        key = f"{object_type}/{object_id}"
        entry = self.state.business_objects.get(key)
        if entry is None:
            entry = BusinessObjectEntry(key, object_type, object_id, first_event_id=event.event_id)
            self.state.business_objects[key] = entry
        entry.last_event_id, entry.last_event_type = event.event_id, event.event_type
        entry.event_count += 1
        version = integer_of(carried.get("version"))
        if version is None:
            version = meta_integer(meta, "business_object_version")
        entry.version = entry.event_count if version is None else version
        status = event.status or _status_by_type(event.event_type)
        if status is not None:
            entry.status = status
            if status == "DELETED":
                entry.deleted_event_id = event.event_id
        replacement = carried.get("state")
        if isinstance(replacement, dict):
            entry.attributes = _attributes(replacement)
        patch = carried["patch"] if "patch" in carried else carried.get("attributes")
        if isinstance(patch, dict):
            entry.attributes.update(_attributes(patch))
        if payload is not None:
            entry.payload_refs.append(payload)
            entry.last_payload_ref = payload


def replay(
    events: Iterable[ReplayEvent],
    identity: ReplayIdentity,
    *,
    base_state: ReplayState | None = None,
    snapshot_seed: SnapshotSeed | None = None,
    upcaster_registry_digest: str | None = None,
) -> ReplayState:
    """Replay a whole log, in any order, in one go; the arguments and errors are those of `ReplayFold`."""
    fold = ReplayFold(
        identity,
        base_state=base_state,
        snapshot_seed=snapshot_seed,
        upcaster_registry_digest=upcaster_registry_digest,
    )
    fold.extend(sorted(events, key=lambda event: event.event_id))
    for _ in fold.settle():
        pass
    return fold.state


def _present(value: Any) -> Any:
    return UNSET if value is None else value


def _attributes(members: Any) -> dict[str, Raw]:
    return {name: Raw(canonical(value)) for name, value in cast("Meta", members).items()}


def _status_by_type(event_type: str) -> str | None:
    lower = event_type.lower()
    if lower.endswith((".deleted", ".removed")):
        return "DELETED"
    if lower.endswith((".created", ".updated", ".upserted")):
        return "ACTIVE"
    return None
