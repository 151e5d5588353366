"""Asks the server of another region to seal a secret to a worker of ours (spec 40, section 10)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec
import orjson

from noetl.secrets.providers.base import ProviderError
from noetl.secrets.providers.files import Authorities
from noetl.secrets.providers.service import cause_of, excerpt, is_success, status_line
from noetl.secrets.sealed import SealedEnvelope

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from noetl.config.secret import Secret
    from noetl.observability.metrics import Metrics
    from noetl.secrets.audit import SecretAccess
    from noetl.secrets.web import HttpCall

PATH: Final = "/api/internal/cross-region/resolve"
_SHOWN: Final = 200
_DECODER: Final = msgspec.json.Decoder(SealedEnvelope)


class RegionBroker:
    """The servers of other regions. What is sealed there passes through unopened.

    Args:
        servers: base address by region.
        server_region: our own; empty when there is none.
        token: of the internal routes, which all regions share; None sends none.
        call: makes the request.
        timeout_seconds: its limit.
        ca_file: PEM bundle of their authorities besides those of the system; None for those only.
        metrics: told about every call.
    """

    def __init__(
        self,
        servers: Mapping[str, str],
        server_region: str,
        token: Secret[str] | None,
        call: HttpCall,
        timeout_seconds: float,
        metrics: Metrics,
        ca_file: str | None = None,
    ) -> None:
        self._servers = servers
        self._server_region = server_region
        self._token = token
        self._call = call
        self._timeout_seconds = timeout_seconds
        self._metrics = metrics
        self._ca_file = ca_file
        self._authorities = Authorities()

    async def seal(self, access: SecretAccess, region: str, worker_public_key: str) -> SealedEnvelope | None:
        """See `SealingBroker`; raises ProviderError."""
        server = self._servers.get(region)
        if not server:
            return None
        begin = monotonic()
        outcome = "unreachable"
        try:
            envelope = await self._ask(server, access, region, worker_public_key)
            outcome = "ok"
        finally:
            self._metrics.secret_broker_calls.labels(region, outcome).inc()
            self._metrics.secret_broker_call_seconds.labels(region).observe(monotonic() - begin)
        return envelope

    async def _ask(self, server: str, access: SecretAccess, region: str, worker_public_key: str) -> SealedEnvelope:
        wanted: dict[str, Any] = {
            "alias": access.credential,
            "worker_public_key_b64": worker_public_key,
            "worker_id": access.worker_id,
            "execution_id": access.execution_id,
            "parent_execution_id": access.parent_execution_id,
            "expected_entry_region": region,
            "requesting_region": self._server_region,
        }
        headers = {"content-type": "application/json"}
        hidden = []
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token.reveal().strip()}"
            hidden = [self._token]
        url = server.rstrip("/") + PATH
        prefix = f"Cross-region broker {server} unreachable"
        trust = await self._trust(prefix)
        try:
            status, answer = await self._call(
                "POST",
                url,
                headers=headers,
                body=orjson.dumps(wanted),
                timeout_seconds=self._timeout_seconds,
                trust=trust,
            )
        except (OSError, TimeoutError) as error:
            raise ProviderError(f"{prefix}: {cause_of(error)}") from None
        if not is_success(status):
            shown = excerpt(answer, _SHOWN, hidden)
            raise ProviderError(f"{prefix}: broker returned HTTP {status_line(status)}: {shown}")
        try:
            return _DECODER.decode(answer)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ProviderError(f"{prefix}: decode broker response: {error}") from None

    async def _trust(self, prefix: str) -> ssl.SSLContext | None:
        if self._ca_file is None:
            return None
        try:
            return await self._authorities.trust(self._ca_file)
        except OSError as error:
            raise ProviderError(f"{prefix}: CA bundle '{self._ca_file}': {cause_of(error)}") from None
        except ValueError as error:
            raise ProviderError(f"{prefix}: CA bundle '{self._ca_file}' not valid PEM: {error}") from None
