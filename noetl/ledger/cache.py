"""Execution states in memory: an LRU bounded by bytes. A miss costs a rebuild from the log, never correctness."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from noetl.engine.playbook.model import Playbook
    from noetl.engine.state import ExecutionState

RECENT_EVENTS: Final = 256
RECENT_EVENT_BYTES: Final = 160

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class ExecutionEntry:
    """A folded execution and its playbook.

    ``playbook`` is None when its text no longer parses; such an execution stores events and decides nothing.
    ``recent`` are the newest events under ids that clients chose, with a digest of their content: nearly every repeated
    delivery comes within seconds, and is recognised here without asking the database.
    """

    state: ExecutionState
    playbook: Playbook | None
    recent: OrderedDict[int, int] = field(default_factory=OrderedDict[int, int])
    is_void: bool = False
    """Touched by a transaction that was not committed: whoever still holds it must load the execution again."""

    def remember(self, event_id: int, digest: int) -> None:
        """Note an event that a client may deliver again."""
        self.recent[event_id] = digest
        if len(self.recent) > RECENT_EVENTS:
            self.recent.popitem(last=False)

    @property
    def approximate_bytes(self) -> int:
        """Size in memory."""
        return self.state.approximate_bytes + RECENT_EVENT_BYTES * len(self.recent)


class ByteBoundedCache(Generic[K, V]):
    """Least recently used entries within a byte budget; the newest entry stays even if it alone exceeds it."""

    __slots__ = ("_entries", "_sizes", "budget", "bytes", "evictions", "hits", "misses")

    def __init__(self, budget: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self.budget = budget
        self.bytes = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, which becomes the most recently used one, or None."""
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry

    def peek(self, key: K) -> V | None:
        """The entry without touching its age or the counters."""
        return self._entries.get(key)

    def put(self, key: K, entry: V, size: int) -> None:
        """Insert or replace, then evict the oldest entries until the budget holds."""
        self.bytes += size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while self.bytes > self.budget and len(self._entries) > 1:
            oldest, _ = self._entries.popitem(last=False)
            self.bytes -= self._sizes.pop(oldest)
            self.evictions += 1

    def discard(self, key: K) -> None:
        """Forget an entry, if it is there."""
        if self._entries.pop(key, None) is not None:
            self.bytes -= self._sizes.pop(key)
