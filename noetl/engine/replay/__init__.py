"""Replay: the state of an execution, rebuilt from nothing but its events (spec 15).

`ReplayFold` takes events page by page; `replay` does it in one go. Both give a `ReplayState` with its checksums.
"""

from __future__ import annotations

from noetl.engine.replay.events import ReplayEvent
from noetl.engine.replay.fold import ReplayFold, ReplayIdentity, SnapshotSeed, replay
from noetl.engine.replay.serialization import dump_state, load_state, state_parts
from noetl.engine.replay.state import PROJECTIONS, ReplayState

__all__ = [
    "PROJECTIONS",
    "ReplayEvent",
    "ReplayFold",
    "ReplayIdentity",
    "ReplayState",
    "SnapshotSeed",
    "dump_state",
    "load_state",
    "replay",
    "state_parts",
]
