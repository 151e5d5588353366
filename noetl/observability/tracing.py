"""Export of traces to an OpenTelemetry collector, OTLP over HTTP: on when an endpoint is set and the extra is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from noetl.config import TracingSettings
    from noetl.observability.spans import Tracer

log = logging.getLogger("noetl.observability")

DEFAULT_SERVICE_NAME: Final = "noetl-server"


class Tracing:
    """The running export: spans wait in a bounded queue and are sent by a thread of its own; what is too much is lost.

    Args:
        tracer: makes the spans.
        processor: queue and thread.
    """

    def __init__(self, tracer: Tracer, processor: BatchSpanProcessor) -> None:
        self.tracer = tracer
        self._processor = processor

    async def close(self, within_seconds: float) -> None:
        """Send what waits, for at most so long."""
        sent = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            self._processor.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        # Not in the loop's pool, which the end of the process would wait for.
        threading.Thread(target=shut_down, name="traces-shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(within_seconds):
                await sent.wait()
        except TimeoutError:
            log.warning("Traces left unsent")


def start_tracing(settings: TracingSettings, *, version: str, instance: str) -> Tracing | None:
    """Start the export, or say in the log why it cannot be; None when it is off.

    Args:
        settings: endpoint, headers and name; the other standard variables are read by OpenTelemetry itself.
        version: of the server.
        instance: name of this process, unique in the cluster.
    """
    endpoint = settings.url
    if endpoint is None or settings.disabled:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.util.re import parse_env_headers

        from noetl.observability.spans import Tracer
    except ImportError as error:
        log.warning(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set but traces are not exported: install noetl-server[otel]",
            extra={"error": repr(error)},
        )
        return None
    attributes = {
        "service.name": DEFAULT_SERVICE_NAME,
        "service.version": version,
        "service.instance.id": instance,
        **OTELResourceDetector().detect().attributes,
        **({} if settings.service_name is None else {"service.name": settings.service_name}),
    }
    headers = None if settings.headers is None else parse_env_headers(settings.headers.reveal(), liberal=True)
    try:
        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint, headers=headers))
        provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    except ValueError as error:  # an OTEL_* variable that OpenTelemetry cannot use
        log.warning("Traces are not exported: an OTEL_* variable cannot be used", extra={"error": str(error)})
        return None
    provider.add_span_processor(processor)
    log.info("Traces are exported", extra={"endpoint": endpoint})
    return Tracing(Tracer(provider.get_tracer("noetl", version)), processor)
