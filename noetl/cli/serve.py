"""`serve`: the server. It imports nothing of the other commands, whose libraries take a tenth of its start."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from noetl.config import ConfigurationError, load_settings

if TYPE_CHECKING:
    from noetl.config import Settings

EXIT_CONFIGURATION = 2


def read_settings() -> Settings:
    """The settings of the environment; prints all problems and exits with 2 if there are any."""
    try:
        return load_settings(os.environ, Path.cwd())
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_CONFIGURATION) from None


def serve() -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    gc.disable()  # what is imported stays: looking through it again and again is a tenth of the start
    import uvloop

    from noetl.app import StartError
    from noetl.app import serve as run_server
    from noetl.observability.logging import configure_logging

    gc.enable()
    settings = read_settings()
    handle = configure_logging(settings)
    try:
        uvloop.run(run_server(settings))
    except StartError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        handle.close()
