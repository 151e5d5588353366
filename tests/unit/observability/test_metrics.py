"""Names, labels, buckets and texts of the metrics; their sum over processes; what they cost."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from noetl.observability.exposition import FamilySnapshot, render, snapshot
from noetl.observability.instruments import MAXIMUM_CHILDREN, Counter, Family, Histogram
from noetl.observability.metrics import Metrics

REFERENCE_FAMILIES = {
    "noetl_events_ingested_total": ("counter", {"event_type", "status"}, None),
    "noetl_event_ingest_duration_seconds": ("histogram", {"event_type"}, "A"),
    "noetl_write_requests_total": ("counter", {"endpoint", "status"}, None),
    "noetl_write_request_duration_seconds": ("histogram", {"endpoint"}, "A"),
    "noetl_credentials_sealed_total": ("counter", {"status"}, None),
    "noetl_secret_resolve_total": ("counter", {"provider", "region", "status"}, None),
    "noetl_secret_resolve_duration_seconds": ("histogram", {"provider", "region"}, "B"),
    "noetl_secret_provider_build_total": ("counter", {"provider", "region", "status"}, None),
    "noetl_secret_residency_check_total": ("counter", {"policy", "decision"}, None),
    "noetl_secret_dynamic_ttl_seconds": ("histogram", set(), "TTL"),
    "noetl_secret_cache_skip_total": ("counter", {"reason"}, None),
    "noetl_secret_broker_call_total": ("counter", {"broker_region", "outcome"}, None),
    "noetl_secret_broker_call_duration_seconds": ("histogram", {"broker_region"}, "C"),
    "noetl_wallet_rotate_total": ("counter", {"table", "status"}, None),
    "noetl_secret_audit_writes_total": ("counter", {"operation", "outcome", "status"}, None),
    "noetl_secret_refresh_total": ("counter", {"outcome"}, None),
    "noetl_secret_refresh_duration_seconds": ("histogram", set(), "C"),
    "noetl_result_store_put_total": ("counter", {"status"}, None),
    "noetl_result_store_put_duration_seconds": ("histogram", {"status"}, "A"),
    "noetl_result_store_resolve_total": ("counter", {"status"}, None),
    "noetl_result_store_resolve_duration_seconds": ("histogram", {"status"}, "A"),
    "noetl_container_callback_total": ("counter", {"state"}, None),
    "noetl_container_callback_stale_total": ("counter", {"state"}, None),
}
ADDITIONAL_FAMILIES = {
    "noetl_http_requests_total": ("method", "route", "status"),
    "noetl_http_request_duration_seconds": ("route",),
    "noetl_nats_publish_total": ("outcome",),
    "noetl_nats_publish_duration_seconds": (),
    "noetl_nats_connected": (),
    "noetl_db_pool_connections": ("pool", "state"),
    "noetl_db_acquire_duration_seconds": ("pool",),
    "noetl_command_claim_total": ("outcome",),
    "noetl_commands_issued_total": ("pool_segment",),
    "noetl_orchestrator_pass_duration_seconds": (),
    "noetl_runtime_offline_total": (),
    "noetl_build_info": ("version",),
    "noetl_event_loop_lag_seconds": (),
    "noetl_snowflake_clock_backwards_total": (),
    "noetl_lane_queue_depth": (),
    "noetl_lane_batch_size": (),
    "noetl_lane_phase_seconds": ("phase",),
    "noetl_nats_notifications_waiting": (),
    "noetl_nats_reannounced_total": (),
    "noetl_state_cache_bytes": (),
    "noetl_state_cache_hits_total": (),
    "noetl_state_cache_misses_total": (),
}
"""Beside those of the reference: spec 60, section 10, and lanes, NATS and the state cache."""
BUCKETS = {
    "A": "0.001 0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10 +Inf",
    "B": "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2 5 +Inf",
    "C": "0.05 0.1 0.25 0.5 1 2 5 +Inf",
    "TTL": "60 300 900 3600 14400 43200 +Inf",
}


def full_metrics() -> Metrics:
    """Every family of the reference with at least one series."""
    metrics = Metrics("1.2.3")
    metrics.observe_event("step.enter", True, 0.002)
    metrics.secret_resolves.labels("gcp", "-", "ok").inc()
    metrics.secret_resolve_seconds.labels("gcp", "-").observe(1)
    metrics.secret_provider_builds.labels("gcp", "-", "ok").inc()
    metrics.secret_residency_checks.labels("none", "allowed_no_policy").inc()
    metrics.secret_broker_calls.labels("eu", "ok").inc()
    metrics.secret_broker_call_seconds.labels("eu").observe(1)
    metrics.secret_audit_writes.labels("read", "ok", "written").inc()
    return metrics


def test_a_lost_audit_record_shows_in_a_series_that_was_there_before() -> None:
    metrics = Metrics("1")
    assert "noetl_secret_audit_lost_total 0" in metrics.render().decode()
    metrics.count_audit("get_credential", "ok", "written")
    assert metrics.secret_audit_lost.current() == 0
    metrics.count_audit("get_credential", "ok", "dropped_async")
    assert metrics.secret_audit_lost.current() == 1


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


@pytest.mark.parametrize("name", REFERENCE_FAMILIES)
def test_families_of_the_reference_keep_name_kind_labels_and_buckets(name: str) -> None:
    kind, labels, buckets = REFERENCE_FAMILIES[name]
    text = lines(full_metrics())
    assert f"# TYPE {name} {kind}" in text
    samples = [line for line in text if re.match(rf"{name}(_bucket|_sum|_count)?[ {{]", line)]
    shown = [re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample) for sample in samples]
    assert samples
    assert {label for sample in shown for label, _ in sample} - {"le"} == labels
    if buckets is not None:
        bounds = [value for sample in shown for label, value in sample if label == "le"]
        assert bounds[: len(BUCKETS[buckets].split())] == BUCKETS[buckets].split()
        assert all(sample[-1][0] == "le" for sample in shown if any(label == "le" for label, _ in sample))


@pytest.mark.parametrize("name", ADDITIONAL_FAMILIES)
def test_families_of_our_own_have_their_names_and_labels(name: str) -> None:
    families = {family.name: family.label_names for family in Metrics("1").families}
    assert families[name] == ADDITIONAL_FAMILIES[name]


def test_no_family_is_labelled_by_execution() -> None:
    labels = {label for family in Metrics("1").families for label in family.label_names}
    assert not {label for label in labels if "execution" in label or label.endswith("_id")}


def test_combinations_of_labels_are_bounded_whoever_chooses_them() -> None:
    metrics = Metrics("1")
    for number in range(MAXIMUM_CHILDREN + 500):
        metrics.secret_broker_calls.labels(f"region-{number}", "wrong_region").inc()
    series = [line for line in lines(metrics) if line.startswith("noetl_secret_broker_call_total{")]
    assert len(series) == MAXIMUM_CHILDREN + 1
    assert 'noetl_secret_broker_call_total{broker_region="other",outcome="other"} 500' in series


def test_text_is_readable_by_prometheus_sorted_and_without_created_series() -> None:
    text = full_metrics().render().decode()
    families = list(text_string_to_metric_families(text))
    types = re.findall(r"# TYPE (\S+)", text)
    assert types == sorted(types)
    assert len(families) == len(types) == len(set(types))
    assert "_created" not in text
    assert text.endswith("\n")


def test_whole_numbers_have_no_fraction() -> None:
    text = lines(full_metrics())
    assert 'noetl_events_ingested_total{event_type="step.enter",status="ok"} 1' in text
    assert 'noetl_event_ingest_duration_seconds_bucket{event_type="step.enter",le="0.001"} 0' in text
    assert 'noetl_event_ingest_duration_seconds_bucket{event_type="step.enter",le="0.005"} 1' in text
    assert 'noetl_event_ingest_duration_seconds_sum{event_type="step.enter"} 0.002' in text
    assert 'noetl_build_info{version="1.2.3"} 1' in text


def test_enumerable_series_exist_at_zero() -> None:
    text = lines(Metrics("1"))
    assert 'noetl_write_requests_total{endpoint="keychain_set",status="error"} 0' in text
    assert 'noetl_result_store_resolve_duration_seconds_count{status="not_found"} 0' in text
    assert 'noetl_container_callback_stale_total{state="failed_oom"} 0' in text
    assert 'noetl_lane_phase_seconds_count{phase="load"} 0' in text


def test_event_types_beyond_two_hundred_become_other() -> None:
    metrics = Metrics("1")
    for number in range(250):
        metrics.observe_event(f"type-{number}", number % 2 == 0, 0.1)
    metrics.observe_event("x" * 10_000, True, 0.1)
    metrics.observe_event("type-0", True, 0.1)
    text = "\n".join(lines(metrics))
    shown = set(re.findall(r'noetl_events_ingested_total\{event_type="([^"]+)"', text))
    assert len(shown) == 201
    assert 'noetl_events_ingested_total{event_type="other",status="ok"} 26' in text
    assert 'noetl_events_ingested_total{event_type="other",status="error"} 25' in text
    assert 'noetl_events_ingested_total{event_type="type-0",status="ok"} 2' in text


@given(st.text(max_size=20))
def test_any_label_value_survives_the_text(value: str) -> None:
    metrics = Metrics("1")
    metrics.observe_event(value, True, 0)
    (family,) = (
        each
        for each in text_string_to_metric_families(metrics.render().decode())
        if each.name == "noetl_events_ingested"
    )
    assert {sample.labels["event_type"] for sample in family.samples} == {value}


def test_lone_surrogate_in_a_label_does_not_break_the_page() -> None:
    metrics = Metrics("1")
    metrics.observe_event("a\ud800b", True, 0)
    assert b'event_type="a?b"' in metrics.render()


def test_requests_are_counted_by_template_and_unknown_methods_together() -> None:
    metrics = Metrics("1")
    for method in ("GET", "GET", "BREW", "SPILL"):
        metrics.observe_request(method, "/api/commands/{event_id}", 200, 0.004)
    text = lines(metrics)
    route = 'route="/api/commands/{event_id}"'
    assert f'noetl_http_requests_total{{method="GET",{route},status="200"}} 2' in text
    assert f'noetl_http_requests_total{{method="OTHER",{route},status="200"}} 2' in text
    assert f"noetl_http_request_duration_seconds_count{{{route}}} 4" in text


def test_tracked_values_are_read_at_every_scrape() -> None:
    metrics = Metrics("1")
    pool = SimpleNamespace(size=5, idle=2, waiting=1, maximum=10)
    metrics.track_pool("main", lambda: pool)
    assert 'noetl_db_pool_connections{pool="main",state="used"} 3' in lines(metrics)
    pool.idle = 5
    assert 'noetl_db_pool_connections{pool="main",state="used"} 0' in lines(metrics)


def test_processes_are_added_up_and_gauges_of_state_are_not() -> None:
    first, second = Metrics("1"), Metrics("1")
    first.observe_event("a", True, 0.5)
    second.observe_event("a", True, 0.25)
    second.observe_event("b", True, 1)
    first.nats_connected.set(1)
    first.event_loop_lag.set(0.5)
    sent = msgspec.json.decode(msgspec.json.encode(second.snapshot()), type=list[FamilySnapshot])
    text = first.render_with([sent]).decode().splitlines()
    assert 'noetl_events_ingested_total{event_type="a",status="ok"} 2' in text
    assert 'noetl_events_ingested_total{event_type="b",status="ok"} 1' in text
    assert 'noetl_event_ingest_duration_seconds_bucket{event_type="a",le="0.25"} 1' in text
    assert 'noetl_event_ingest_duration_seconds_sum{event_type="a"} 0.75' in text
    assert "noetl_nats_connected 0" in text
    assert "noetl_event_loop_lag_seconds 0.5" in text
    assert 'noetl_build_info{version="1"} 1' in text


def test_sum_over_processes_leaves_the_own_metrics_alone() -> None:
    metrics = Metrics("1")
    metrics.observe_event("a", True, 1)
    before = [line for line in lines(metrics) if line.startswith("noetl")]
    metrics.render_with([metrics.snapshot(), metrics.snapshot()])
    assert [line for line in lines(metrics) if line.startswith("noetl")] == before


@given(st.lists(st.floats(min_value=0, max_value=20)))
def test_histogram_counts_like_prometheus(values: list[float]) -> None:
    bounds = (0.5, 1, 5, 10)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    assert [sum(histogram.counts[: i + 1]) for i in range(4)] == [
        sum(value <= bound for value in values) for bound in bounds
    ]
    assert sum(histogram.counts) == len(values)


def test_wrong_number_of_labels_is_an_error() -> None:
    family = Family(CollectorRegistry(), "counter", "x_total", "X.", ("a",), Counter)
    with pytest.raises(ValueError, match="x_total"):
        family.labels("1", "2")


def test_special_numbers() -> None:
    registry = CollectorRegistry()
    family = Family(registry, "counter", "x_total", 'say "a\\b"\n', ("v",), Counter)
    for value in (float("inf"), float("nan"), 2.0**60, 0.1):
        family.labels(str(value)).inc(value)
    text = render(snapshot(registry.collect())).decode()
    assert '# HELP x_total say "a\\\\b"\\n' in text
    assert 'x_total{v="inf"} +Inf' in text
    assert 'x_total{v="nan"} NaN' in text
    assert 'x_total{v="0.1"} 0.1' in text
    assert "1.152921504606847e+18" in text


async def test_event_loop_lag_is_measured() -> None:
    metrics = Metrics("1")
    metrics.event_loop_lag.set(-1)
    lag = metrics.event_loop_lag
    async with asyncio.timeout(5):
        task = asyncio.create_task(metrics.watch_event_loop(0.001))
        while lag.value < 0:  # noqa: ASYNC110 (the gauge has no event; the time limit above holds)
            await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lag.value >= 0
