"""Describes the routes of `noetl.http.credentials` and `noetl.http.keychain`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from noetl.http.credentials import CredentialRequest
from noetl.http.keychain import KeychainRequest
from noetl.http.openapi.description import TIME, Answer, Body, Count, IdText, Int64, Moment, Operation, Parameter, Tag
from noetl.secrets.sealed import SealedEnvelope
from noetl.secrets.wallet import NO_KEY

Scope = Literal["local", "global", "shared"]


class Credential(Struct):
    """A credential; what it does not have is left out."""

    id: IdText
    name: str
    type: str
    created_at: Moment
    updated_at: Moment
    meta: Any = UNSET
    tags: list[str] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    data: Annotated[Any, Meta(description="The value; only with `include_data=true`")] = UNSET


class CredentialFilter(Struct):
    """The filters that were used."""

    type: str | UnsetType = UNSET
    q: str | UnsetType = UNSET


class CredentialList(Struct):
    """Credentials, newest first, never with values."""

    items: list[Credential]
    filter: CredentialFilter | UnsetType = UNSET


class CredentialDeleted(Struct):
    """Which one was deleted."""

    id: IdText
    message: str


class KeychainValue(Struct):
    """An entry: its value when it is there and has not expired."""

    status: Literal["found", "expired", "not_found"]
    data: Any = UNSET
    expires_at: Moment | UnsetType = UNSET
    auto_renew: bool | UnsetType = UNSET
    access_count: Count | UnsetType = UNSET


class KeychainStored(Struct):
    """The entry is stored."""

    status: Literal["success"]
    cache_key: str
    expires_at: Moment


class KeychainDeleted(Struct):
    """Whether there was one to delete."""

    status: Literal["deleted", "not_found"]
    cache_key: str | UnsetType = UNSET


class KeychainSummary(Struct):
    """An entry without its value."""

    keychain_name: str
    scope_type: Scope
    expires_at: Moment
    expired: bool
    access_count: Count
    accessed_at: Moment | None
    created_at: Moment
    execution_id: IdText | UnsetType = UNSET


class KeychainList(Struct):
    """The entries of a catalog entry, newest first."""

    catalog_id: IdText
    entries: list[KeychainSummary]


_NO_CREDENTIAL = "Credential 'nope' not found"
_NUL = "identifier must not contain U+0000"
_ACCESS = (
    Parameter("execution_id", Int64, "The execution that needs it; goes to the audit"),
    Parameter("parent_execution_id", Int64, "Its parent; goes to the audit"),
)
_SLOT = (
    Parameter("scope_type", str, "`global` (default), `local` or `shared`"),
    Parameter("execution_id", Int64, "The execution that a `local` or `shared` entry belongs to"),
)

_PROVIDED = {
    403: ("keychain entry 'crm' must stay in region 'eu-central-1'",),
    502: ("vault: HTTP 403 Forbidden reading 'secret/app/crm': permission denied",),
}
"""What the provider of a playbook's keychain entry may bring about."""

CREDENTIALS = Tag(
    "Credentials",
    "Encrypted credentials. Without `NOETL_ENCRYPTION_KEY` each of these routes answers 500. Every attempt at a value "
    "is audited.",
    (
        Operation(
            method="POST",
            route="/api/credentials",
            summary="Store a credential",
            text="Creates it, or replaces it wholly.",
            body=Body(
                (CredentialRequest,),
                {
                    "name": "Unique",
                    "type": "For example `postgres`, `bearer`, `api_key`",
                    "data": "The value: any JSON; it is encrypted and never shown unasked",
                    "meta": "Any JSON, not encrypted",
                },
            ),
            answers=(
                Answer(
                    Credential,
                    "Stored; without its value",
                    links={
                        summary: {"identifier": "/id"}
                        for summary in ("Get a credential", "Get a credential sealed", "Delete a credential")
                    },
                ),
            ),
            refusals={422: ("name must not contain U+0000",), 500: (NO_KEY,)},
        ),
        Operation(
            method="GET",
            route="/api/credentials",
            summary="List credentials",
            parameters=(
                Parameter("type", str, "Only this type"),
                Parameter("q", str, "Only where name or description contain this text, in whatever letter case"),
            ),
            answers=(Answer(CredentialList, "The credentials"),),
            refusals={422: ("q must not contain U+0000",), 500: (NO_KEY,)},
        ),
        Operation(
            method="GET",
            route="/api/credentials/{identifier}",
            summary="Get a credential",
            parameters=(Parameter("include_data", bool, "Also the value"), *_ACCESS),
            answers=(Answer(Credential, "The credential"),),
            refusals={**_PROVIDED, 404: (_NO_CREDENTIAL,), 422: (_NUL,), 500: (NO_KEY,)},
        ),
        Operation(
            method="DELETE",
            route="/api/credentials/{identifier}",
            summary="Delete a credential",
            answers=(Answer(CredentialDeleted, "Deleted"),),
            refusals={404: (_NO_CREDENTIAL,), 422: (_NUL,), 500: (NO_KEY,)},
        ),
        Operation(
            method="GET",
            route="/api/credentials/{identifier}/sealed",
            summary="Get a credential sealed",
            text="The credential with its value as a JSON text, encrypted to the X25519 key that the worker registered "
            "as `runtime.worker_public_key`: HKDF-SHA256 and ChaCha20-Poly1305.",
            parameters=(Parameter("worker_id", str, "Name of the worker pool that asks", True), *_ACCESS),
            answers=(Answer(SealedEnvelope, "The sealed credential"),),
            refusals={
                400: (
                    "worker 'w' did not register a sealing pubkey (worker_public_key missing from the noetl.runtime "
                    "row, or the worker_pool row doesn't exist)",
                ),
                **_PROVIDED,
                404: (_NO_CREDENTIAL,),
                422: (_NUL,),
                500: (NO_KEY,),
            },
        ),
    ),
)

KEYCHAIN = Tag(
    "Keychain",
    "A cache of tokens and resolved secrets with an expiry, encrypted like credentials.",
    (
        Operation(
            method="GET",
            route="/api/keychain/{catalog_id}/{keychain_name}",
            summary="Get a keychain entry",
            text="200 in any case; `status` tells. Counts the access.",
            parameters=_SLOT,
            answers=(Answer(KeychainValue, "Found, expired or not found"),),
            refusals={422: ("keychain_name must not contain U+0000",), 500: (NO_KEY,)},
        ),
        Operation(
            method="POST",
            route="/api/keychain/{catalog_id}/{keychain_name}",
            summary="Store a keychain entry",
            text="Creates an entry, or gives it a new value and expiry. `expires_at` or `expires_in` is needed.",
            body=Body(
                (KeychainRequest,),
                {
                    "": {"anyOf": [{"required": ["expires_at"]}, {"required": ["expires_in"]}]},
                    "data": "The value: any JSON; it is encrypted",
                    "scope_type": {"enum": ["local", "global", "shared"], "description": "`global` by default"},
                    "expires_at": {**TIME, "description": "RFC 3339 with a zone; wins over `expires_in`"},
                    "expires_in": "Seconds from now",
                    "renew_config": "Any JSON",
                },
            ),
            answers=(Answer(KeychainStored, "Stored"),),
            refusals={
                400: ("expires_in must lead to a date from year 1 to 9999",),
                404: ("Catalog entry '5' not found",),
                422: (
                    "expires_at or expires_in is required",
                    "scope_type must be 'local', 'global' or 'shared'",
                    "keychain_name must not contain U+0000",
                ),
                500: (NO_KEY,),
            },
        ),
        Operation(
            method="DELETE",
            route="/api/keychain/{catalog_id}/{keychain_name}",
            summary="Delete a keychain entry",
            text="200 in any case; `status` tells.",
            parameters=_SLOT,
            answers=(Answer(KeychainDeleted, "Deleted or not found"),),
            refusals={422: ("keychain_name must not contain U+0000",), 500: (NO_KEY,)},
        ),
        Operation(
            method="GET",
            route="/api/keychain/catalog/{catalog_id}",
            summary="List keychain entries",
            answers=(Answer(KeychainList, "The entries, without values"),),
            refusals={500: (NO_KEY,)},
        ),
    ),
)
