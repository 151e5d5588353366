"""The local worker's view of the server: its client, and the delivery of events that must not be lost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from noetl.client import ApiError, NoetlClient

RETRIES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses between the attempts to deliver one event. The real worker stops after the third (spec 20, section 6.7); a
server that restarts takes longer, and a command whose end is not reported looks like one that still runs."""


class ControlPlane(NoetlClient):
    """Requests of a worker to one server."""

    async def deliver(self, event: dict[str, Any]) -> None:
        """Post one event, again with the same id if the answer is lost or says so.

        Raises:
            ApiError, OSError: not even the last attempt succeeded.
        """
        for pause in (*RETRIES, None):
            try:
                await self.call("POST", "/api/events", event)
            except (ApiError, OSError):
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return
