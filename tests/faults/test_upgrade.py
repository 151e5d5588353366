"""A rolling upgrade and its way back, with the part of an older version that talks to the database."""

from __future__ import annotations

import pytest

from noetl.dev.server_process import ServerProcess
from tests.faults.former_server import FormerServerProcess
from tests.faults.upgrade import roll

pytestmark = pytest.mark.faults


async def test_old_and_new_version_work_on_one_database() -> None:
    done = await roll(FormerServerProcess, ServerProcess, executions=6)
    assert "migrations [21] added" in done
