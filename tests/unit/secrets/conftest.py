"""The scripted clouds, and clients that reach them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.secrets.cloud import running_cloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from noetl.secrets.web import HttpClient
    from tests.unit.secrets.cloud import Cloud


@pytest.fixture
async def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """Clouds whose authority the system trusts."""
    async with running_cloud(tmp_path) as running:
        bundle = tmp_path / "system.pem"
        bundle.write_text(running.authority.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
        yield running


@pytest.fixture
def call(cloud: Cloud) -> HttpClient:
    return cloud.client()
