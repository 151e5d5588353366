"""`/api/keychain`: a cache of tokens and resolved secrets with an expiry (spec 40, section 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import orjson

from noetl.errors import BadRequestError, EncryptionError, NotFoundError, UnprocessableError
from noetl.http.credential_reading import sorted_json
from noetl.http.duplicates import refuse_duplicates
from noetl.http.requests import (
    Query,
    client_address,
    decode_json,
    json_text,
    path_integer,
    path_text,
    refuse_nul,
    refuse_nul_in_json,
    refuse_shape,
)
from noetl.http.responses import json_response, timestamp
from noetl.http.secret_routes import observed_write, refuse_without_key
from noetl.http.timestamps import parse_timestamp
from noetl.secrets.audit import GET_KEYCHAIN, SecretAccess
from noetl.secrets.envelope import parse_record
from noetl.store.database import RefusedStatementError
from noetl.store.keychain import SCOPES, KeychainEntry, cache_key

if TYPE_CHECKING:
    from blacksheep import Request, Response

    from noetl.http.application import HttpApplication
    from noetl.http.secret_routes import WriteObserver
    from noetl.secrets.audit import SecretAudit
    from noetl.secrets.wallet import Wallet
    from noetl.store.keychain import KeychainStore, KeychainSummary

ABSENT: Final = msgspec.UNSET
FOREIGN_KEY_VIOLATION: Final = "23503"

Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class KeychainRequest(msgspec.Struct):
    """Body of a write; ``expires_at`` wins over ``expires_in`` (seconds)."""

    data: msgspec.Raw
    scope_type: str | msgspec.UnsetType = ABSENT
    execution_id: Int64 | msgspec.UnsetType | None = ABSENT
    expires_at: str | msgspec.UnsetType | None = ABSENT
    expires_in: Int64 | msgspec.UnsetType | None = ABSENT
    auto_renew: bool | msgspec.UnsetType = ABSENT
    renew_config: msgspec.Raw = msgspec.Raw()


class KeychainRoutes:
    """The keychain routes. Without a wallet (no key) each of them answers 500; ``audit`` is told about every read."""

    def __init__(
        self, store: KeychainStore, wallet: Wallet | None, audit: SecretAudit, observer: WriteObserver | None = None
    ) -> None:
        self._store = store
        self._wallet = wallet
        self._audit = audit
        self._observer = observer
        self._put = msgspec.json.Decoder(KeychainRequest)

    def register(self, application: HttpApplication) -> None:
        """Add the routes to ``application``."""
        for method, template, handler in (
            ("GET", "/api/keychain/{catalog_id}/{keychain_name}", self.get),
            ("POST", "/api/keychain/{catalog_id}/{keychain_name}", self.put),
            ("DELETE", "/api/keychain/{catalog_id}/{keychain_name}", self.delete),
            ("GET", "/api/keychain/catalog/{catalog_id}", self.list),
        ):
            application.add_route(method, template, refuse_without_key if self._wallet is None else handler)

    async def get(self, request: Request) -> Response:
        """The value of an entry that has not expired; counts the access."""
        key = _key(request)
        access = SecretAccess(
            credential=path_text(request, "keychain_name"),
            operation=GET_KEYCHAIN,
            client=client_address(request),
            execution_id=Query(request).integer("execution_id"),
        )
        row = await self._store.use(key)
        if row is None:
            await self._audit.record(access, "credential_not_found", notes=f"entry {key}")
            return json_response({"status": "not_found"})
        state: dict[str, Any] = {
            "expires_at": timestamp(row.expires_at),
            "auto_renew": row.auto_renew,
            "access_count": row.access_count,
        }
        if row.expired:
            await self._audit.record(access, "expired", notes=f"entry {key}")
            return json_response({"status": "expired", **state})
        assert self._wallet is not None
        try:
            value = await self._wallet.open(row.data_encrypted)
            version = parse_record(row.data_encrypted).dek.key_version
        except EncryptionError as error:
            await self._audit.record(access, "decryption_failed", notes=f"entry {key}; {error.message}")
            raise
        await self._audit.record(access, "ok", kek_version=version, notes=f"entry {key}")
        return json_response({"status": "found", "data": sorted_json(value), **state})

    async def put(self, request: Request) -> Response:
        """Create an entry or give it a new value and expiry."""
        catalog_id, name = path_integer(request, "catalog_id"), path_text(request, "keychain_name")
        body = await json_text(request)
        given = decode_json(body, self._put)
        refuse_duplicates(body, given, {})
        moment = _explicit_expiry(given)
        assert self._wallet is not None
        with observed_write(self._observer, "keychain_set"):
            scope = "global" if given.scope_type is ABSENT else given.scope_type
            execution_id = None if given.execution_id is ABSENT else given.execution_id
            renewal = bytes(given.renew_config) or b"null"
            refuse_nul("keychain_name", name)
            refuse_nul_in_json("renew_config", renewal)
            if scope not in SCOPES:
                raise UnprocessableError("scope_type must be 'local', 'global' or 'shared'")
            expires_at = _expiry_after(given) if moment is None else moment
            entry = KeychainEntry(
                cache_key=cache_key(name, catalog_id, scope, execution_id),
                keychain_name=name,
                catalog_id=catalog_id,
                scope_type=scope,
                execution_id=execution_id,
                data_encrypted=await self._wallet.seal(orjson.loads(bytes(given.data))),
                expires_at=expires_at,
                auto_renew=given.auto_renew is True,
                renew_config=None if renewal == b"null" else renewal,
            )
            await self._store_entry(entry)
        return json_response(
            {"status": "success", "cache_key": entry.cache_key, "expires_at": timestamp(entry.expires_at)}
        )

    async def delete(self, request: Request) -> Response:
        """Delete an entry, expired or not."""
        key = _key(request)
        if await self._store.delete(key):
            return json_response({"status": "deleted", "cache_key": key})
        return json_response({"status": "not_found"})

    async def list(self, request: Request) -> Response:
        """The entries of a catalog entry, newest first, without values."""
        catalog_id = path_integer(request, "catalog_id")
        rows = await self._store.list(catalog_id)
        return json_response({"catalog_id": str(catalog_id), "entries": [_members(row) for row in rows]})

    async def _store_entry(self, entry: KeychainEntry) -> None:
        try:
            await self._store.put(entry)
        except RefusedStatementError as error:
            if error.sqlstate != FOREIGN_KEY_VIOLATION:
                raise
            raise NotFoundError(f"Catalog entry '{entry.catalog_id}' not found", detail=error.detail) from error


def _key(request: Request) -> str:
    catalog_id, name = path_integer(request, "catalog_id"), path_text(request, "keychain_name")
    query = Query(request)
    execution_id = query.integer("execution_id")
    scope = query.text("scope_type")
    refuse_nul("keychain_name", name)
    return cache_key(name, catalog_id, "global" if scope is None else scope, execution_id)


def _explicit_expiry(given: KeychainRequest) -> datetime | None:
    if not isinstance(given.expires_at, str):
        return None
    try:
        return parse_timestamp(given.expires_at).replace(tzinfo=UTC)
    except ValueError as error:
        refuse_shape(f"expires_at: {error}")


def _expiry_after(given: KeychainRequest) -> datetime:
    if not isinstance(given.expires_in, int):
        raise UnprocessableError("expires_at or expires_in is required")
    try:
        moment = datetime.now(UTC) + timedelta(seconds=given.expires_in)
    except OverflowError:
        raise BadRequestError("expires_in must lead to a date from year 1 to 9999") from None
    return moment


def _members(row: KeychainSummary) -> dict[str, Any]:
    members: dict[str, Any] = {"keychain_name": row.keychain_name, "scope_type": row.scope_type}
    if row.execution_id is not None:
        members["execution_id"] = str(row.execution_id)
    members["expires_at"] = timestamp(row.expires_at)
    members["expired"] = row.expired
    members["access_count"] = row.access_count
    members["accessed_at"] = timestamp(row.accessed_at)
    members["created_at"] = timestamp(row.created_at)
    return members
