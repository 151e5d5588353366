"""Record what a reference server answers to the playbooks in ``playbook/*.json``.

Usage: ``python tests/golden/record_playbook_errors.py http://127.0.0.1:8082``. Each case is registered and, if that
succeeds, executed. The answers replace the recorded ones; texts, names and the answers that are ours on purpose stay.

A case has ``name`` and ``text``; recorded are ``route`` (``register`` or ``execute``: which one answered), ``status``,
``error`` (null for 200) and ``payload`` (the stored workload, if registered). ``ours`` holds ``status``, ``error`` and
``why`` where the project answers differently.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


def post(url: str, body: dict[str, Any]) -> tuple[int, Any]:
    """POST ``body`` as JSON; status and decoded answer (its text if it is no JSON)."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        try:
            return error.code, json.loads(text)
        except ValueError:
            return error.code, text


def record(server: str, case: dict[str, Any]) -> dict[str, Any]:
    """``case`` with the answers of ``server``."""
    recorded = {"name": case["name"], "text": case["text"]}
    status, answer = post(f"{server}/api/catalog/register", {"content": case["text"]})
    if status != 200:
        recorded |= {"route": "register", "status": status, "error": answer["error"]}
    else:
        _, entry = post(f"{server}/api/catalog/resource", {"path": answer["path"], "version": str(answer["version"])})
        body = {"catalog_id": int(answer["catalog_id"]), "payload": {}}
        status, answer = post(f"{server}/api/execute", body)
        error = answer["error"] if status != 200 else None
        recorded |= {"route": "execute", "status": status, "error": error, "payload": entry["payload"]}
    return recorded | ({"ours": case["ours"]} if "ours" in case else {})


def main() -> None:
    """Record all files again."""
    server = sys.argv[1].rstrip("/")
    for path in sorted(Path(__file__).with_name("playbook").glob("*.json")):
        cases = [record(server, case) for case in json.loads(path.read_text())]
        path.write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")
        print(f"{path.name}: {len(cases)} cases")


if __name__ == "__main__":
    main()
