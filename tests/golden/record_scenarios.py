"""Records how a reference server answers about the catalog, executions, commands and workers, in good and bad cases.

Usage: ``python -m tests.golden.record_scenarios http://host:port --token TOKEN --database DSN`` writes
``tests/golden/scenarios/<scenario>.json`` (`tests.golden.scenario`). The server must have no NATS, or one with a
stream for its commands and no worker. What the scenarios leave behind is under paths and
names that begin with ``golden``.
"""

from __future__ import annotations

from pathlib import Path

from tests.golden.scenario import main
from tests.golden.scenarios_catalog import catalog
from tests.golden.scenarios_execution import cancelling, reading
from tests.golden.scenarios_worker import pools, probes, worker

FOLDER = Path(__file__).parent / "scenarios"
SCENARIOS = {
    "catalog": catalog,
    "reading": reading,
    "cancelling": cancelling,
    "worker": worker,
    "pools": pools,
    "probes": probes,
}

if __name__ == "__main__":
    main(FOLDER, SCENARIOS)
