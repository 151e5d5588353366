"""The Grafana dashboard as data: ``python deploy/grafana/dashboard.py > deploy/grafana/noetl-server.json``."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

SELECTOR = '{job=~"$job",instance=~"$instance"}'
WIDTH = 24


class Panel(NamedTuple):
    """One panel: ``queries`` are pairs of PromQL and legend; ``*`` in PromQL stands for the labels chosen above."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8


def rate(metric: str, by: str = "", where: str = "", legend: str = "") -> tuple[str, str]:
    """Events per second, summed over replicas, by a label."""
    return _sum(f"rate({metric}{_labels(where)}[$__rate_interval])", by), legend or _legend(by)


def quantiles(metric: str, *, by: str = "", of: tuple[float, ...] = (0.5, 0.95, 0.99)) -> tuple[tuple[str, str], ...]:
    """Percentiles of a histogram over all replicas, by a label."""
    groups = f"le, {by}" if by else "le"
    return tuple(
        (
            f"histogram_quantile({q}, sum by ({groups}) (rate({metric}_bucket*[$__rate_interval])))",
            " ".join(filter(None, (f"p{q * 100:g}", _legend(by)))),
        )
        for q in of
    )


def value(metric: str, by: str = "", legend: str = "") -> tuple[str, str]:
    """A gauge, summed over replicas, by a label."""
    return _sum(f"{metric}*", by), legend or _legend(by)


def _sum(expression: str, by: str) -> str:
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def _legend(by: str) -> str:
    return " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if by)


def _labels(where: str) -> str:
    return f'{{job=~"$job",instance=~"$instance",{where}}}' if where else "*"


P95 = (0.95,)
FAILED = rate("noetl_http_requests_total", where='status=~"5.."')[0]
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Overview",
        (
            Panel("Replicas", (("count by (version) (noetl_build_info*)", "{{version}}"),), kind="stat", width=4),
            Panel("Events", (rate("noetl_events_ingested_total"),), "ops", "stat", 4),
            Panel("Commands", (rate("noetl_commands_issued_total"),), "ops", "stat", 4),
            Panel(
                "Answers that failed",
                ((FAILED + " or vector(0)", ""),),
                "reqps",
                "stat",
                4,
            ),
            Panel(
                "Time to take an event in, p95",
                quantiles("noetl_event_ingest_duration_seconds", of=P95),
                "s",
                "stat",
                4,
            ),
            Panel("NATS connected (of all replicas)", (("min(noetl_nats_connected*)", ""),), kind="stat", width=4),
        ),
    ),
    (
        "HTTP",
        (
            Panel("Requests by route", (rate("noetl_http_requests_total", "method, route"),), "reqps", width=12),
            Panel("Requests by status", (rate("noetl_http_requests_total", "status"),), "reqps", width=12),
            Panel("Time to answer", quantiles("noetl_http_request_duration_seconds"), "s"),
            Panel(
                "Time to answer by route, p95",
                quantiles("noetl_http_request_duration_seconds", by="route", of=P95),
                "s",
            ),
            Panel("Requests in flight", (value("noetl_http_requests_in_flight", "instance"),)),
            Panel("Writes", (rate("noetl_write_requests_total", "endpoint, status"),), "ops", width=12),
            Panel(
                "Time of writes, p95",
                quantiles("noetl_write_request_duration_seconds", by="endpoint", of=P95),
                "s",
                width=12,
            ),
        ),
    ),
    (
        "Events and executions",
        (
            Panel("Events by type", (rate("noetl_events_ingested_total", "event_type"),), "ops"),
            Panel("Events that failed", (rate("noetl_events_ingested_total", "event_type", 'status="error"'),), "ops"),
            Panel("Time to take an event in", quantiles("noetl_event_ingest_duration_seconds"), "s"),
            Panel(
                "Executions",
                (
                    rate("noetl_executions_started_total", legend="started"),
                    rate("noetl_executions_ended_total", "status"),
                ),
                "ops",
            ),
            Panel("Claims", (rate("noetl_command_claim_total", "outcome"),), "ops"),
            Panel(
                "Commands",
                (
                    rate("noetl_commands_issued_total", "pool_segment"),
                    rate("noetl_commands_requeued_total", legend="taken back from silent workers"),
                ),
                "ops",
            ),
            Panel(
                "Callbacks of container jobs",
                (
                    rate("noetl_container_callback_total", "state"),
                    rate("noetl_container_callback_stale_total", "state", legend="stale {{state}}"),
                ),
                "ops",
                width=12,
            ),
            Panel(
                "Workers marked offline (1 h)",
                (("sum(increase(noetl_runtime_offline_total*[1h]))", "workers"),),
                width=12,
            ),
        ),
    ),
    (
        "Ledger",
        (
            Panel("Work waiting for the lanes", (value("noetl_lane_queue_depth", "instance"),)),
            Panel("Work per transaction", quantiles("noetl_lane_batch_size", of=(0.5, 0.95))),
            Panel("Time of a batch by phase, p95", quantiles("noetl_lane_phase_seconds", by="phase", of=P95), "s"),
            Panel("Time to decide one event", quantiles("noetl_orchestrator_pass_duration_seconds"), "s"),
            Panel("States in memory", (value("noetl_state_cache_entries", "instance"),)),
            Panel("Size of states in memory", (value("noetl_state_cache_bytes", "instance"),), "bytes"),
            Panel(
                "States found in memory",
                (
                    (
                        f"{rate('noetl_state_cache_hits_total')[0]} / ({rate('noetl_state_cache_hits_total')[0]}"
                        f" + {rate('noetl_state_cache_misses_total')[0]})",
                        "hits",
                    ),
                ),
                "percentunit",
                width=12,
            ),
            Panel("States dropped for room", (rate("noetl_state_cache_evictions_total", "instance"),), "ops", width=12),
        ),
    ),
    (
        "NATS",
        (
            Panel("Publishes", (rate("noetl_nats_publish_total", "outcome"),), "ops"),
            Panel("Time until acknowledged", quantiles("noetl_nats_publish_duration_seconds"), "s"),
            Panel("Notifications that NATS does not have", (value("noetl_nats_notifications_waiting", "instance"),)),
            Panel("Connected", (("noetl_nats_connected*", "{{instance}}"),)),
            Panel("Notifications repeated", (rate("noetl_nats_reannounced_total"),), "ops"),
            Panel("Pool segments that no worker hears", (value("noetl_nats_segment_unheard", "pool_segment"),)),
            Panel(
                "Reconnects (1 h)",
                (("sum by (instance) (increase(noetl_nats_reconnects_total*[1h]))", "{{instance}}"),),
            ),
        ),
    ),
    (
        "Database and periodic work",
        (
            Panel("Connections", (value("noetl_db_pool_connections", "pool, state"),), width=12),
            Panel("Wait for a connection", quantiles("noetl_db_acquire_duration_seconds"), "s", width=12),
            Panel("Periodic work", (rate("noetl_sweeps_total", "sweep, status"),), "ops", width=12),
            Panel(
                "Time of periodic work, p95",
                quantiles("noetl_sweep_duration_seconds", by="sweep", of=P95),
                "s",
                width=12,
            ),
        ),
    ),
    (
        "Secrets",
        (
            Panel("Sealed credentials", (rate("noetl_credentials_sealed_total", "status"),), "ops"),
            Panel("Secrets resolved", (rate("noetl_secret_resolve_total", "provider, region, status"),), "ops"),
            Panel(
                "Time to resolve, p95",
                quantiles("noetl_secret_resolve_duration_seconds", by="provider, region", of=P95),
                "s",
            ),
            Panel(
                "Providers built or reused",
                (rate("noetl_secret_provider_build_total", "provider, region, status"),),
                "ops",
            ),
            Panel("Residency decisions", (rate("noetl_secret_residency_check_total", "policy, decision"),), "ops"),
            Panel(
                "Remaining life of resolved secrets", quantiles("noetl_secret_dynamic_ttl_seconds", of=(0.05, 0.5)), "s"
            ),
            Panel("Renewals", (rate("noetl_secret_refresh_total", "outcome"),), "ops"),
            Panel("Time of renewals, p95", quantiles("noetl_secret_refresh_duration_seconds", of=P95), "s"),
            Panel("Secrets not cached", (rate("noetl_secret_cache_skip_total", "reason"),), "ops"),
            Panel("Calls between regions", (rate("noetl_secret_broker_call_total", "broker_region, outcome"),), "ops"),
            Panel(
                "Time of those, p95",
                quantiles("noetl_secret_broker_call_duration_seconds", by="broker_region", of=P95),
                "s",
            ),
            Panel(
                "Audit records",
                (
                    rate("noetl_secret_audit_writes_total", "operation, outcome, status"),
                    ("sum(rate(noetl_secret_audit_lost_total*[$__rate_interval]))", "lost"),
                ),
                "ops",
            ),
            Panel(
                "Rows seen by key rotation (1 h)",
                (("sum by (table, status) (increase(noetl_wallet_rotate_total*[1h]))", "{{table}} {{status}}"),),
                width=24,
            ),
        ),
    ),
    (
        "Results",
        (
            Panel("Results stored", (rate("noetl_result_store_put_total", "status"),), "ops", width=6),
            Panel(
                "Time of that, p95",
                quantiles("noetl_result_store_put_duration_seconds", by="status", of=P95),
                "s",
                width=6,
            ),
            Panel("Results fetched", (rate("noetl_result_store_resolve_total", "status"),), "ops", width=6),
            Panel(
                "Time of that, p95",
                quantiles("noetl_result_store_resolve_duration_seconds", by="status", of=P95),
                "s",
                width=6,
            ),
        ),
    ),
    (
        "Process",
        (
            Panel("CPU", (rate("process_cpu_seconds_total", "instance"),), "percentunit"),
            Panel(
                "Memory",
                (
                    ("process_resident_memory_bytes*", "resident {{instance}}"),
                    ("process_virtual_memory_bytes*", "virtual {{instance}}"),
                ),
                "bytes",
            ),
            Panel("Delay of the event loop", (("noetl_event_loop_lag_seconds*", "{{instance}}"),), "s"),
            Panel(
                "Open files, part of the limit",
                (("process_open_fds* / process_max_fds*", "{{instance}}"),),
                "percentunit",
            ),
            Panel("Uptime", (("time() - process_start_time_seconds*", "{{instance}}"),), "s"),
            Panel(
                "Clock found behind, log lines lost (1 h)",
                (
                    ("sum by (instance) (increase(noetl_snowflake_clock_backwards_total*[1h]))", "clock {{instance}}"),
                    ("sum by (instance) (increase(noetl_log_lines_dropped_total*[1h]))", "lines {{instance}}"),
                ),
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append(_place({"type": "row", "title": title, "collapsed": False, "panels": []}, 0, y, WIDTH, 1))
        x, y = 0, y + 1
        height = 4 if row[0].kind == "stat" else 8
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            panels.append(_place(_panel(panel), x, y, panel.width, height))
            x += panel.width
        y += height
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    return {
        "uid": "noetl-server",
        "title": "NoETL server",
        "tags": ["noetl"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                _choice("job", "label_values(noetl_build_info, job)"),
                _choice("instance", 'label_values(noetl_build_info{job=~"$job"}, instance)'),
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}}
        if panel.kind == "stat"
        else {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": expression.replace("*", SELECTOR),
                "legendFormat": legend or "__auto",
            }
            for index, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _place(panel: dict[str, Any], x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {**panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _choice(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=1))
