"""The documentation of all settings, made from their declarations: ``python -m noetl.config.reference``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from noetl.config.load import GROUPS
from noetl.config.report import shown_value
from noetl.config.variable import Variable, variables_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = """\
# Configuration

Every setting is an environment variable. A file `.env` in the working directory, or in the nearest parent that has
one, stands in for variables that are not set; the environment wins.

- Blanks around a value are dropped; an empty value is an unset one. After `NOETL_` and `POSTGRES_` the case of a name
  does not matter. Variables that are not listed are ignored.
- Booleans are `true`, `false`, `1`, `0`, `yes`, `no`, `on` or `off`. Sizes are bytes, or have a unit: `KiB`, `MiB`,
  `GiB`. Durations are seconds and may have a fraction.
- A value that cannot be used stops the start. The server names every such variable, what is wrong with it and an
  example, and exits with code 2. Secret values are never printed. Only an invalid `RUST_LOG` does not stop it: that is
  reported, and the default filter used.
- `noetl-server config` shows the settings in force, secrets masked.

This page is generated: `python -m noetl.config.reference > docs/configuration.md`.
"""

_TABLE_HEAD: Final = "| Variable | Default | Why | Example |\n|---|---|---|---|"

_READ_BY_OPENTELEMETRY: Final = """\
## Read by OpenTelemetry itself

Where traces are exported, the other standard variables hold as OpenTelemetry's SDK for Python reads them, from the
environment only and not from a file `.env`. The useful ones: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` (all
traces by default; `parentbased_traceidratio` and `0.01` is one in a hundred), `OTEL_RESOURCE_ATTRIBUTES`,
`OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_EXPORTER_OTLP_COMPRESSION`, `OTEL_EXPORTER_OTLP_CERTIFICATE`,
`OTEL_BSP_MAX_QUEUE_SIZE` (2048 spans per process wait; more are lost), `OTEL_BSP_SCHEDULE_DELAY` (5000 ms).
"""

_WITHOUT_EFFECT: Final = """\
## Accepted without effect

`NOETL_ENABLE_GCP_TOKEN_API` (there is no such route), `TOKIO_WORKER_THREADS` and `RUST_BACKTRACE` (the Rust server's
runtime), `NO_COLOR` (logs are JSON; the command line honours it), and the variables of the former Python server.
"""


def configuration_reference() -> str:
    """The page `docs/configuration.md`."""
    return "\n".join((_HEAD, *_sections(), _READ_BY_OPENTELEMETRY, _WITHOUT_EFFECT))


def _sections() -> Iterator[str]:
    for group in GROUPS:
        rows = "\n".join(_row(variable) for _, variable in variables_of(group))
        yield f"## {(group.__doc__ or '').strip()}\n\n{_TABLE_HEAD}\n{rows}\n"


def _row(variable: Variable) -> str:
    name = " or ".join(f"`{name}`" for name in variable.names)
    why = f"{variable.why} Secret." if variable.secret else variable.why
    default = variable.default_text or _code(shown_value(variable.default))
    return f"| {name} | {_cell(default)} | {_cell(why)} | {_cell(_code(variable.example))} |"


def _code(text: str) -> str:
    return text if text in ("-", "...") else f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(configuration_reference())
