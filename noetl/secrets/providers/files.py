"""Token files and CA bundles, which platforms replace while the server runs."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path


async def read_text(path: str) -> str:
    """The trimmed text of a small file, read now; raises OSError or UnicodeDecodeError."""
    return (await asyncio.to_thread(Path(path).read_text, "utf-8")).strip()


class Authorities:
    """Trust in the authorities of a PEM file besides those of the system; built again only when the file changes."""

    def __init__(self) -> None:
        self._pem: str | None = None
        self._context: ssl.SSLContext | None = None

    async def trust(self, path: str) -> ssl.SSLContext:
        """The context for connections; raises OSError, or ValueError when the file is no PEM bundle."""
        pem = await read_text(path)
        if self._context is None or pem != self._pem:
            context = ssl.create_default_context()
            # Authorities of clusters often lack the extensions that the strict mode of newer Pythons demands.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            try:
                context.load_verify_locations(cadata=pem)
            except ssl.SSLError as error:
                raise ValueError(str(error.reason or "no certificate in it")) from None
            self._pem, self._context = pem, context
        return self._context
