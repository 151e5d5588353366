"""What answers for a credential that is not stored: a secret provider, or a server of another region (spec 40, 8, 10).

The interfaces between the routes that hand out credentials and the resolver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from noetl.errors import ForbiddenError, TemplateFailure

if TYPE_CHECKING:
    from noetl.secrets.audit import SecretAccess
    from noetl.secrets.sealed import SealedEnvelope


class ResolvedCredential(msgspec.Struct, frozen=True):
    """A value from a provider: its type for the worker, and its JSON text (compact, members sorted)."""

    type: str
    data: bytes

    def __repr__(self) -> str:
        return f"ResolvedCredential(type={self.type!r})"


class ResidencyViolationError(ForbiddenError):
    """A secret must stay in ``region``; ``may_broker`` False: not even a server there may be asked for it."""

    def __init__(self, message: str, region: str, *, may_broker: bool = True) -> None:
        super().__init__(message)
        self.region = region
        self.may_broker = may_broker


def outcome_of(error: Exception) -> str:
    """How the audit calls a resolution that ended with this error."""
    if isinstance(error, ResidencyViolationError):
        return "residency_violation"
    return "template_error" if isinstance(error, TemplateFailure) else "provider_fetch_error"


class SecretResolver(Protocol):
    """Resolves the keychain entry of an execution's playbook."""

    async def resolve(self, alias: str, execution_id: int) -> ResolvedCredential | None:
        """The value, or None when the execution or the entry does not exist.

        Raises:
            ResidencyViolationError: the secret must not come here.
            TemplateFailure: a reference cannot be rendered.
            NoetlError: the provider refuses, fails, or is not configured.
        """
        ...


class SealingBroker(Protocol):
    """Asks a server of another region to seal a secret to a worker of ours."""

    async def seal(self, access: SecretAccess, region: str, worker_public_key: str) -> SealedEnvelope | None:
        """The envelope, or None when no server is known for the region.

        Raises:
            NoetlError: the server there does not answer as it should (502).
        """
        ...
