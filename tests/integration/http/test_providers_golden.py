"""Our answers for keychain entries, and our requests to providers, beside those recorded from the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.golden.provider_cases import ENTRIES, NO_REQUEST, PLAYBOOK, ScriptedCloud, environment
from tests.integration.http.inprocess import InProcessClient
from tests.integration.http.secret_application import local_wallet, secret_application
from tests.unit.secrets.cloud import running_cloud

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RECORDED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "secrets" / "providers.json").read_text())
EXECUTION_ID = 77


@pytest.fixture(scope="module")
async def site(
    migrated_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[InProcessClient, ScriptedCloud]]:
    folder = tmp_path_factory.mktemp("cloud")
    (folder / "identity").write_text("web.identity\n")
    cloud = ScriptedCloud()
    async with running_cloud(folder, cloud):
        settings = environment(cloud.proxy_url, str(folder / "identity"))
        async with secret_application(migrated_database_url, local_wallet(), environment=settings) as secrets:
            await secrets.database.execute(
                "WITH entry AS (INSERT INTO noetl.catalog (path, version, kind, content)"
                " VALUES ('p', 1, 'playbook', $1) RETURNING catalog_id)"
                " INSERT INTO noetl.event (execution_id, event_id, catalog_id, event_type, context)"
                " SELECT $2, 78, catalog_id, 'playbook_started', $3::text::jsonb FROM entry",
                yaml.safe_dump(PLAYBOOK), EXECUTION_ID, json.dumps({"workload": PLAYBOOK["workload"]}),
            )  # fmt: skip
            yield InProcessClient(secrets.application), cloud


@pytest.mark.parametrize(("entry", "deviation"), ENTRIES, ids=[entry["name"] for entry, _ in ENTRIES])
async def test_answer_and_requests_are_the_recorded_ones(
    site: tuple[InProcessClient, ScriptedCloud], entry: dict[str, Any], deviation: str | None
) -> None:
    client, cloud = site
    recorded = RECORDED[entry["name"]]
    query = f"include_data=true&execution_id={EXECUTION_ID}"
    reply = await client.get(f"/api/credentials/{entry['name']}?{query}")
    asked = cloud.shown()
    if deviation == NO_REQUEST:
        assert (reply.status, asked) == (500, [])
        return
    assert asked == recorded["asked"]
    assert reply.status == recorded["status"], reply.text
    if reply.status == 200:
        assert reply.json["data"] == recorded["data"]
        return
    error = reply.json["error"]
    ours, added = error.partition(" (keychain entry ")[::2]
    if deviation is not None:
        # What is wrong and where is the same; how a parser says it is not.
        length = len(recorded["error"].rpartition(": ")[0])
        assert ours.startswith(recorded["error"][: min(length, ours.rfind(": "))])
    else:
        assert ours == recorded["error"]
    if entry.get("residency") != "strict" and "provider" in entry and entry["provider"] != "bogus":
        assert added.startswith(f"'{entry['name']}'")
