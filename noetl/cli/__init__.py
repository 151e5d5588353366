"""The command line: `noetl-server`. Without a sub-command it is the server, as the container image starts it."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the console scripts and of ``python -m noetl``.

    A server that begins to serve, maybe after a crash, does not load all the other commands first; a shell that asks
    for completions names the program alone.
    """
    is_completion = any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ)
    if sys.argv[1:] in ([], ["serve"]) and not is_completion:
        from noetl.cli.serve import serve

        serve()
        return
    from noetl.cli.application import application

    application()
