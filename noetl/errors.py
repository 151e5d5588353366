"""The errors that reach a client, and the HTTP form of each (spec 10, section 2.5).

Everything below `http/` raises one of these (or a subclass); `http/` alone turns them into responses.
"""

from __future__ import annotations

from typing import ClassVar


class NoetlError(Exception):
    """An error with an HTTP status. ``str(error)`` is the message of the body ``{"error", "status"}``.

    ``detail`` is for the log (and for the body when ``NOETL_DEBUG`` is on); it never reaches clients otherwise.
    """

    status: ClassVar[int] = 500

    def __init__(self, message: str, *, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class BadRequestError(NoetlError):
    """The request cannot be understood (400)."""

    status = 400


class PlaybookSyntaxError(BadRequestError):
    """A playbook cannot be decoded; the message names path, reason, line and column (400, spec 30 section 4)."""


class UnauthorizedError(NoetlError):
    """A token is missing or wrong (401)."""

    status = 401


class ForbiddenError(NoetlError):
    """The caller may not do this (403)."""

    status = 403


class NotFoundError(NoetlError):
    """The addressed thing does not exist (404)."""

    status = 404


class ConflictError(NoetlError):
    """The request contradicts the present state (409)."""

    status = 409


class UnprocessableError(NoetlError):
    """The request is well formed and breaks a rule (422)."""

    status = 422


class InternalError(NoetlError):
    """A defect or a failure of ours (500)."""


class TemplateFailure(InternalError):
    """A template of the start step cannot be rendered (500 in the reference's dialect, spec 30 section 5.7)."""


class EncryptionError(InternalError):
    """The wallet key is missing or a ciphertext does not open (500)."""


class DatabaseError(InternalError):
    """PostgreSQL refused a statement (500)."""


class UnavailableError(NoetlError):
    """Try again later (503); ``retry_after`` is the value of the Retry-After header in seconds."""

    status = 503

    def __init__(self, message: str, *, detail: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, detail=detail)
        self.retry_after = retry_after


class DatabaseUnavailableError(UnavailableError):
    """PostgreSQL is unreachable, or no connection became free in time."""


class OverloadedError(UnavailableError):
    """A bounded queue is full (promise P5)."""


class RejectedRequestError(NoetlError):
    """A request refused before its handler ran: ``text/plain`` body, as the reference does (spec 10, 2.2-2.4)."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
