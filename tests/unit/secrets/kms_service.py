"""A key management service in the form of Google Cloud KMS, answering in the process."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

KEY_NAME = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"
ENDPOINT = "https://cloudkms.googleapis.com/v1/"


class KmsService:
    """Encrypts under ``version``; decrypts what any version encrypted. ``requests`` keeps what was asked."""

    def __init__(self) -> None:
        self.version = 1
        self.status = 200
        self.expires_in = 3600
        self.answer: bytes | None = None
        self.requests: list[tuple[str, str, dict[str, str], bytes | None]] = []

    async def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_seconds: float,
        trust: ssl.SSLContext | None = None,
    ) -> tuple[int, bytes]:
        assert (timeout_seconds, trust) == (10, None)
        self.requests.append((method, url, dict(headers), body))
        if url == "http://metadata/token":
            assert (method, headers["Metadata-Flavor"], body) == ("GET", "Google", None)
            return 200, json.dumps({"access_token": "t0ken", "expires_in": self.expires_in}).encode()
        assert (method, headers["authorization"]) == ("POST", "Bearer t0ken")
        if self.status != 200:
            return self.status, b"denied " * 100
        if self.answer is not None:
            return 200, self.answer
        assert body is not None
        given: dict[str, Any] = json.loads(body)
        if url == f"{ENDPOINT}{KEY_NAME}:encrypt":
            plaintext = base64.b64decode(given["plaintext"])
            sealed = bytes([self.version]) + AESGCM(self._key(self.version)).encrypt(bytes(12), plaintext, None)
            name = f"{KEY_NAME}/cryptoKeyVersions/{self.version}"
            return 200, json.dumps({"name": name, "ciphertext": base64.b64encode(sealed).decode()}).encode()
        assert url == f"{ENDPOINT}{KEY_NAME}:decrypt"
        sealed = base64.b64decode(given["ciphertext"])
        try:
            plaintext = AESGCM(self._key(sealed[0])).decrypt(bytes(12), sealed[1:], None)
        except InvalidTag:
            return 400, b"invalid ciphertext"
        return 200, json.dumps({"plaintext": base64.b64encode(plaintext).decode()}).encode()

    @staticmethod
    def _key(version: int) -> bytes:
        return bytes([version]) * 32
