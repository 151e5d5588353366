"""Asks a Prometheus every query of the dashboard and of the alerts: which are refused, find nothing, or would alert.

    python deploy/grafana/check.py http://localhost:9090

Exits with 1 when a query is refused.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[1]
RANGE = "1m"


def panel_queries() -> list[tuple[str, str]]:
    """Title and PromQL of all panels, with the dashboard's choices set to all."""
    dashboard = json.loads((DEPLOY / "grafana/noetl-server.json").read_text())
    return [
        (
            panel["title"],
            target["expr"].replace("$__rate_interval", RANGE).replace("$job", ".*").replace("$instance", ".*"),
        )
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


def alert_queries() -> list[tuple[str, str]]:
    """Name and PromQL of all alerts."""
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())
    return [(rule["alert"], rule["expr"].strip()) for group in alerts["groups"] for rule in group["rules"]]


def ask(prometheus: str, query: str) -> int:
    """Number of series that the query finds now.

    Raises:
        urllib.error.HTTPError: Prometheus refuses the query.
    """
    form = urllib.parse.urlencode({"query": query}).encode()
    with urllib.request.urlopen(f"{prometheus}/api/v1/query", form, timeout=10) as answer:
        return len(json.load(answer)["data"]["result"])


def main(prometheus: str) -> int:
    """Print one line per remarkable query, and the totals; 1 when a query is refused."""
    panels, alerts = panel_queries(), alert_queries()
    refused = empty = firing = 0
    for title, query in panels + alerts:
        try:
            found = ask(prometheus, query)
        except urllib.error.HTTPError as error:
            refused += 1
            print(f"refused  {title}: {json.load(error).get('error')}")
            continue
        if (title, query) in alerts:
            if found:
                firing += 1
                print(f"alert    {title}")
        elif not found:
            empty += 1
            print(f"nothing  {title}: {query}")
    print(f"{len(panels)} panel queries, {empty} without data; {len(alerts)} alerts, {firing} would fire")
    print(f"{refused} refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/")))
