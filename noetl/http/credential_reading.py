"""Reads a credential with its value, stored or resolved, as the document that clients get (spec 40, section 5.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from noetl.errors import EncryptionError, NotFoundError
from noetl.http.requests import IntegerSyntaxError, parse_integer, refuse_nul
from noetl.http.responses import stored_json, timestamp
from noetl.secrets.envelope import parse_record
from noetl.secrets.resolution import ResidencyViolationError, outcome_of

if TYPE_CHECKING:
    from noetl.secrets.audit import SecretAccess, SecretAudit
    from noetl.secrets.resolution import ResolvedCredential, SecretResolver
    from noetl.secrets.wallet import Wallet
    from noetl.store.credentials import Credential, CredentialStore


class Revealed(msgspec.Struct, frozen=True):
    """A credential with its value as a JSON text, and the version of the key that guarded it (None: not stored)."""

    document: bytes
    kek_version: str | None

    def __repr__(self) -> str:
        return "Revealed(***)"


class CredentialReader:
    """Finds credentials by id or name, and reveals them.

    The caller of `reveal` records the outcome ``ok`` in the audit before it gives the document out; failures are
    recorded here.
    """

    def __init__(
        self, store: CredentialStore, wallet: Wallet, audit: SecretAudit, resolver: SecretResolver | None = None
    ) -> None:
        self._store = store
        self._wallet = wallet
        self._audit = audit
        self._resolver = resolver

    async def find(self, identifier: str, *, with_data: bool = False) -> Credential | None:
        """The stored credential with this id, else with this name."""
        refuse_nul("identifier", identifier)
        return await self._store.find(id_of(identifier), identifier, with_data=with_data)

    async def reveal(self, access: SecretAccess) -> Revealed:
        """The credential that ``access`` names, with its value.

        A stored one wins; else the playbook of the execution may name a provider for it.

        Raises:
            NotFoundError: there is neither.
            EncryptionError: the stored value does not open.
            ResidencyViolationError, NoetlError: as `SecretResolver.resolve`.
        """
        credential = await self.find(access.credential, with_data=True)
        if credential is not None:
            return await self._reveal_stored(access, credential)
        resolved = await self._resolve(access)
        if resolved is None:
            await self._audit.record(access, "credential_not_found")
            raise not_found(access.credential)
        return Revealed(_resolved_document(access.credential, resolved), None)

    async def _reveal_stored(self, access: SecretAccess, credential: Credential) -> Revealed:
        stored = credential.data_encrypted
        assert stored is not None, "it was asked for, and the column is NOT NULL"
        try:
            value = await self._wallet.open(stored)
            version = parse_record(stored).dek.key_version
        except EncryptionError as error:
            await self._audit.record(access, "decryption_failed", notes=error.message)
            raise
        return Revealed(orjson.dumps(credential_members(credential, {"data": sorted_json(value)})), version)

    async def _resolve(self, access: SecretAccess) -> ResolvedCredential | None:
        if self._resolver is None or access.execution_id is None:
            return None
        try:
            return await self._resolver.resolve(access.credential, access.execution_id)
        except ResidencyViolationError:
            raise  # the caller may know another way, and records how it ended
        except Exception as error:
            await self._audit.record(access, outcome_of(error))
            raise


def id_of(identifier: str) -> int | None:
    """The identifier as an id, or None when it can only be a name."""
    try:
        return parse_integer(identifier)
    except IntegerSyntaxError:
        return None


def not_found(identifier: str) -> NotFoundError:
    """The error for a credential that does not exist."""
    return NotFoundError(f"Credential '{identifier}' not found")


def sorted_json(value: Any) -> orjson.Fragment:
    """A free-form value as it goes into an answer: members sorted at every level."""
    return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def credential_members(credential: Credential, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """The members of a credential in the order of the API; what is NULL is left out; ``data`` goes in as it is."""
    members: dict[str, Any] = {"id": str(credential.id), "name": credential.name, "type": credential.type}
    if credential.meta is not None:
        members["meta"] = stored_json(credential.meta)
    if credential.tags is not None:
        members["tags"] = credential.tags
    if credential.description is not None:
        members["description"] = credential.description
    members.update(data or {})
    members["created_at"] = timestamp(credential.created_at)
    members["updated_at"] = timestamp(credential.updated_at)
    return members


def _resolved_document(alias: str, resolved: ResolvedCredential) -> bytes:
    now = timestamp(datetime.now(UTC))
    return orjson.dumps(
        {
            "id": "0",
            "name": alias,
            "type": resolved.type,
            "description": "resolved from keychain provider",
            "data": orjson.Fragment(resolved.data),
            "created_at": now,
            "updated_at": now,
        }
    )
