"""What a call can end with instead of an answer."""

from __future__ import annotations

from typing import ClassVar, Final

_CODES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    500: "internal",
    502: "bad_gateway",
    503: "unavailable",
    504: "gateway_timeout",
}


class NoetlClientError(Exception):
    """Any failure of a call."""


class NoAnswerError(NoetlClientError, OSError):
    """The server cannot be reached, or what answers there is no NoETL server."""


class LostConnectionError(NoAnswerError):
    """A kept connection turned out to be closed before anything of the answer came."""


class ApiError(NoetlClientError):
    """The server refused; ``str(error)`` is the server's own text.

    Attributes:
        status: HTTP status.
        code: the status as a word (``not_found``, ``conflict``, ``unavailable``, ...; ``http_418`` for others).
        message: the server's text.
        request_id: what to look for in the server's log; None when it told none.
        retry_after: seconds after which the server wants to be asked again; None when it did not say.
    """

    statuses: ClassVar[frozenset[int]] = frozenset()

    def __init__(
        self, status: int, message: str, *, request_id: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.request_id = request_id
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        """The status as a word."""
        return _CODES.get(self.status, f"http_{self.status}")


class BadRequestError(ApiError):
    """The request cannot be understood, or it is too large (400, 413, 415)."""

    statuses = frozenset({400, 413, 415})


class AccessError(ApiError):
    """The token is missing or wrong, or it does not allow this (401, 403)."""

    statuses = frozenset({401, 403})


class NotFoundError(ApiError):
    """There is no such thing (404)."""

    statuses = frozenset({404})


class ConflictError(ApiError):
    """The present state does not allow it (409)."""

    statuses = frozenset({409})


class RefusedError(ApiError):
    """The request breaks a rule, such as cancelling what has ended (422)."""

    statuses = frozenset({422})


class ServerError(ApiError):
    """The server failed (5xx)."""

    statuses = frozenset(range(500, 600))


class UnavailableError(ServerError):
    """The server is overloaded, starting, or without its database (503)."""

    statuses = frozenset({503})


_KINDS: Final = (
    BadRequestError, AccessError, NotFoundError, ConflictError, RefusedError, UnavailableError, ServerError,
)  # fmt: skip


def error_class(status: int) -> type[ApiError]:
    """The most special class for a status."""
    return next((kind for kind in _KINDS if status in kind.statuses), ApiError)
