"""What clients were told: the operations that a server acknowledged, kept in memory or in a file that survives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class History:
    """Acknowledged operations of one or several clients.

    With a ``file``, each is also written there at once, for a client that may be killed.
    """

    events: set[tuple[int, int]] = field(default_factory=set)
    """Execution id and event id of the events that were answered with 200."""
    claims: set[tuple[int, int, str]] = field(default_factory=set)
    """Execution id, event id of the command and worker of the claims that were answered with 200."""
    starts: set[tuple[str, int]] = field(default_factory=set)
    """Idempotency key and execution id."""
    cancels: set[int] = field(default_factory=set)
    refusals: list[tuple[int, str, Any]] = field(default_factory=list)
    """Status, what was asked, and the answer, where a client that is in the right was refused."""
    file: IO[bytes] | None = None

    def stored(self, execution_id: int, event_id: int) -> None:
        """An event was taken."""
        self.events.add((execution_id, event_id))
        self._write("stored", execution_id, event_id)

    def claimed(self, execution_id: int, event_id: int, worker_id: str) -> None:
        """A worker was given a command."""
        self.claims.add((execution_id, event_id, worker_id))
        self._write("claimed", execution_id, event_id, worker_id)

    def started(self, key: str, execution_id: int) -> None:
        """An execution was started under an idempotency key."""
        self.starts.add((key, execution_id))
        self._write("started", key, execution_id)

    def cancelled(self, execution_id: int) -> None:
        """An execution was cancelled."""
        self.cancels.add(execution_id)
        self._write("cancelled", execution_id)

    def refused(self, status: int, what: str, answer: Any) -> None:
        """A request was refused for good."""
        self.refusals.append((status, what, answer))
        self._write("refused", status, what, str(answer))

    def read(self, path: Path, begin: int = 0) -> int:
        """Add what another process wrote from ``begin`` on; returns where its next line begins.

        The last line may be half a line, of a process that is killed or still writing.
        """
        if not path.exists():
            return begin
        with path.open("rb") as file:
            file.seek(begin)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            name, *values = orjson.loads(line)
            getattr(self, name)(*values)
        return begin + len(whole)

    def _write(self, *values: Any) -> None:
        if self.file is not None:
            self.file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))
            self.file.flush()
