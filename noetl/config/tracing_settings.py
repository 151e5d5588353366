"""Variables of OpenTelemetry that the server reads itself; its SDK reads the others."""

from __future__ import annotations

import msgspec

from noetl.config import values
from noetl.config.secret import Secret
from noetl.config.variable import setting


class TracingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Traces"""

    endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT", values.http_url, None, "http://otel-collector:4318",
        "Collector that gets traces, at its path /v1/traces; without it none are made. Needs noetl-server[otel].",
    )  # fmt: skip
    traces_endpoint: str | None = setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", values.http_url, None, "http://otel-collector:4318/v1/traces",
        "The same with its path; wins.",
    )  # fmt: skip
    headers: Secret[str] | None = setting(
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"), values.secret_text, None,
        "authorization=Bearer%20token", "Headers for the collector, key=value, comma separated.", secret=True,
    )  # fmt: skip
    protocol: str = setting(
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"), values.choice("http/protobuf"),
        "http/protobuf", "http/protobuf", "The only one there is; another is reported and not used.", fatal=False,
    )  # fmt: skip
    service_name: str | None = setting(
        "OTEL_SERVICE_NAME", values.text, None, "noetl-eu", "Name of the service in traces.",
        default_text="service.name of OTEL_RESOURCE_ATTRIBUTES, else noetl-server",
    )  # fmt: skip
    disabled: bool = setting("OTEL_SDK_DISABLED", values.boolean, False, "true", "Makes no traces all the same.")

    @property
    def url(self) -> str | None:
        """Where traces go; None for nowhere."""
        if self.traces_endpoint is None and self.endpoint is not None:
            return f"{self.endpoint.rstrip('/')}/v1/traces"
        return self.traces_endpoint
