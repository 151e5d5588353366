"""The bearer token in front of everything below `/api/internal/` (spec 20, section 10.1; 00-decisions, 7)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from noetl.errors import UnauthorizedError
from noetl.http.middleware import method_not_allowed, not_found
from noetl.http.responses import error_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request, Response

    from noetl.config.secret import Secret
    from noetl.http.application import HttpApplication
    from noetl.http.routing import Handler

PREFIX: Final = "/api/internal/"

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CHALLENGE: Final = ((b"www-authenticate", b"Bearer"),)


class InternalToken:
    """Compares the tokens of requests with the configured one; blanks around either do not count.

    Without a configured token (None or blank) every request is refused.
    """

    def __init__(self, token: Secret[str] | None) -> None:
        self._token = b"" if token is None else token.reveal().strip().encode()

    def require(self, request: Request) -> None:
        """Let a request with the right ``Authorization: Bearer`` pass; the time does not tell how near a guess is.

        Raises:
            UnauthorizedError: no token is configured, or the request's is absent, malformed or another.
        """
        if not self._token:
            raise UnauthorizedError("Internal API is disabled: NOETL_INTERNAL_API_TOKEN is not set.")
        header = request.get_first_header(b"authorization")
        if header is None:
            raise UnauthorizedError("Internal API requires Authorization header with Bearer token.")
        if not header.isascii():
            raise UnauthorizedError("Internal API Authorization header is not valid ASCII.")
        scheme, _, presented = header.strip().partition(b" ")
        presented = presented.strip()
        if scheme.lower() != b"bearer" or not presented:
            raise UnauthorizedError("Internal API requires 'Bearer <token>' Authorization scheme.")
        if not hmac.compare_digest(presented, self._token):
            raise UnauthorizedError("Invalid service-account token for /api/internal/*.")


class InternalGuard:
    """Puts the token in front of every path below `/api/internal/`, whether something is there or not.

    Register it after all groups with such routes: it closes the prefix, so that neither an unknown path (404) nor
    another method (405) is told from a known one without the token. Preflight requests (OPTIONS) are answered as
    everywhere.
    """

    def __init__(self, token: InternalToken) -> None:
        self._token = token

    def register(self, application: HttpApplication) -> None:
        """Guard the internal routes that ``application`` has, and the rest of the prefix."""
        for route in application.routes:
            if not route.template.startswith(PREFIX):
                continue
            for endpoint in {*route.endpoints.values()}:
                endpoint.handler = self._guarded(endpoint.handler)
            refuse = self._guarded(_answering(method_not_allowed, route.allow))
            for method in _METHODS:
                if method not in route.endpoints:
                    application.add_route(method, route.template, refuse, described=False)
        refuse = self._guarded(_answering(not_found))
        for template in (PREFIX, f"{PREFIX}{{path...}}"):
            for method in _METHODS:
                application.add_route(method, template, refuse, described=False)

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                self._token.require(request)
            except UnauthorizedError as error:
                return error_response(error.message, error.status, _CHALLENGE)
            return await handler(request)

        return guarded


def _answering(answer: Callable[..., Response], *arguments: bytes) -> Handler:
    async def handler(_request: Request) -> Response:
        return answer(*arguments)

    return handler
