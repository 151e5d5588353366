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
SPENT_PART: Final = 8
"""Entries that are hardly needed any more may have this part of the budget: one eighth."""

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

    @property
    def is_spent(self) -> bool:
        """Whether nothing but late events and repetitions can come, soon if at all: the execution has ended."""
        return self.state.terminal


class ByteBoundedCache(Generic[K, V]):
    """Least recently used entries within a byte budget; the newest entry stays even if it alone exceeds it.

    Spent entries have a part of the budget of their own, in which the one put first goes first: a process that runs
    short executions for days holds the running ones, not the last 20,000.
    """

    __slots__ = ("_entries", "_sizes", "_spent", "_spent_bytes", "budget", "bytes", "evictions", "hits", "misses")

    def __init__(self, budget: int) -> None:
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}
        self._spent: OrderedDict[K, None] = OrderedDict()
        self._spent_bytes = 0
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

    def put(self, key: K, entry: V, size: int, *, is_spent: bool = False) -> None:
        """Insert or replace, then evict spent and old entries until the budget holds."""
        self.discard(key)
        self._entries[key] = entry
        self._sizes[key] = size
        self.bytes += size
        if is_spent:
            self._spent[key] = None
            self._spent_bytes += size
            while self._spent_bytes > self.budget // SPENT_PART and len(self._spent) > 1:
                self._evict(next(iter(self._spent)))
        while self.bytes > self.budget and len(self._entries) > 1:
            self._evict(next(iter(self._entries)))

    def discard(self, key: K) -> None:
        """Forget an entry, if it is there."""
        if self._entries.pop(key, None) is None:
            return
        size = self._sizes.pop(key)
        self.bytes -= size
        if key in self._spent:
            del self._spent[key]
            self._spent_bytes -= size

    def _evict(self, key: K) -> None:
        self.discard(key)
        self.evictions += 1
