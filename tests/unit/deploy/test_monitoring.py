"""Dashboard and alert rules: they ask for metrics that exist, and for all of them."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from noetl.observability.metrics import Metrics

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = DEPLOY / "grafana/noetl-server.json"
METRIC = re.compile(r"\b(?:noetl|process)_[a-z_]+")
PROCESS = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes"),
    *("process_open_fds", "process_max_fds", "process_start_time_seconds"),
}


def metrics_in(query: str) -> set[str]:
    """Names of families in PromQL; the parts of a histogram count as the histogram."""
    return {re.sub("_(bucket|sum|count)$", "", name) for name in METRIC.findall(re.sub(r'"[^"]*"', "", query))}


def known_metrics() -> set[str]:
    return {family.name for family in Metrics("1").families} | PROCESS


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def rule_tests() -> list[dict[str, Any]]:
    return yaml.safe_load((DEPLOY / "prometheus/alerts.test.yaml").read_text())["tests"]


def test_metrics_of_the_process_are_those_that_are_shown() -> None:
    shown = set(re.findall(r"# TYPE (process_\S+)", Metrics("1").render().decode()))
    assert shown == PROCESS


def test_dashboard_is_the_one_that_its_source_describes() -> None:
    source = runpy.run_path(str(DEPLOY / "grafana/dashboard.py"))
    assert json.loads(DASHBOARD.read_text()) == source["dashboard"]()


def test_dashboard_shows_every_metric_and_no_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert set().union(*map(metrics_in, queries)) == known_metrics()
    assert all('{job=~"$job",instance=~"$instance"' in query for query in queries)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_alerts_ask_for_metrics_that_exist_and_say_what_is_wrong() -> None:
    for rule in rules():
        assert metrics_in(rule["expr"]) <= known_metrics(), rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"].endswith(".")


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    fired = {
        alert
        for case in rule_tests()
        for expectation in case.get("promql_expr_test", [])
        for sample in expectation["exp_samples"]
        for alert in re.findall(r'alertname="(\w+)"', sample["labels"])
    } | {
        expectation["alertname"]
        for case in rule_tests()
        for expectation in case.get("alert_rule_test", [])
        if expectation["exp_alerts"]
    }
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    assert fired == set(names)


def test_tests_of_the_alerts_use_metrics_that_exist() -> None:
    for case in rule_tests():
        for series in case["input_series"]:
            assert metrics_in(series["series"]) <= known_metrics(), series


def test_promtool_agrees_where_it_is_installed() -> None:
    """Debian's package `prometheus` has promtool; without it the tests above are what is left."""
    promtool = shutil.which("promtool")
    if promtool is not None:
        for command in ("check rules alerts.yaml", "test rules alerts.test.yaml"):
            subprocess.run([promtool, *command.split()], cwd=DEPLOY / "prometheus", check=True)
        metrics = Metrics("1")
        for family in metrics.families:
            family.labels(*family.label_names)
        subprocess.run([promtool, "check", "metrics"], input=metrics.render(), check=True)
