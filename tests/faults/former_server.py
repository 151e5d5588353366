"""The server as it was before migration 021, as far as it and the database have to do with each other.

It knows the migrations up to 020, and appends with the three functions that `ledger_append_4` has replaced, chosen as
that version chose them. `tests.faults.upgrade` runs a real older version.

python -m tests.faults.former_server serve
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import noetl.store.migrations as migrations
from noetl.cli import main
from noetl.engine.events import START, TERMINAL
from noetl.ledger import shard
from noetl.store.ledger import BatchRows, LedgerStore
from tests.faults.changed_server import ChangedServerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

NEWEST: Final = 20
_TYPE: Final = 6
_COMMAND: Final = 16
"""Places in the row of an event."""
_LATEST_EVENT: Final = 6
"""Place in an update of a command."""
_MANY_COMMANDS: Final = 64


class FormerServerProcess(ChangedServerProcess):
    """Starts the server by this module."""

    module = "tests.faults.former_server"


class _FormerStore(LedgerStore):
    def __init__(self, schema: str, generic_plans: str = "") -> None:
        super().__init__(schema, generic_plans)
        self._newest = self._append

    async def append(self, connection: Any, held: Sequence[tuple[int, int]], rows: BatchRows) -> dict[int, int]:
        self._append = self._newest.replace("ledger_append_4", f"ledger_append_{_variant(rows)}")
        return await super().append(connection, held, rows)


def _variant(rows: BatchRows) -> int:
    if any(event[_TYPE] in START | TERMINAL for event in rows.events):
        return 3
    is_large = sum(event[_COMMAND] is not None for event in rows.events) > _MANY_COMMANDS
    if is_large and all(update[_LATEST_EVENT] is not None for update in rows.updates):
        return 1
    return 2


if __name__ == "__main__":
    known = tuple(migration for migration in migrations.load_migrations() if migration.version <= NEWEST)
    setattr(migrations, "load_migrations", lambda: known)  # noqa: B010 (of other modules)
    setattr(shard, "LedgerStore", _FormerStore)  # noqa: B010
    main()
