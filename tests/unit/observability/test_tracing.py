"""Spans as the parts of the server make them, and when the export is on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from noetl.config import TracingSettings
from noetl.errors import ConflictError, DatabaseError
from noetl.ledger.lane import batch_span
from noetl.ledger.work import CancelWork
from noetl.observability.context import current_context
from noetl.observability.spans import Tracer
from noetl.observability.trace_context import TraceParent
from noetl.observability.tracing import start_tracing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ID = 383254787144409088


class Recorded:
    """A tracer, and the spans it made."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = Tracer(provider.get_tracer("test"))

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def span_id(span: ReadableSpan) -> int:
    return span.get_span_context().span_id


def test_spans_of_a_block_are_its_children_and_its_log_lines_name_it(recorded: Recorded) -> None:
    with recorded.tracer.span("outer", {"execution_id": ID}) as outer:
        with recorded.tracer.span("inner", {"size": 2}):
            context = current_context()
        recorded.tracer.current().set({"status": 200})
    outer.add("late", 2.0, {"event_id": ID})
    spans = recorded.spans()
    for child in ("inner", "late"):
        parent = spans[child].parent
        assert parent is not None
        assert parent.span_id == span_id(spans["outer"])
    assert spans["outer"].parent is None
    assert spans["outer"].attributes == {"execution_id": str(ID), "status": 200}
    late = spans["late"]
    assert (late.end_time or 0) - (late.start_time or 0) == 2_000_000_000
    assert [span["name"] for span in context.spans] == ["outer", "inner"]
    assert context.fields["trace_id"] == f"{spans['outer'].get_span_context().trace_id:032x}"
    assert not current_context().spans


@pytest.mark.parametrize(
    ("error", "is_failed"),
    [(ValueError("secret"), True), (DatabaseError("secret"), True), (ConflictError("secret"), False)],
)
def test_errors_leave_their_kind_and_not_their_text(recorded: Recorded, error: Exception, is_failed: bool) -> None:
    with pytest.raises(type(error)), recorded.tracer.span("work"):
        raise error
    span = recorded.spans()["work"]
    assert span.attributes == {"error.type": type(error).__name__}
    assert span.status.is_ok != is_failed
    assert not span.events
    assert "secret" not in span.to_json()


def test_caller_that_does_not_record_its_trace_decides_for_us(recorded: Recorded) -> None:
    with recorded.tracer.span("recorded", parent=TraceParent(TRACE, "00f067aa0ba902b7", True)):
        pass
    with recorded.tracer.span("not", parent=TraceParent(TRACE, "00f067aa0ba902b7", False)):
        assert current_context().fields["trace_id"] == TRACE
    assert recorded.spans().keys() == {"recorded"}


async def test_batch_is_a_child_of_its_first_operation_and_linked_to_the_others(recorded: Recorded) -> None:
    works = [CancelWork(ID + number, None) for number in range(3)]
    for number, work in enumerate(works):
        with recorded.tracer.span(f"operation {number}") as work.span:
            pass
    with batch_span(recorded.tracer, works):
        pass
    spans = recorded.spans()
    batch = spans["ledger.batch"]
    assert batch.parent is not None
    assert batch.parent.span_id == span_id(spans["operation 0"])
    assert [link.context.span_id for link in batch.links] == [span_id(spans[f"operation {n}"]) for n in (1, 2)]
    assert batch.attributes == {"size": 3}, "no execution_id: it concerns several"


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (TracingSettings(), None),
        (TracingSettings(endpoint="http://c:4318"), "http://c:4318/v1/traces"),
        (TracingSettings(endpoint="http://c:4318/base/"), "http://c:4318/base/v1/traces"),
        (TracingSettings(endpoint="http://c", traces_endpoint="http://d/x"), "http://d/x"),
    ],
)
def test_address_of_the_collector(settings: TracingSettings, url: str | None) -> None:
    assert settings.url == url


def test_off_without_an_address_and_when_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    for settings in (TracingSettings(), TracingSettings(endpoint="http://127.0.0.1:1", disabled=True)):
        assert start_tracing(settings, version="1", instance="a") is None
    assert not caplog.records


def test_variable_that_opentelemetry_cannot_use_turns_the_export_off_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with caplog.at_level(logging.WARNING):
        assert start_tracing(TracingSettings(endpoint="http://127.0.0.1:1"), version="1", instance="a") is None
    record: Any = caplog.records[-1]
    assert "OTEL_*" in record.getMessage()
