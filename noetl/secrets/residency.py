"""Whether a secret of a region may be read by this server (spec 40, section 10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from noetl.secrets.resolution import ResidencyViolationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.engine.playbook.model import KeychainEntry


class ResidencyGate:
    """Decides by the entry's region and policy.

    Args:
        server_region: where this server is; empty when it was not told.
        count: told policy and decision.
    """

    def __init__(self, server_region: str, count: Callable[[str, str], None]) -> None:
        self._server_region = server_region
        self._count = count

    def region_of(self, entry: KeychainEntry) -> str:
        """The region of an entry: its own, else this server's, else empty."""
        return entry.region or self._server_region

    def check(self, entry: KeychainEntry) -> None:
        """Raises ResidencyViolationError when the policy of the entry keeps its secret away from here."""
        decision = self._decision(entry)
        self._count(entry.residency, decision)
        if decision == "violation_blocked":
            region = self.region_of(entry)
            raise ResidencyViolationError(
                f"Residency violation: credential '{entry.name}' is region-locked to '{region}';"
                f" this server is in '{self._server_region}'",
                region,
                may_broker=not entry.no_broker_fallback,
            )

    def _decision(self, entry: KeychainEntry) -> str:
        region = self.region_of(entry)
        if not region or entry.residency == "none":
            return "allowed_no_policy"
        if region == self._server_region:
            return "allowed_same_region"
        if self._server_region and self._server_region in entry.allowed_regions:
            return "allowed_in_allowlist"
        return "violation_allowed" if entry.residency == "advisory" else "violation_blocked"
