"""What a provider of secrets is, and the errors of all of them."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from noetl.config.secret import Secret
from noetl.errors import NoetlError


class ProviderError(NoetlError):
    """The service behind a provider did not answer as it should (502)."""

    status = 502


class SecretValue(msgspec.Struct, frozen=True):
    """A secret as text; ``expires_at`` (aware) when its issuer lets it end, ``version`` as the service calls it."""

    text: Secret[str]
    expires_at: datetime | None = None
    version: str = ""


class SecretProvider(Protocol):
    """Reads secrets of one service, or has it issue tokens."""

    async def fetch(self, reference: str, region: str) -> SecretValue:
        """The secret that ``reference`` names in the grammar of the provider; ``region`` may be empty.

        Raises:
            InternalError: the reference is invalid (no request was made) or a setting is missing.
            ProviderError, InternalError: the service refused or cannot be reached; the message holds no secret.
        """
        ...
