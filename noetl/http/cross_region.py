"""`POST /api/internal/cross-region/resolve`: seals a secret of this region for a worker of another (spec 40, 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from noetl.errors import BadRequestError, ForbiddenError, NoetlError
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import client_address, decode_json, json_text
from noetl.http.responses import json_bytes_response
from noetl.http.secret_routes import refuse_without_key
from noetl.secrets.audit import CROSS_REGION, SecretAccess
from noetl.secrets.resolution import ResidencyViolationError
from noetl.secrets.sealed import PublicKeyError, read_public_key, seal

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.http.credential_reading import CredentialReader
    from noetl.secrets.audit import SecretAudit

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class CrossRegionRequest(msgspec.Struct):
    """Which secret a server of another region wants, and for whom."""

    alias: str
    worker_public_key_b64: str
    worker_id: str
    expected_entry_region: str
    execution_id: Int64 | msgspec.UnsetType | None = msgspec.UNSET
    parent_execution_id: Int64 | msgspec.UnsetType | None = msgspec.UNSET
    requesting_region: str | msgspec.UnsetType = msgspec.UNSET


class CrossRegionRoutes:
    """The route for servers of other regions. `InternalGuard` protects it.

    Args:
        reader: reveals values; None without a key.
        audit: told about every attempt.
        server_region: of this server; empty when it was not told.
        count: told region and outcome; None for none.
    """

    def __init__(
        self,
        reader: CredentialReader | None,
        audit: SecretAudit,
        server_region: str,
        count: Callable[[str, str], None] | None = None,
    ) -> None:
        self._reader = reader
        self._audit = audit
        self._server_region = server_region
        self._count = count
        self._decoder = msgspec.json.Decoder(CrossRegionRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the route to ``application``."""
        handler = refuse_without_key if self._reader is None else self.resolve
        application.add_route("POST", "/api/internal/cross-region/resolve", handler)

    async def resolve(self, request: Request) -> Response:
        """The envelope with the credential, stored or resolved here; there is no second hop."""
        body = await json_text(request)
        given = decode_json(body, self._decoder)
        refuse_duplicates(body, given, {})
        access = SecretAccess(
            credential=given.alias,
            operation=CROSS_REGION,
            client=client_address(request),
            worker_id=given.worker_id,
            execution_id=given.execution_id or None,
            parent_execution_id=given.parent_execution_id or None,
        )
        expected = given.expected_entry_region
        notes = f"for region {given.requesting_region}" if given.requesting_region else None
        if expected != self._server_region:
            self._tell(expected, "wrong_region")
            await self._audit.record(access, "wrong_region", notes=notes)
            raise ForbiddenError(
                f"cross-region broker: this server is in region '{self._server_region}', not '{expected}' as the"
                " requesting peer expected"
            )
        key = await self._key(given.worker_public_key_b64, access)
        assert self._reader is not None
        try:
            revealed = await self._reader.reveal(access)
        except NoetlError as error:
            self._tell(expected, "resolve_error")
            if isinstance(error, ResidencyViolationError):
                await self._audit.record(access, "residency_violation", notes=notes)
            raise
        try:
            envelope = seal(revealed.document, key)
        except PublicKeyError as error:
            raise await self._refused(str(error), access) from None
        await self._audit.record(access, "ok", kek_version=revealed.kek_version, notes=notes)
        self._tell(expected, "ok")
        return json_bytes_response(msgspec.json.encode(envelope))

    async def _key(self, text: str, access: SecretAccess) -> bytes:
        try:
            return read_public_key(text.strip())
        except PublicKeyError as error:
            words = str(error).replace("base64:", "base64 decode:").replace("must be", "expected")
            raise await self._refused(words, access) from None

    async def _refused(self, why: str, access: SecretAccess) -> BadRequestError:
        self._tell(self._server_region, "bad_pubkey")
        await self._audit.record(access, "no_pubkey")
        return BadRequestError(f"cross-region: invalid worker_public_key_b64: {why}")

    def _tell(self, region: str, outcome: str) -> None:
        if self._count is not None:
            self._count(region or "-", outcome)
