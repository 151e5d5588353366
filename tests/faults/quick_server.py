"""The server with limits below what its settings allow, so that what a round of the campaign waits for takes seconds.

python -m tests.faults.quick_server serve
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

import noetl.server
from noetl.cli import main
from noetl.runtime import shard_work
from tests.faults.changed_server import ChangedServerProcess

if TYPE_CHECKING:
    from noetl.config.settings import CommandSettings

LEASE_SECONDS: Final = 2.0
LIMITS: Final = {
    "reaper_interval_seconds": 1.0,
    "reaper_worker_stale_seconds": 3.0,
    "claim_lease_seconds": 3.0,
    "reaper_pending_retry_seconds": 2.0,
}


class QuickServerProcess(ChangedServerProcess):
    """Starts the server by this module."""

    module = "tests.faults.quick_server"


class _QuickWork(shard_work.ShardWork):
    def __init__(self, *parts: Any) -> None:
        *others, limits = parts
        quick: CommandSettings = msgspec.structs.replace(limits, **LIMITS)
        super().__init__(*others, quick)


if __name__ == "__main__":
    setattr(noetl.server, "ShardWork", _QuickWork)  # noqa: B010 (a constant of another module)
    setattr(noetl.server, "LEASE_SECONDS", LEASE_SECONDS)  # noqa: B010
    main()
