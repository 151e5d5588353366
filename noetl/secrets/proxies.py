"""Which proxy an outgoing call goes through."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import msgspec

if TYPE_CHECKING:
    from noetl.config.provider_settings import ProxySettings


class ProxyAddressError(OSError):
    """A proxy of the settings cannot be used."""


class Proxy(msgspec.Struct, frozen=True):
    """An http proxy; ``headers`` may hold its password, so they have no `repr`."""

    host: str
    port: int
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


class Proxies:
    """Chooses by scheme and host, as ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` say."""

    def __init__(self, settings: ProxySettings) -> None:
        self._addresses = {"http": settings.http or settings.all, "https": settings.https or settings.all}
        self._exceptions = [part.strip().lower() for part in (settings.exceptions or "").split(",") if part.strip()]

    def of(self, scheme: str, host: str) -> Proxy | None:
        """The proxy for a host, or None to call it directly; raises ProxyAddressError."""
        address = self._addresses[scheme]
        if address is None or any(_matches(exception, host) for exception in self._exceptions):
            return None
        text = address.reveal()
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            port = parts.port or 80
        except ValueError:  # its text is a part of the address, and that may be the password
            raise ProxyAddressError(f"the proxy for {scheme} is not an address") from None
        if parts.scheme != "http" or parts.hostname is None:
            raise ProxyAddressError(f"the proxy for {scheme} is not an http address")
        headers: dict[str, str] = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers["proxy-authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return Proxy(parts.hostname, port, headers)


def _matches(exception: str, host: str) -> bool:
    if exception == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        name = exception.lstrip(".")
        return host == name or host.endswith(f".{name}")
