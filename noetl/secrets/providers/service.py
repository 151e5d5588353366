"""One request to a service and its decoded answer, with failures in words that hold no secret."""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from noetl.config.secret import Secret
    from noetl.errors import NoetlError
    from noetl.secrets.web import HttpCall

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 10.0


class Service:
    """Sends requests for one provider.

    Args:
        call: makes them.
        error: what failures are raised as.
        timeout_seconds: limit of each attempt.
    """

    def __init__(self, call: HttpCall, error: type[NoetlError], timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._call = call
        self._error = error
        self._timeout_seconds = timeout_seconds

    async def send(
        self,
        what: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> tuple[int, bytes]:
        """Status and body; without an answer the error is ``<what>: <cause>``."""
        try:
            return await self._call(
                method, url, headers=headers, body=body, timeout_seconds=self._timeout_seconds, trust=trust
            )
        except (OSError, TimeoutError) as error:
            raise self._error(f"{what}: {cause_of(error)}") from None

    def decode(self, what: str, answer: bytes, decoder: msgspec.json.Decoder[T]) -> T:
        """The answer as a struct; the error says where it is wrong, never what is there."""
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise self._error(f"{what}: {error}") from None

    def fail(self, message: str) -> NoetlError:
        """The error with this message."""
        return self._error(message)


def cause_of(error: OSError) -> str:
    """Why a request got no answer, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason}"
    if isinstance(error, TimeoutError):
        return "timed out"
    return str(error.strerror or error) or type(error).__name__


def is_success(status: int) -> bool:
    """Whether an answer is one of success."""
    return 200 <= status < 300


def status_line(status: int) -> str:
    """``404 Not Found``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def excerpt(answer: bytes, length: int, hidden: Sequence[Secret[str]] = ()) -> str:
    """The beginning of an error's body in at most ``length`` characters, without the secrets that the request had."""
    text = answer.decode(errors="replace")
    for secret in hidden:
        if secret:
            text = text.replace(secret.reveal(), "***")
    return text[:length]
