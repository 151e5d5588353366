"""Records what a reference server makes of the templates under ``tests/golden/template``.

    python tests/golden/record_templates.py http://127.0.0.1:8082

Every file there holds a ``context`` and ``cases``; each case has a ``template`` and the recorded ``result`` (the value
that reached the command) or ``error`` (the message of the refused execution). A case with ``deviation`` is one where
this server gives another answer on purpose: ``deviation`` is that answer. The templates run as the arguments of the
start step of playbooks that the script registers; ``pipeline`` in a file's name makes the step a pipeline.
"""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "template"
PATH = "golden/templates"


class Reference:
    """The few calls of the server that recording needs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        """POST ``body``, or GET without one; the status and the decoded answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def render(self, arguments: dict[str, str], context: dict[str, Any], pipeline: bool) -> tuple[Any, str | None]:
        """The arguments as the command has them, or the error of the execution."""
        tool = {"kind": "noop", "args": arguments}
        playbook = {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": "templates", "path": PATH},
            "workflow": [{"step": "start", "tool": [{"one": tool}] if pipeline else tool}],
        }
        # JSON is YAML; the reference reads it with its YAML reader.
        status, answer = self.call("/api/catalog/register", {"content": json.dumps(playbook), "path": PATH})
        if status >= 300:
            raise SystemExit(f"registration failed: {answer}")
        status, answer = self.call("/api/execute", {"path": PATH, "payload": context})
        if status >= 300:
            return None, answer["error"]
        config = self._tool_config(answer["execution_id"])
        return (config[0]["one"] if pipeline else config)["args"], None

    def _tool_config(self, execution_id: str) -> Any:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            _, execution = self.call(f"/api/executions/{execution_id}")
            for event in execution["events"]:
                if event["event_type"] == "command.issued":
                    _, command = self.call(f"/api/commands/{event['event_id']}")
                    return command["tool_config"] if "tool_config" in command else command["context"]["tool_config"]
            time.sleep(0.05)
        raise SystemExit(f"execution {execution_id} has no command")


def record(reference: Reference, path: Path) -> None:
    """Refresh the recorded answers of one file."""
    document = json.loads(path.read_text())
    cases, context = document["cases"], document["context"]
    pipeline = "pipeline" in path.stem
    values, error = reference.render({f"k{i}": case["template"] for i, case in enumerate(cases)}, context, pipeline)
    for index, case in enumerate(cases):
        if error is not None:
            values, case_error = reference.render({f"k{index}": case["template"]}, context, pipeline)
        else:
            case_error = None
        case.pop("result", None)
        case.pop("error", None)
        if case_error is None:
            case["result"] = values[f"k{index}"]
        else:
            case["error"] = case_error
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False, sort_keys=True) for case in cases)
    path.write_text(
        f'{{"context": {json.dumps(context, ensure_ascii=False)},\n "cases": [\n{lines}\n]}}\n', encoding="utf-8"
    )
    print(f"{path.name}: {len(cases)} cases")


def main() -> None:
    """Record all files, or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", help="base URL of the reference server")
    parser.add_argument("names", nargs="*", help="files to record (default: all)")
    options = parser.parse_args()
    for path in sorted(GOLDEN.glob("*.json")):
        if not options.names or path.name in options.names:
            record(Reference(options.reference.rstrip("/")), path)


if __name__ == "__main__":
    main()
