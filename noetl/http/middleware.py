"""What surrounds every handler: request ids, CORS headers, and the one place that turns errors into responses."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from typing import TYPE_CHECKING, Final

from noetl.errors import DatabaseError, NoetlError, RejectedRequestError, UnavailableError
from noetl.http.responses import empty_response, error_response, text_response
from noetl.observability.trace_context import trace_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from blacksheep import Response

_log = logging.getLogger("noetl.http")

VARY: Final = b"origin, access-control-request-method, access-control-request-headers"

CORS_PREFLIGHT: Final = ((b"access-control-allow-methods", b"*"), (b"access-control-allow-headers", b"*"))
"""Added to the two headers of every response when the method is OPTIONS (spec 10, section 2.6)."""

_REQUEST_ID: Final = re.compile(rb"[!-~]{1,128}")


class RequestIds:
    """Names requests for the log: by an id, the proxy's or one that is unique among all processes, and by trace."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """``request_id``, and ``trace_id`` if the request has a valid ``traceparent``.

        The former is ``x-request-id`` if that is 1 to 128 visible ASCII characters, else a new id.
        """
        given = b""
        parents: list[bytes] | None = None
        for name, value in headers:
            if name == b"x-request-id":
                if not given and _REQUEST_ID.fullmatch(value):
                    given = value
            elif name == b"traceparent":
                parents = [value] if parents is None else [*parents, value]
        ids = {"request_id": given.decode("ascii") if given else f"{self._prefix}-{next(self._count):x}"}
        if parents is not None and (parent := trace_parent(parents)) is not None:
            ids["trace_id"] = parent.trace_id
        return ids


class ErrorResponses:
    """Errors as clients see them (spec 10, section 2.5).

    Database texts and details of defects go to the log under the request id; clients get them only with ``debug``.
    """

    def __init__(self, *, debug: bool) -> None:
        self._debug = debug

    def of(self, error: Exception, ids: Mapping[str, str], method: str, path: str) -> Response:
        """The response for ``error``; logs what is our fault under the ids of the request."""
        if isinstance(error, RejectedRequestError):
            return text_response(error.message, error.status_code)
        if isinstance(error, UnavailableError):
            _log.debug(error.message, extra=_fields(error, ids, method, path))
            return error_response(error.message, error.status, [(b"retry-after", b"%d" % error.retry_after)])
        if isinstance(error, NoetlError):
            if error.status >= 500:
                _log.error(error.message, extra=_fields(error, ids, method, path), exc_info=error)
            return error_response(self._message(error), error.status)
        _log.error("Unexpected error", extra=_fields(error, ids, method, path), exc_info=error)
        return error_response(f"{type(error).__name__}: {error}" if self._debug else "Internal error", 500)

    def _message(self, error: NoetlError) -> str:
        if not self._debug:
            return "Database error" if isinstance(error, DatabaseError) else error.message
        if error.detail and not error.detail.startswith(error.message):
            return f"{error.message}: {error.detail}"
        return error.detail or error.message


def not_found() -> Response:
    """The answer to an unknown path (spec 10, section 2.1)."""
    return empty_response(404)


def method_not_allowed(allow: bytes) -> Response:
    """The answer to another method on a known path (spec 10, section 2.1)."""
    return empty_response(405, [(b"allow", allow)])


def preflight(allow: bytes | None) -> Response:
    """The answer to OPTIONS on any path; ``allow`` is None for unknown ones (spec 10, section 2.6)."""
    headers = [*CORS_PREFLIGHT]
    if allow is not None:
        headers.append((b"allow", allow))
    return empty_response(200, headers)


def _fields(error: Exception, ids: Mapping[str, str], method: str, path: str) -> dict[str, str]:
    fields = {**ids, "method": method, "path": path}
    if isinstance(error, NoetlError) and error.detail:
        fields["detail"] = error.detail
    return fields
