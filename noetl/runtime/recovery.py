"""Taking commands back from workers that went silent (design.md "Re-announcing and leases"; spec 70, I2, I3)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from noetl.errors import NoetlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.store.commands import CommandStore, HeldCommand

log = logging.getLogger("noetl.runtime")


class RequeueLedger(Protocol):
    """The part of the ledger that recovery needs."""

    async def requeue(
        self, execution_id: int, event_id: int, worker_id: str | None, max_attempts: int, silent_seconds: float
    ) -> str:
        """Return a command to the queue, or fail it past the limit."""
        ...


class CommandRecovery:
    """One pass returns the commands of silent workers, oldest claims first."""

    def __init__(
        self,
        commands: CommandStore,
        ledger: RequeueLedger,
        *,
        silent_seconds: float,
        unknown_worker_seconds: float,
        claim_lease_seconds: float,
        max_attempts: int,
        limit: int,
        can_judge: Callable[[float], bool],
    ) -> None:
        """``unknown_worker_seconds`` is for workers without a runtime row, whose life cannot be judged."""
        self._commands = commands
        self._ledger = ledger
        self._silent_seconds = silent_seconds
        self._unknown_worker_seconds = unknown_worker_seconds
        self._claim_lease_seconds = claim_lease_seconds
        self._max_attempts = max_attempts
        self._limit = limit
        self._can_judge = can_judge

    async def sweep(self) -> dict[str, int]:
        """Returns how many commands were ``requeued``, ``failed``, ``moot`` or met an ``error``.

        Nobody is judged until it could have been heard for the whole limit: after an outage of this server or of the
        database every heartbeat is old, and says nothing about the workers (spec 70, I3). A worker reports the start of
        a command right after its claim, so one that was claimed and not begun was given to a worker that does not know.
        """
        outcomes: dict[str, int] = {}
        if self._can_judge(self._silent_seconds):
            held = await self._commands.held_by_silent_workers(
                self._silent_seconds, self._unknown_worker_seconds, self._limit
            )
            await self._take_back(held, outcomes)
        if self._can_judge(self._claim_lease_seconds):
            held = await self._commands.claimed_but_not_begun(self._claim_lease_seconds, self._limit)
            await self._take_back(held, outcomes)
        return outcomes

    async def _take_back(self, held: list[HeldCommand], outcomes: dict[str, int]) -> None:
        for command in held:
            try:
                outcome = await self._ledger.requeue(
                    command.execution_id,
                    command.event_id,
                    command.worker_id,
                    self._max_attempts,
                    self._silent_seconds,
                )
            except NoetlError as error:
                # One that cannot be returned must not keep the others from being looked at.
                outcome = "error"
                log.warning(
                    "Command of a silent worker cannot be taken back",
                    extra={"execution_id": command.execution_id, "event_id": command.event_id, "error": error.message},
                )
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            if outcome in ("requeued", "failed"):
                log.warning(
                    "Command of a silent worker taken back",
                    extra={
                        "execution_id": command.execution_id,
                        "event_id": command.event_id,
                        "worker_id": command.worker_id,
                        "attempt": command.attempt,
                        "outcome": outcome,
                    },
                )
