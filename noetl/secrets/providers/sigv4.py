"""Signatures of requests to Amazon Web Services, version 4."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

from noetl.config.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

ALGORITHM: Final = "AWS4-HMAC-SHA256"


class AwsCredentials(msgspec.Struct, frozen=True):
    """An access key; ``session_token`` belongs to temporary ones."""

    access_key_id: str
    secret_access_key: Secret[str]
    session_token: Secret[str] | None = None


class SignedScope(msgspec.Struct, frozen=True):
    """When, where and for which service a signature holds; ``moment`` is UTC."""

    moment: datetime
    region: str
    service: str

    @property
    def stamp(self) -> str:
        """The time as ``x-amz-date`` has it."""
        return self.moment.strftime("%Y%m%dT%H%M%SZ")

    @property
    def text(self) -> str:
        """The scope as it is signed."""
        return f"{self.stamp[:8]}/{self.region}/{self.service}/aws4_request"


def canonical_request(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Sequence[tuple[str, str]],
    body_hash: str,
) -> tuple[str, str]:
    """The canonical form of a request, and the names of its headers as they are signed.

    Args:
        method: in capitals.
        path: absolute, not percent-encoded, without segments that are ``.`` or ``..``.
        query: decoded names and values.
        headers: all that are to be signed, ``host`` among them; of one name in the order they are sent.
        body_hash: SHA-256 of the body in hexadecimal digits.
    """
    by_name: dict[str, list[str]] = {}
    for name, value in headers:
        by_name.setdefault(name.lower(), []).append(" ".join(value.split()))
    signed = ";".join(sorted(by_name))
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    lines = [
        method,
        quote(path, safe="/-_.~"),
        "&".join(f"{name}={value}" for name, value in pairs),
        *(f"{name}:{','.join(by_name[name])}" for name in sorted(by_name)),
        "",
        signed,
        body_hash,
    ]
    return "\n".join(lines), signed


def authorization(canonical: str, signed: str, scope: SignedScope, credentials: AwsCredentials) -> str:
    """The ``authorization`` header for what `canonical_request` gives."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = _keyed(_signing_key(credentials, scope), "\n".join([ALGORITHM, scope.stamp, scope.text, digest])).hex()
    credential = f"{credentials.access_key_id}/{scope.text}"
    return f"{ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={signature}"


def _signing_key(credentials: AwsCredentials, scope: SignedScope) -> bytes:
    key = b"AWS4" + credentials.secret_access_key.reveal().encode()
    for part in scope.text.split("/"):
        key = _keyed(key, part)
    return key


def _keyed(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
