"""What the log says about the work around a line: request, trace and spans."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Generator


class LogContext(msgspec.Struct, frozen=True):
    """``fields`` are added to every line; ``spans`` from the outermost to the innermost, each with its ``name``."""

    fields: Mapping[str, Any]
    spans: tuple[Mapping[str, Any], ...] = ()


_EMPTY: Final = LogContext({})
_current: ContextVar[LogContext] = ContextVar("log_context", default=_EMPTY)


def current_context() -> LogContext:
    """The context of the running task."""
    return _current.get()


@contextmanager
def log_context(**fields: Any) -> Generator[None]:
    """Lines of this block and of the tasks that it starts carry the fields, for example ``request_id``."""
    before = _current.get()
    token = _current.set(LogContext({**before.fields, **fields}, before.spans))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def span(name: str, **fields: Any) -> Generator[None]:
    """A named piece of work (spec 60, section 12); open it before the I/O, with ``execution_id`` where there is one."""
    before = _current.get()
    token = _current.set(LogContext(before.fields, (*before.spans, {"name": name, **fields})))
    try:
        yield
    finally:
        _current.reset(token)
