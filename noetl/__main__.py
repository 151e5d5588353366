"""``python -m noetl``: the command line of the server."""

from __future__ import annotations

from noetl.cli import main

if __name__ == "__main__":
    main()
