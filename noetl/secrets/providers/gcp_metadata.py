"""The access token of the Google Cloud workload that this server is (spec 40, section 8a)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from noetl.config.secret import Secret
from noetl.secrets.providers.service import is_success
from noetl.secrets.providers.tokens import TokenCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from noetl.errors import NoetlError
    from noetl.secrets.providers.service import Service

HEADERS: Final = {"Metadata-Flavor": "Google"}


class _Token(msgspec.Struct):
    access_token: str
    expires_in: int


_DECODER: Final = msgspec.json.Decoder(_Token)


def workload_token(
    service: Service,
    url: str,
    request: str,
    decoding: str,
    refusal: Callable[[int, bytes], NoetlError],
    clock: Callable[[], float] = monotonic,
) -> TokenCache:
    """The token from the metadata server at ``url``; ``request``, ``decoding``, ``refusal`` word the failures."""

    async def fetch() -> tuple[Secret[str], float]:
        status, answer = await service.send(request, "GET", url, HEADERS)
        if not is_success(status):
            raise refusal(status, answer)
        token = service.decode(decoding, answer, _DECODER)
        return Secret(token.access_token), max(1, token.expires_in - 60)

    return TokenCache(fetch, clock)
