"""The local worker's view of the server: its client, and the delivery of events that must not be lost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from noetl.client import NoetlClient, NoetlClientError

RETRIES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
"""Pauses between the attempts to deliver one event. The real worker stops after the third (spec 20, section 6.7); a
server that restarts takes longer, and a command whose end is not reported looks like one that still runs."""


class ControlPlane(NoetlClient):
    """Requests of a worker to one server."""

    async def claim(self, event_id: Any, worker_id: str) -> dict[str, Any]:
        """Claim the command that this event announced; returns the work order."""
        return await self.call("POST", f"/api/commands/{event_id}/claim", {"worker_id": worker_id})

    async def deliver(self, event: dict[str, Any]) -> None:
        """Post one event, again with the same id if the answer is lost or says so.

        Raises:
            NoetlClientError: not even the last attempt succeeded.
        """
        for pause in (*RETRIES, None):
            try:
                await self.call("POST", "/api/events", event)
            except NoetlClientError:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
            else:
                return
