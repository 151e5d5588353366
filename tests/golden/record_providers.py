"""Records how a reference server resolves keychain entries: its answers, and what it asks of the providers.

Usage: ``python -m tests.golden.record_providers --environment`` prints the settings for the reference; start it with
them (and a stream for its notifications); then ``python -m tests.golden.record_providers http://host:port`` writes
``tests/golden/secrets/providers.json``: by the name of an entry ``{"status", "error" or "data", "asked"}``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml

from noetl.client import ApiError, NoetlClient
from tests.golden.provider_cases import ENTRIES, PLAYBOOK, ScriptedCloud, environment
from tests.unit.secrets.cloud import running_cloud

OUTPUT = Path(__file__).parent / "secrets" / "providers.json"
PORT = 18401
IDENTITY = Path(tempfile.gettempdir()) / "golden-web-identity"


async def record(server: str) -> None:
    client = NoetlClient(server)
    answers: dict[str, Any] = {}
    cloud = ScriptedCloud(port=PORT)
    with tempfile.TemporaryDirectory() as folder:
        async with running_cloud(Path(folder), cloud):
            await client.call("POST", "/api/catalog/register", {"content": yaml.safe_dump(PLAYBOOK)})
            started = await client.call("POST", "/api/execute", {"path": "golden/providers", "payload": {}})
            query = f"include_data=true&execution_id={started['execution_id']}"
            for entry, _ in ENTRIES:
                try:
                    document = await client.call("GET", f"/api/credentials/{entry['name']}?{query}")
                    answer: dict[str, Any] = {"status": 200, "data": document["data"]}
                except ApiError as error:
                    answer = {"status": error.status, "error": error.message}
                answers[entry["name"]] = {**answer, "asked": cloud.shown()}
    OUTPUT.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("server", nargs="?")
    parser.add_argument("--environment", action="store_true")
    given = parser.parse_args()
    IDENTITY.write_text("web.identity\n")
    if given.environment:
        for name, value in environment(f"http://127.0.0.1:{PORT}", str(IDENTITY)).items():
            print(f"export {name}={value}")
    if given.server:
        asyncio.run(record(given.server))


if __name__ == "__main__":
    main()
