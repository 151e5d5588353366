"""`/api/credentials`: store, list, read, delete, and sealed delivery to one worker (spec 40, sections 5 and 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import orjson

from noetl.errors import BadRequestError, NoetlError
from noetl.http.credential_reading import credential_members, id_of, not_found
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import Query, client_address, decode_json, json_text, path_text, refuse_nul, refuse_nul_in_json
from noetl.http.responses import json_bytes_response, json_response
from noetl.http.secret_routes import observed_write, refuse_without_key
from noetl.secrets.audit import GET_CREDENTIAL, GET_SEALED, SecretAccess
from noetl.secrets.resolution import ResidencyViolationError
from noetl.secrets.sealed import LowOrderKeyError, PublicKeyError, read_public_key, seal
from noetl.store.credentials import NewCredential

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.http.credential_reading import CredentialReader
    from noetl.http.secret_routes import WriteObserver
    from noetl.secrets.audit import SecretAudit
    from noetl.secrets.resolution import SealingBroker
    from noetl.secrets.sealed import SealedEnvelope
    from noetl.secrets.wallet import Wallet
    from noetl.store.credentials import CredentialStore
    from noetl.store.worker_keys import WorkerKeyStore

ABSENT: Final = msgspec.UNSET


class CredentialRequest(msgspec.Struct):
    """Body of a write; ``data`` may be null, the optional members may be null or absent."""

    name: str
    type: str
    data: msgspec.Raw
    meta: msgspec.Raw = msgspec.Raw()
    tags: list[str] | msgspec.UnsetType | None = ABSENT
    description: str | msgspec.UnsetType | None = ABSENT


class CredentialRoutes:
    """The credential routes. Without a wallet (no key) each of them answers 500.

    Args:
        store, worker_keys: the rows.
        wallet: seals values; None without a key.
        reader: reveals values; None without a key.
        audit: told about every attempt at a value.
        broker: asks other regions; None for none.
        observer: told about writes; None for none.
        count_sealed: told how each sealed delivery ended (spec 40, section 6.1).
    """

    def __init__(
        self,
        store: CredentialStore,
        worker_keys: WorkerKeyStore,
        wallet: Wallet | None,
        reader: CredentialReader | None,
        audit: SecretAudit,
        *,
        broker: SealingBroker | None = None,
        observer: WriteObserver | None = None,
        count_sealed: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._worker_keys = worker_keys
        self._wallet = wallet
        self._reader = reader
        self._audit = audit
        self._broker = broker
        self._observer = observer
        self._count_sealed = count_sealed
        self._put = msgspec.json.Decoder(CredentialRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``."""
        has_key = self._wallet is not None and self._reader is not None
        for method, template, handler in (
            ("POST", "/api/credentials", self.put),
            ("GET", "/api/credentials", self.list),
            ("GET", "/api/credentials/{identifier}", self.get),
            ("DELETE", "/api/credentials/{identifier}", self.delete),
            ("GET", "/api/credentials/{identifier}/sealed", self.get_sealed),
        ):
            application.add_route(method, template, handler if has_key else refuse_without_key)

    async def put(self, request: Request) -> Response:
        """Create or wholly replace a credential; answers without its value."""
        body = await json_text(request)
        given = decode_json(body, self._put)
        refuse_duplicates(body, given, {})
        with observed_write(self._observer, "credentials_upsert"):
            row = await self._store.put(await self._sealed_row(given))
        return json_response(credential_members(row))

    async def list(self, request: Request) -> Response:
        """All credentials, newest first, never with values."""
        query = Query(request)
        chosen = {name: query.text(name) for name in ("type", "q")}
        for name, text in chosen.items():
            refuse_nul(name, text)
        rows = await self._store.list(chosen["type"], chosen["q"])
        answer: dict[str, object] = {"items": [credential_members(row) for row in rows]}
        if used := {name: text for name, text in chosen.items() if text is not None}:
            answer["filter"] = used
        return json_response(answer)

    async def get(self, request: Request) -> Response:
        """One credential by id or name; with ``include_data=true`` also its value."""
        identifier = path_text(request, "identifier")
        query = Query(request)
        with_data = query.boolean("include_data")
        execution_id = query.integer("execution_id")
        parent_execution_id = query.integer("parent_execution_id")
        assert self._reader is not None
        if not with_data:
            credential = await self._reader.find(identifier)
            if credential is None:
                raise not_found(identifier)
            return json_response(credential_members(credential))
        access = SecretAccess(
            credential=identifier,
            operation=GET_CREDENTIAL,
            client=client_address(request),
            execution_id=execution_id,
            parent_execution_id=parent_execution_id,
        )
        try:
            revealed = await self._reader.reveal(access)
        except ResidencyViolationError:
            await self._audit.record(access, "residency_violation")
            raise
        await self._audit.record(access, "ok", kek_version=revealed.kek_version)
        return json_bytes_response(revealed.document)

    async def delete(self, request: Request) -> Response:
        """Delete a credential by id or name."""
        identifier = path_text(request, "identifier")
        refuse_nul("identifier", identifier)
        deleted = await self._store.delete(id_of(identifier), identifier)
        if deleted is None:
            raise not_found(identifier)
        return json_response({"id": str(deleted), "message": "Credential deleted successfully"})

    async def get_sealed(self, request: Request) -> Response:
        """One credential with its value, encrypted to the key that the worker registered."""
        identifier = path_text(request, "identifier")
        query = Query(request)
        access = SecretAccess(
            credential=identifier,
            operation=GET_SEALED,
            client=client_address(request),
            worker_id=query.required_text("worker_id"),
            execution_id=query.integer("execution_id"),
            parent_execution_id=query.integer("parent_execution_id"),
        )
        text, key = await self._recipient(access)
        assert self._reader is not None
        try:
            revealed = await self._reader.reveal(access)
        except ResidencyViolationError as violation:
            return _envelope_response(await self._sealed_elsewhere(access, violation, text))
        except NoetlError:
            self._count("credential_error")
            raise
        try:
            envelope = seal(revealed.document, key)
        except LowOrderKeyError as error:
            self._count("seal_error")
            await self._audit.record(access, "seal_error")
            raise BadRequestError(f"worker '{access.worker_id}' worker_public_key {error}") from None
        await self._audit.record(access, "ok", kek_version=revealed.kek_version)
        self._count("ok")
        return _envelope_response(envelope)

    async def _sealed_row(self, given: CredentialRequest) -> NewCredential:
        tags = None if given.tags is ABSENT else given.tags
        description = None if given.description is ABSENT else given.description
        meta = bytes(given.meta) or b"null"
        for field, value in (("name", given.name), ("type", given.type), ("description", description)):
            refuse_nul(field, value)
        for tag in tags or ():
            refuse_nul("tags", tag)
        refuse_nul_in_json("meta", meta)
        assert self._wallet is not None
        return NewCredential(
            name=given.name,
            type=given.type,
            data_encrypted=await self._wallet.seal(orjson.loads(bytes(given.data))),
            meta=None if meta == b"null" else meta,
            tags=tags,
            description=description,
        )

    async def _recipient(self, access: SecretAccess) -> tuple[str, bytes]:
        """The worker's key, as text and as bytes; it is checked before the credential is looked at."""
        worker_id = access.worker_id or ""
        refuse_nul("worker_id", worker_id)
        text = await self._worker_keys.public_key(worker_id)
        if not text:
            self._count("no_pubkey")
            await self._audit.record(access, "no_pubkey")
            raise BadRequestError(
                f"worker '{worker_id}' did not register a sealing pubkey (worker_public_key missing from the"
                " noetl.runtime row, or the worker_pool row doesn't exist)"
            )
        try:
            return text, read_public_key(text)
        except PublicKeyError as error:
            self._count("worker_not_found")
            await self._audit.record(access, "no_pubkey")
            raise BadRequestError(f"worker '{worker_id}' worker_public_key {error}") from None

    async def _sealed_elsewhere(
        self, access: SecretAccess, violation: ResidencyViolationError, key: str
    ) -> SealedEnvelope:
        """The envelope from a server of the secret's region, where that may be asked."""
        envelope = None
        if self._broker is not None and violation.may_broker:
            try:
                envelope = await self._broker.seal(access, violation.region, key)
            except NoetlError:
                self._count("credential_error")
                await self._audit.record(access, "broker_unreachable", broker_region=violation.region)
                raise
        if envelope is None:
            self._count("residency_violation")
            await self._audit.record(access, "residency_violation")
            raise violation
        await self._audit.record(access, "ok", broker_region=violation.region)
        self._count("ok_via_broker")
        return envelope

    def _count(self, status: str) -> None:
        if self._count_sealed is not None:
            self._count_sealed(status)


def _envelope_response(envelope: SealedEnvelope) -> Response:
    return json_bytes_response(msgspec.json.encode(envelope))
