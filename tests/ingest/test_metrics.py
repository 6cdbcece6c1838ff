"""Names, labels and buckets of the metrics, against the list that alerts are written from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from compute.market.instrument import Instrument
from ingest.metrics import (
    FeedMetrics,
    FillMetrics,
    InsertMetrics,
    Latencies,
    RestMetrics,
    SchedulerMetrics,
    SocketMetrics,
)

CONTRACT = {
    "ws_connected": "gauge",
    "ws_reconnects_total": "counter",
    "ws_messages_total": "counter",
    "ws_errors_total": "counter",
    "ignored_non_closed_total": "counter",
    "insert_rows_total": "counter",
    "insert_batches_total": "counter",
    "insert_errors_total": "counter",
    "insert_duration_seconds": "histogram .01 .05 .1 .25 .5 1 2 5",
    "ws_closed_to_insert_start_seconds": "histogram .01 .05 .1 .2 .35 .5 .75 1 2",
    "ws_closed_to_insert_done_seconds": "histogram .05 .1 .2 .35 .5 .75 1 2 5",
    "ws_out_of_order_total": "counter",
    "ws_duplicates_total": "counter",
    "redis_publish_total": "counter",
    "redis_publish_errors_total": "counter",
    "redis_publish_duplicates_total": "counter",
    "redis_publish_duration_seconds": "histogram .001 .005 .01 .025 .05 .1 .25 .5 1 2",
    "rest_fill_tasks_total": "counter",
    "rest_fill_errors_total": "counter",
    "rest_fill_active": "gauge",
    "rest_fill_duration_seconds": "histogram .1 .25 .5 1 2 5 10 30 60",
    "scheduler_job_runs_total": "counter job",
    "scheduler_job_errors_total": "counter job",
    "scheduler_job_duration_seconds": "histogram .01 .05 .1 .25 .5 1 2 5 15 60 180",
    "scheduler_tasks_planned_total": "counter",
    "scheduler_tasks_enqueued_total": "counter",
    "scheduler_startup_scan_instruments_total": "counter",
    "scheduler_rest_catchup_instruments_total": "counter",
    "scheduler_rest_catchup_tail_minutes_total": "counter",
    "scheduler_rest_catchup_tail_rows_written_total": "counter",
    "scheduler_rest_catchup_gap_days_scanned_total": "counter",
    "scheduler_rest_catchup_gap_days_with_gaps_total": "counter",
    "scheduler_rest_catchup_gap_ranges_filled_total": "counter",
    "scheduler_rest_catchup_gap_rows_written_total": "counter",
    "rest_errors_total": "counter",
    "rest_retries_total": "counter",
    "rest_rate_limit_sleeps_total": "counter",
    "slices_total": "counter",
    "rows_per_s": "gauge",
    "lag_to_now_s": "gauge",
    "gap_rows_skipped_existing_total": "counter",
}


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with every metric there is: they fit in one process."""
    made = CollectorRegistry()
    for kind in (
        SocketMetrics,
        InsertMetrics,
        FeedMetrics,
        FillMetrics,
        RestMetrics,
        SchedulerMetrics,
    ):
        kind(made)
    return made


def test_every_name_of_the_contract_is_there(registry: CollectorRegistry) -> None:
    lines = generate_latest(registry).decode().splitlines()
    kinds = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE"))
    for name, expected in CONTRACT.items():
        kind, *buckets = expected.split()
        assert kinds.get(name) == kind, name
        if kind == "histogram":
            begin = f"{name}_bucket{{"
            found = {
                float(line.split('le="')[1].split('"')[0])
                for line in lines
                if line.startswith(begin)
            }
            assert found == {*map(float, buckets), float("inf")}, name


def test_series_of_the_four_markets_exist_before_anything_happens(
    registry: CollectorRegistry,
) -> None:
    for name in CONTRACT:
        if name.startswith(("scheduler_job", "rest_errors")):
            continue
        kind = CONTRACT[name].split()[0]
        sample = f"{name}_count" if kind == "histogram" else name
        labels: dict[str, str] = {"market_id": "4"}
        if name.startswith("scheduler_tasks"):
            labels["reason"] = "scheduler_tail"
        if name == "scheduler_rest_catchup_instruments_total":
            labels["status"] = "failed"
        assert registry.get_sample_value(sample, labels) == 0, name
    value = registry.get_sample_value("scheduler_job_errors_total", {"job": "startup_scan"})
    assert value == 0


def test_lag_is_the_worst_of_a_market_and_old_instruments_go() -> None:
    registry = CollectorRegistry()
    metrics = SocketMetrics(registry)
    one, two = Instrument(1, "A"), Instrument(1, "B")
    metrics.stale([(one, 10.0), (two, 70.0)])
    assert registry.get_sample_value("lag_to_now_s", {"market_id": "1"}) == 70
    metrics.stale([(one, 12.0)])
    assert registry.get_sample_value("lag_to_now_s", {"market_id": "1"}) == 12
    labels = {"market_id": "1", "symbol": "B"}
    assert registry.get_sample_value("instrument_staleness_s", labels) is None
    metrics.stale([])  # a market that is not followed any more does not lag
    assert registry.get_sample_value("lag_to_now_s", {"market_id": "1"}) == 0


BUCKETS = (0.05, 0.1, 1.0, 2.0)


@given(
    st.lists(
        st.lists(st.one_of(st.sampled_from((0.0, *BUCKETS)), st.floats(-5.0, 50.0)), max_size=12),
        max_size=4,
    )
)
def test_values_taken_at_once_are_counted_like_one_by_one(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    latencies = Latencies("took_seconds", "How long", BUCKETS, (1, 2))
    ours.register(latencies)
    oracle = Histogram("took_seconds", "How long", ["market_id"], registry=theirs, buckets=BUCKETS)
    for market_id in (1, 2):
        oracle.labels(market_id)
    for number, values in enumerate(batches):
        market_id = 1 + number % 2
        latencies.observe(market_id, np.array(values))
        for value in values:
            oracle.labels(market_id).observe(value)
    samples = {
        (one.name, *sorted(one.labels.items())): one.value
        for metric in theirs.collect()
        for one in metric.samples
        if not one.name.endswith("_created")
    }
    found = {
        (one.name, *sorted(one.labels.items())): one.value
        for metric in ours.collect()
        for one in metric.samples
    }
    assert found == pytest.approx(samples)
    assert set(found) == set(samples)


def test_a_name_is_taken_once() -> None:
    registry = CollectorRegistry()
    InsertMetrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(Latencies("ws_closed_to_insert_done_seconds", "again", BUCKETS, (1,)))
