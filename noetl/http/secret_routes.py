"""What the routes for secrets have in common: refusal without a key, counting of writes (spec 40, 2 and 5)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from noetl.http.responses import error_response
from noetl.secrets.wallet import NO_KEY

if TYPE_CHECKING:
    from collections.abc import Generator

    from blacksheep import Request, Response


class WriteObserver(Protocol):
    """What the routes that write tell the metrics."""

    def observe_write(self, endpoint: str, ok: bool, seconds: float, /) -> None:
        """Count one call whose body was understood."""
        ...


async def refuse_without_key(_request: Request) -> Response:
    """The answer of every route that needs the wallet while there is none."""
    return error_response(NO_KEY, 500)


@contextmanager
def observed_write(observer: WriteObserver | None, endpoint: str) -> Generator[None]:
    """Tell ``observer`` how the block ended and how long it took."""
    started = time.perf_counter()
    ok = False
    try:
        yield
        ok = True
    finally:
        if observer is not None:
            observer.observe_write(endpoint, ok, time.perf_counter() - started)
