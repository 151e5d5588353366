"""Keeping partitions of the event log ahead of the clock."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from noetl.store.database import RefusedStatementError
from noetl.store.partitions import is_not_owner

if TYPE_CHECKING:
    from noetl.store.partitions import PartitionStore

log = logging.getLogger("noetl.runtime")


async def make_partitions(store: PartitionStore) -> None:
    """Make what the coming year needs; a role that may not is told who has to, once for each call."""
    try:
        made = await store.make_ahead(datetime.now(UTC))
    except RefusedStatementError as error:
        if not is_not_owner(error):
            raise
        log.warning(
            "The event log lacks partitions for the coming year; run noetl-server db upgrade as the owner of its table",
            extra={"error": error.detail or ""},
        )
    else:
        if made:
            log.info("Made partitions of the event log", extra={"partitions": made})
