"""An access token that is fetched once and kept until it nears its end."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from noetl.secrets.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from noetl.config.secret import Secret

_ONLY: Final = ""


class TokenCache:
    """Keeps the token that ``fetch`` gives, for the seconds it gives with it; simultaneous callers share a request."""

    def __init__(
        self,
        fetch: Callable[[], Coroutine[None, None, tuple[Secret[str], float]]],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._flight: SingleFlight[str, Secret[str]] = SingleFlight()
        self._token: Secret[str] | None = None
        self._until = 0.0

    async def get(self) -> Secret[str]:
        """The token; raises what ``fetch`` raises."""
        if self._token is not None and self._clock() < self._until:
            return self._token
        return await self._flight.run(_ONLY, self._renew)

    def forget(self) -> None:
        """Fetch a new one next time, because the service does not take this one any more."""
        self._token = None

    async def _renew(self) -> Secret[str]:
        token, seconds = await self._fetch()
        self._token, self._until = token, self._clock() + seconds
        return token
