"""Lines to a stream from a thread of its own, so that the event loop never waits for a slow reader."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class BinaryStream(Protocol):
    """Where lines go."""

    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> object: ...


class LineWriter:
    """A bounded queue of lines and the thread that empties it.

    Unimportant lines are dropped from half of the capacity on, all lines when it is full; the writer says how many.

    Args:
        stream: Where the lines go.
        capacity: Lines that may wait.
        dropped_line: Makes the line that reports a number of dropped lines.
    """

    def __init__(self, stream: BinaryStream, capacity: int, dropped_line: Callable[[int], bytes]) -> None:
        self._stream = stream
        self._capacity = capacity
        self._dropped_line = dropped_line
        self._lines: deque[bytes] = deque()
        self._wakeup = threading.Event()
        self._closing = False
        self._reported = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, important: bool) -> None:
        """Queue a line, which ends with a newline; never blocks."""
        waiting = len(self._lines)
        if waiting >= self._capacity or (not important and 2 * waiting >= self._capacity):
            self.dropped += 1
            return
        self._lines.append(line)
        self._wakeup.set()

    def close(self, timeout_seconds: float) -> None:
        """Write what waits, for at most ``timeout_seconds``, and end the thread."""
        self._closing = True
        self._wakeup.set()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            self._wakeup.wait()
            self._wakeup.clear()
            closing = self._closing
            while self._lines:
                self._write(self._take())
            if closing:
                return

    def _take(self) -> bytes:
        lines = [self._lines.popleft() for _ in range(min(len(self._lines), 1000))]
        lost = self.dropped - self._reported
        if lost:
            self._reported += lost
            lines.append(self._dropped_line(lost))
        return b"".join(lines)

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except (OSError, ValueError):
            # The reader is gone (closed pipe or stream). The server's work does not depend on its log.
            self.dropped += data.count(b"\n")
            self._reported = self.dropped
