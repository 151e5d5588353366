"""A handler that tells the metrics how each of its calls ended and how long it took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from noetl.errors import NoetlError, RejectedRequestError
from noetl.http.bodies import ClientDisconnectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blacksheep import Request, Response

    from noetl.http.routing import Handler


def measured(handler: Handler, observe: Callable[[int, float], None]) -> Handler:
    """``handler`` with every call reported to ``observe(status, seconds)``.

    Calls whose request could not be read are not counted, as in the reference (spec 60, section 10), nor are those
    whose client left.
    """

    async def call(request: Request) -> Response:
        started = time.perf_counter()
        status = 0
        try:
            response = await handler(request)
            status = response.status
        except (RejectedRequestError, ClientDisconnectedError):
            raise
        except NoetlError as error:
            status = error.status
            raise
        except Exception:
            status = 500
            raise
        finally:
            if status:
                observe(status, time.perf_counter() - started)
        return response

    return call
