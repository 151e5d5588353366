"""Spans as the parts of the server make them, over the OpenTelemetry API (extra `otel`).

Import it only for type checking, or where tracing is known to be on.
"""

from __future__ import annotations

from contextlib import contextmanager
from time import time_ns
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from noetl.observability.context import log_context, span
from noetl.observability.trace_context import TraceParent

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

Attribute: TypeAlias = str | int | float | bool
Kind: TypeAlias = Literal["internal", "server", "producer"]

NO_ATTRIBUTES: Final[Mapping[str, Attribute]] = {}

_KINDS: Final[Mapping[Kind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
}


class Span:
    """A traced piece of work. It remains a parent for other spans after it has ended."""

    __slots__ = ("_tracer", "otel")

    def __init__(self, otel: trace.Span, tracer: Tracer) -> None:
        self.otel = otel
        self._tracer = tracer

    def rename(self, name: str) -> None:
        """Change the name."""
        self.otel.update_name(name)

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes; ids become decimal strings, as in the log."""
        self.otel.set_attributes(_shown(attributes))

    def fail(self, reason: str) -> None:
        """Mark the work as failed. ``reason`` names a kind of error: no text that may quote what clients sent."""
        self.otel.set_attribute("error.type", reason)
        self.otel.set_status(Status(StatusCode.ERROR, reason))

    def add(self, name: str, seconds: float, attributes: Mapping[str, Attribute]) -> None:
        """A part of this work that took so long and has just ended."""
        self._tracer.record(name, seconds, attributes, parent=self)


class Tracer:
    """Makes spans. Texts and attributes are what the callers give: names, ids, counts, never payloads."""

    def __init__(self, otel: trace.Tracer) -> None:
        self._otel = otel

    def current(self) -> Span:
        """The innermost open span of the running task; outside of any, one that is recorded nowhere."""
        return Span(trace.get_current_span(), self)

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, Attribute] = NO_ATTRIBUTES,
        *,
        kind: Kind = "internal",
        parent: Span | TraceParent | None = None,
        links: Iterable[Span] = (),
    ) -> Generator[Span]:
        """A span around the block. Spans opened inside are its children; log lines of the block name span and trace.

        An exception leaves only its class in the span, and makes it a failed one unless it is the client's error.
        Without ``parent`` the span continues the current one, if any.
        """
        otel = self._otel.start_span(
            name,
            _context(parent),
            _KINDS[kind],
            _shown(attributes),
            [Link(link.otel.get_span_context()) for link in links],
        )
        made = Span(otel, self)
        token = contexts.attach(trace.set_span_in_context(otel))
        try:
            trace_id = trace.format_trace_id(otel.get_span_context().trace_id)
            with log_context(trace_id=trace_id), span(name, **attributes):
                yield made
        except BaseException as error:
            reason = type(error).__name__
            if getattr(error, "status", 500) >= 500:
                made.fail(reason)
            else:
                made.set({"error.type": reason})
            raise
        finally:
            contexts.detach(token)
            otel.end()

    def record(
        self,
        name: str,
        seconds: float,
        attributes: Mapping[str, Attribute] = NO_ATTRIBUTES,
        *,
        kind: Kind = "internal",
        parent: Span | None = None,
        error: str | None = None,
    ) -> None:
        """A span of work that took so long and has just ended; ``error`` is the kind of its failure."""
        end = time_ns()
        otel = self._otel.start_span(
            name, _context(parent), _KINDS[kind], _shown(attributes), start_time=end - int(seconds * 1e9)
        )
        if error is not None:
            Span(otel, self).fail(error)
        otel.end(end)


def _context(parent: Span | TraceParent | None) -> contexts.Context | None:
    match parent:
        case None:
            return None
        case Span():
            return trace.set_span_in_context(parent.otel)
        case TraceParent():
            flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
            remote = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
            return trace.set_span_in_context(NonRecordingSpan(remote))


def _shown(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """64-bit ids as text: many viewers round numbers."""
    return {name: str(value) if name.endswith("_id") else value for name, value in attributes.items()}
