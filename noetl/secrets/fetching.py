"""Secrets from providers: one request for all who want one at the same time, and a short memory of the answers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.secrets.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.secrets.providers.base import SecretValue
    from noetl.secrets.providers.registry import ProviderRegistry

KEPT_SECONDS: Final = 30.0
"""How long an answer serves further executions: long enough for a burst of them, short enough that plaintext does not
stay and that a changed secret is soon seen."""
PURGE_SECONDS: Final = 5.0
"""Between two looks for answers that have ended, whose plaintext then goes."""
KEPT_SECRETS: Final = 1000
KEPT_LENGTH: Final = 16_384
"""Characters of the longest secret that is kept: with their number it bounds the memory."""


class SecretName(msgspec.Struct, frozen=True):
    """A secret: the provider by its canonical name, the region (may be empty), and the reference."""

    provider: str
    region: str
    reference: str


class SecretFetcher:
    """Asks providers.

    Args:
        providers: where secrets are.
        margin_seconds: time before its expiry at which a secret is no longer kept.
        now: the clock.
    """

    def __init__(
        self,
        providers: ProviderRegistry,
        margin_seconds: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._providers = providers
        self._margin = timedelta(seconds=margin_seconds)
        self._now = now
        self._flight: SingleFlight[SecretName, SecretValue] = SingleFlight()
        self._kept: OrderedDict[SecretName, tuple[SecretValue, datetime]] = OrderedDict()
        self._purge: asyncio.TimerHandle | None = None

    async def fetch(self, name: SecretName, *, fresh: bool = False) -> SecretValue:
        """The secret; ``fresh`` asks the provider in any case. Raises what `SecretProvider.fetch` raises."""
        known = None if fresh else self._kept.get(name)
        if known is not None and self._now() < known[1]:
            return known[0]
        provider = self._providers.get(name.provider)

        async def ask() -> SecretValue:
            value = await provider.fetch(name.reference, name.region)
            self._keep(name, value)
            return value

        return await self._flight.run(name, ask)

    def _keep(self, name: SecretName, value: SecretValue) -> None:
        now = self._now()
        until = now + timedelta(seconds=KEPT_SECONDS)
        if value.expires_at is not None:
            until = min(until, value.expires_at - self._margin)
        self._kept.pop(name, None)
        length = len(value.text.reveal())
        if until > now and length <= KEPT_LENGTH:
            if len(self._kept) >= KEPT_SECRETS:
                self._kept.popitem(last=False)
            self._kept[name] = (value, until)
            if self._purge is None:
                self._purge = asyncio.get_running_loop().call_later(PURGE_SECONDS, self._forget_ended)

    def _forget_ended(self) -> None:
        """Drop what has ended, also when nobody asks any more; again and again while something is kept."""
        now = self._now()
        for name in [name for name, (_, until) in self._kept.items() if until <= now]:
            del self._kept[name]
        self._purge = None
        if self._kept:
            self._purge = asyncio.get_running_loop().call_later(PURGE_SECONDS, self._forget_ended)
